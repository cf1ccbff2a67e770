"""What one client, or somebody who is none, can take from others at a proxy and a router: nothing. Real processes."""

import asyncio
import contextlib
import time

import pytest_asyncio

from crossbar_cluster.lab.cluster import MASTER_PORT, PROXY_PORT, loopback_cluster

from .conftest import PATCHED, boot_two_realms

NODE_WITHIN_S = 15.0  # of routers and the master
CLIENT_WITHIN_S = 30.0
ROOM_S = 10.0  # on a busy machine


@pytest_asyncio.fixture(scope="module")
async def two(tmp_path_factory):
    """Two routers with a realm each, and a proxy."""
    async with loopback_cluster(tmp_path_factory.mktemp("limits"), patched=PATCHED) as (cluster, network):
        for name in ("router1", "router2", "proxy1"):
            cluster.add_node(name, network.host())
        await boot_two_realms(cluster)
        yield cluster


async def inner_port(cluster) -> int:
    worker = "group_realm1_1"
    transport = await cluster.call(
        f"crossbarfabriccenter.node.router1.worker.{worker}.get_router_transport", f"tnp_{worker}"
    )
    return transport["config"]["endpoint"]["port"]


UPGRADE = (
    b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: wamp.2.json\r\n\r\n"
)


async def ends(address: str, port: int, said: bytes) -> float:
    """:returns: seconds until the other end closes a connection on which only that is said."""
    began = time.monotonic()
    reader, writer = await asyncio.open_connection(address, port)
    try:
        writer.write(said)
        with contextlib.suppress(ConnectionError):
            while await reader.read(65536):
                pass
        return time.monotonic() - began
    finally:
        writer.close()


async def test_whoever_does_not_join_is_closed_at_every_port(two):
    proxy = (two.nodes["proxy1"].host.address, PROXY_PORT)
    router = (two.nodes["router1"].host.address, await inner_port(two))
    master = (two.master.host.address, MASTER_PORT)
    said = {
        "proxy, nothing": (*proxy, b""),
        "proxy, half an HTTP request": (*proxy, UPGRADE[:40]),
        "proxy, no HELLO": (*proxy, UPGRADE),
        "router, nothing": (*router, b""),
        "router, no HELLO": (*router, bytes([0x7F, 0xF1, 0, 0])),
        "master, nothing": (*master, b""),
        "master, no HELLO": (*master, UPGRADE),
    }
    client = await two.client("realm1", two.nodes["proxy1"])
    async with asyncio.timeout(CLIENT_WITHIN_S + ROOM_S):
        took_s = dict(zip(said, await asyncio.gather(*(ends(*each) for each in said.values())), strict=True))
    for who, after_s in took_s.items():
        least_s = CLIENT_WITHIN_S if who.startswith("proxy") else NODE_WITHIN_S
        assert least_s - 1 <= after_s <= least_s + ROOM_S, took_s
    assert await client.call("wamp.session.count") >= 1, "who has joined stays"
    assert not client.gone.done()
    await client.close()
