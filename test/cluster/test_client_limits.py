"""What one client, or somebody who is none, can take from others at a proxy and a router: nothing. Real processes."""

import asyncio
import contextlib
import os
import resource
import signal
import sys
import time
from pathlib import Path

import pytest_asyncio
from autobahn.wamp import message
from autobahn.wamp.types import PublishOptions

from crossbar_cluster.lab.cluster import MASTER_PORT, PROXY_PORT, loopback_cluster
from crossbar_cluster.lab.raw_client import RawClient, anonymous

from .conftest import PATCHED, boot_two_realms, until

NODE_WITHIN_S = 15.0  # of routers and the master
CLIENT_WITHIN_S = 30.0
ROOM_S = 10.0  # on a busy machine
FLOODER = Path(__file__).parent / "clients" / "flooder.py"


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
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: wamp.2.cbor\r\n\r\n"
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
        "router, no HELLO": (*router, bytes([0x7F, 0xF3, 0, 0])),
        "master, nothing": (*master, b""),
        "master, no HELLO": (*master, UPGRADE),
    }
    client = await two.client("realm1", two.nodes["proxy1"])
    async with asyncio.timeout(CLIENT_WITHIN_S + ROOM_S):
        took_s = dict(zip(said, await asyncio.gather(*(ends(*each) for each in said.values())), strict=True))
    for who, after_s in took_s.items():
        within_s = CLIENT_WITHIN_S if who.startswith("proxy") else NODE_WITHIN_S
        least_s = 8 if who.endswith("HELLO") else within_s - 1  # a WebSocket that answers no ping is closed before
        assert least_s <= after_s <= within_s + ROOM_S, took_s
    assert await client.call("wamp.session.count") >= 1, "who has joined stays"
    assert not client.gone.done()
    await client.close()


async def joined(cluster, realm="realm1", websocket=True) -> tuple[RawClient, int]:
    """A client that does only what the test does: it answers no ping and no close frame. And its session."""
    client = await RawClient.connect(cluster.nodes["proxy1"].host.address, PROXY_PORT, websocket=websocket)
    return client, (await client.join(anonymous(realm))).session


async def is_closed(client: RawClient) -> None:
    """Wait until the other end has closed the connection, whatever it sends before."""
    with contextlib.suppress(ConnectionError):
        while await client._reader.read(65536):
            pass


async def test_who_is_told_to_go_and_does_not_answer_is_gone(two):
    """A close frame is followed by a reset. (Who is kicked is told to go, as is who loses its router.)"""
    observer = await two.client("realm1", two.nodes["proxy1"])
    clients = [await joined(two) for _ in range(8)]
    began = time.monotonic()
    for _, session in clients:
        await observer.call("wamp.session.kill", session)
    async with asyncio.timeout(ROOM_S):
        await asyncio.gather(*(is_closed(client) for client, _ in clients))
    print(f"gone after {time.monotonic() - began:.1f} s")
    await observer.close()


async def test_who_takes_leave_and_stays_connected_is_closed(two):
    client, _ = await joined(two)
    client.send(message.Goodbye())
    async with asyncio.timeout(2 * 10 + ROOM_S):  # it has taken our GOODBYE meanwhile, and so gets as much time again
        await is_closed(client)


async def test_a_client_that_answers_no_ping_is_gone_within_30_s_and_one_that_sends_stays(two):
    observer = await two.client("realm1", two.nodes["proxy1"])
    count = await observer.call("wamp.session.count")
    silent, busy = (await joined(two))[0], (await joined(two))[0]
    assert await observer.call("wamp.session.count") == count + 2

    async def keep_sending() -> None:
        for number in range(1, 1000):
            busy.send(message.Publish(number, "test.topic", args=[number]))
            await asyncio.sleep(0.5)

    sending = asyncio.ensure_future(keep_sending())
    async with asyncio.timeout(30):
        await is_closed(silent)
    await asyncio.sleep(5)
    assert await observer.call("wamp.session.count") == count + 1, "who sends anything need not answer pings"
    sending.cancel()
    busy.close()
    await observer.close()


async def test_a_subscriber_that_does_not_read_is_closed_and_the_proxys_memory_stays(two):
    """What waits for it is bounded. Others notice nothing."""
    publisher = await two.client("realm1", two.nodes["proxy1"])
    other = await two.client("realm1", two.nodes["proxy1"])
    received = asyncio.Queue()
    await other.subscribe(received.put_nowait, "test.flood")
    pid = await worker_pid(two, "proxy1")
    before = rss(pid)
    clients = [(await joined(two))[0] for _ in range(3)]
    for client in clients:
        await client.ask(message.Subscribe(1, "test.flood"))
    payload = "x" * 10_000
    for _ in range(60):  # 60 MB for each
        options = PublishOptions(acknowledge=True)
        await asyncio.gather(*(publisher.publish("test.flood", payload, options=options) for _ in range(100)))
    for _ in range(6000):
        async with asyncio.timeout(ROOM_S):
            await received.get()

    async def are_told_off() -> bool:  # who begins to read now may go on
        return (await limits_met(two)).get("unsent_bytes", 0) == 3

    await until(are_told_off, 20)
    async with asyncio.timeout(ROOM_S):
        await asyncio.gather(*(is_closed(client) for client in clients))

    async def is_given_back() -> bool:
        return rss(pid) - before < 40e6

    most = int(Path(f"/proc/{pid}/status").read_text().partition("VmHWM:")[2].split()[0]) * 1024
    print(f"grew from {before / 1e6:.0f} to {most / 1e6:.0f} MB")
    assert most - before < 250e6, "32 MiB, and as much again while it is copied, at most for each of them"
    print(f"given back after {await until(is_given_back, 20):.1f} s")
    assert not other.gone.done() and not publisher.gone.done()
    assert (await limits_met(two))["unsent_bytes"] == 3
    await other.close()
    await publisher.close()


