"""A step of a node's wall clock, either way, is noticed by nobody: every interval is measured by a monotonic clock."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest_asyncio

from crossbar_cluster.lab.client import Client
from crossbar_cluster.lab.cluster import Cluster, Node
from crossbar_cluster.lab.host import LoopbackNetwork

from .conftest import PATCHED, converged
from .group import REALM, router_of

HOUR_S = 3600
#: What is waited for takes 9 s on an idle machine; with a clock that stands still for an hour it never comes.
WITHIN_S = 40.0
#: Links are given up after 4 s of silence, and asked each second.
LOOK_ON_S = 8.0


@dataclass
class Two:
    cluster: Cluster
    network: LoopbackNetwork
    router1: Node
    router2: Node
    proxy: Node

    async def clients(self, count: int) -> list[Client]:
        return [await self.cluster.client(REALM, self.proxy) for _ in range(count)]


def step(node: Node, off_s: float) -> None:
    """Set a node's clock."""
    (node.directory / "clock").write_text(str(off_s))


@pytest_asyncio.fixture(scope="module")
async def two(tmp_path_factory) -> AsyncIterator[Two]:
    """A realm on two routers, and a proxy, whose clocks can be set."""
    directory = tmp_path_factory.mktemp("clock")
    network = LoopbackNetwork(directory, clocks=True)
    async with Cluster(directory, network.host(), network.host(), PATCHED) as cluster:
        router1, router2, proxy = (cluster.add_node(n, network.host()) for n in ("router1", "router2", "proxy1"))
        await cluster.boot()
        await cluster.start_webcluster(proxy)
        await cluster.start_realm(REALM, router1, router2, scale=2)
        await cluster.served(REALM, proxy)
        await converged(cluster)
        yield Two(cluster, network, router1, router2, proxy)


async def test_links_and_clients_stay_when_a_routers_clock_is_set_forward(two: Two) -> None:
    clients = await two.clients(6)
    assert {router_of(client) for client in clients} == {"router1", "router2"}
    marks = [(router, router.running.mark()) for router in (two.router1, two.router2)]
    step(two.router2, 30)
    await asyncio.sleep(LOOK_ON_S)  # that nothing happens can only be seen by waiting
    assert not any(client.gone.done() for client in clients)
    for router, mark in marks:
        assert not router.running.find("not linked with .* any more", since=mark), router.name
    for client in clients:
        await client.close()


async def test_a_router_that_falls_silent_is_noticed_after_a_proxys_clock_was_set_back(two: Two) -> None:
    clients = await two.clients(6)
    lost = [client for client in clients if router_of(client) == "router2"]
    await asyncio.sleep(1.0)  # whoever is not heard of is looked at each 3 s: a timer runs
    step(two.proxy, -HOUR_S)
    await asyncio.sleep(0.2)  # the clock is read each 0.05 s
    two.router2.running.signal_all(signal.SIGSTOP)
    silent = time.monotonic()
    try:
        async with asyncio.timeout(WITHIN_S):
            await asyncio.gather(*(client.gone for client in lost))
        print(f"its clients were told after {time.monotonic() - silent:.1f} s")
        assert not any(client.gone.done() for client in clients if client not in lost)
    finally:
        two.router2.running.signal_all(signal.SIGCONT)
