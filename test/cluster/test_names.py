"""A name server that fails or hangs: whoever is joined notices nothing, and who joins gets the last known address."""

import asyncio
import os
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest_asyncio

from crossbar_cluster.lab.cluster import loopback_cluster
from crossbar_cluster.lab.host import LoopbackNetwork

from .conftest import PATCHED, boot_two_realms

CLIENTS = 10
NAME = "router1.lab"
#: A backend that is not heard of is looked at each 3 s, and given up after two looks of 2.5 s.
LOOK_ON_S = 12.0
JOIN_WITHIN_S = 5.0


@pytest_asyncio.fixture(scope="module")
async def named(tmp_path_factory):
    """Two routers with a realm each, the first one known by a name, and a proxy."""
    async with loopback_cluster(tmp_path_factory.mktemp("names"), patched=PATCHED) as (cluster, network):
        host = network.host()
        network.name(NAME, host.address)
        cluster.add_node("router1", host, cluster_ip=NAME)
        for name in ("router2", "proxy1"):
            cluster.add_node(name, network.host())
        await boot_two_realms(cluster)
        yield cluster, network


async def nobody_notices(cluster, trouble: AbstractContextManager[None]) -> None:
    proxy = cluster.nodes["proxy1"]
    clients = [await cluster.client("realm1", proxy, JOIN_WITHIN_S) for _ in range(CLIENTS)]
    mark = proxy.running.mark()
    with trouble:
        await asyncio.sleep(LOOK_ON_S)  # that nothing happens is seen by waiting
        lost = sum(client.gone.done() for client in clients)
        assert lost == 0, f"{lost} of {CLIENTS} are lost: {proxy.running.find('is lost', since=mark)}"
        began = time.monotonic()
        clients.append(await cluster.client("realm1", proxy, JOIN_WITHIN_S))
        print(f"a client is let in within {time.monotonic() - began:.2f} s")
    assert proxy.running.find(f"The name {NAME} cannot be looked up"), "once a minute"
    for client in clients:
        await client.close()


@contextmanager
def failing(network: LoopbackNetwork) -> Iterator[None]:
    """The name is not known any more."""
    away = network.names_file.rename(network.directory / "away")
    try:
        yield
    finally:
        away.rename(network.names_file)


@contextmanager
def hanging(network: LoopbackNetwork) -> Iterator[None]:
    """Whoever looks up a name waits."""
    away = network.names_file.rename(network.directory / "away")
    os.mkfifo(network.names_file)  # whoever reads it waits for somebody to write
    try:
        yield
    finally:
        writer = os.open(network.names_file, os.O_RDWR)
        os.write(writer, b"{}")
        away.rename(network.names_file)
        os.close(writer)


async def test_a_name_server_that_fails(named):
    cluster, network = named
    await nobody_notices(cluster, failing(network))


async def test_a_name_server_that_hangs(named):
    cluster, network = named
    await nobody_notices(cluster, hanging(network))