async def limits_met(cluster) -> dict[str, int]:
    """What the proxy worker tells its master of."""
    node = "crossbarfabriccenter.node.proxy1"
    (worker,) = await cluster.call(f"{node}.get_workers", ["proxy"])
    return (await cluster.call(f"{node}.worker.{worker}.get_proxy_snapshot"))["limits_met"]


def rss(pid: int) -> int:
    """Resident memory of a process, bytes."""
    fields = Path(f"/proc/{pid}/statm").read_text().split()
    return int(fields[1]) * resource.getpagesize()


FLOODERS, FLOOD_S = 3, 12


async def test_clients_that_send_without_pause_take_nothing_from_others(two):
    """Idle clients stay, calls are answered, new ones are let in; on the router of the flood and on the other one."""
    proxy = two.nodes["proxy1"]
    idle = [await two.client(f"realm{n % 2 + 1}", proxy) for n in range(20)]
    callers = [await two.client(realm, proxy) for realm in ("realm1", "realm2")]
    floods = [await flood(proxy.host.address) for _ in range(FLOODERS)]
    took_s, came_s = [], []
    until = time.monotonic() + FLOOD_S
    while time.monotonic() < until:
        for realm, caller in zip(("realm1", "realm2"), callers, strict=True):
            began = time.monotonic()
            async with asyncio.timeout(10):
                assert await caller.call("wamp.session.count") >= 10
            took_s.append(time.monotonic() - began)
            began = time.monotonic()
            newcomer = await two.client(realm, proxy, 10.0)
            came_s.append(time.monotonic() - began)
            await newcomer.close()
        await asyncio.sleep(0.2)
    said = [(await flooder.communicate())[0].decode().split() for flooder in floods]
    print(f"{said}; calls took {max(took_s):.2f} s at most, joins {max(came_s):.2f} s, of {len(took_s)}")
    gone = [client for client in (*idle, *callers) if client.gone.done()]
    assert not gone, f"{len(gone)} of {len(idle) + 2} have lost their session"
    assert not any("lost" in words for words in said), "nor is a flooder harmed"
    for client in (*idle, *callers):
        await client.close()


async def flood(address: str) -> asyncio.subprocess.Process:
    """A client that floods its proxy, from now on for `FLOOD_S`."""
    flooder = await asyncio.create_subprocess_exec(
        sys.executable, str(FLOODER), address, str(PROXY_PORT), "realm1", str(FLOOD_S), stdout=asyncio.subprocess.PIPE
    )
    assert (await flooder.stdout.readline()).decode().strip() == "joined"
    return flooder


async def test_a_client_whose_router_does_not_read_is_slowed_down(two):
    """What waits for its router is bounded: it is not read meanwhile. And it goes on as if nothing had been."""
    sender = (await joined(two, "realm2"))[0]
    subscriber = await two.client("realm2", two.nodes["proxy1"])
    received = asyncio.Queue()
    await subscriber.subscribe(lambda number, _: received.put_nowait(number), "test.large")
    proxy, router = await worker_pid(two, "proxy1"), await worker_pid(two, "router2")
    before, count, payload = rss(proxy), 2000, "x" * 50_000

    async def send() -> None:
        for number in range(count):  # 100 MB
            sender.send(message.Publish(number + 1, "test.large", args=[number, payload]))
            await sender._writer.drain()

    os.kill(router, signal.SIGSTOP)
    try:
        sending = asyncio.ensure_future(send())
        await asyncio.sleep(2)  # not so long that the router is given up
        grew = rss(proxy) - before
    finally:
        os.kill(router, signal.SIGCONT)
    assert not sending.done(), "nobody has taken it"
    assert grew < 40e6, f"the proxy grew by {grew / 1e6:.0f} MB"
    async with asyncio.timeout(60):
        await sending
        assert [await received.get() for _ in range(count)] == list(range(count))
    sender.close()
    await subscriber.close()


async def worker_pid(cluster, node: str) -> int:
    """Of the one worker of a node that is managed."""
    worker = next(w["worker"] for w in (await cluster.status())["workers"] if w["node"] == node)
    found = await cluster.call("crossbarfabriccenter.remote.node.get_worker", cluster.nodes[node].oid, worker)
    return found["pid"]
