"""The cluster that tests share. With CROSSBAR_CLUSTER=off it runs the release, and the tests fail as it does."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

import pytest
import pytest_asyncio

from crossbar_cluster.lab.cluster import Cluster, Node, Realm, loopback_cluster
from crossbar_cluster.lab.host import LoopbackHost, LoopbackNetwork

PATCHED = os.environ.get("CROSSBAR_CLUSTER", "on").lower() not in ("off", "0", "no", "false")

#: Generous: what is waited for takes about 3 s on an idle machine, and never comes with the release.
RECOVERY_S = 25.0


async def until(condition: Callable[[], Awaitable[object]], within_s: float) -> float:
    """Wait until an awaitable condition holds. :returns: seconds it took."""
    began = time.monotonic()
    while not await condition():
        assert time.monotonic() - began < within_s, f"not within {within_s:g} s"
        await asyncio.sleep(0.05)
    return time.monotonic() - began


@dataclass
class Lab:
    """A running cluster: two routers with a realm each, a proxy, and two nodes that are paired and not started."""

    cluster: Cluster
    network: LoopbackNetwork
    router1: Node
    router2: Node
    proxy1: Node
    proxy2: Node
    spare: Node
    realm1: Realm

    def host(self) -> LoopbackHost:
        return self.network.host()

    async def served_again(self, realm: str, since: float, within_s: float = RECOVERY_S) -> float:
        """Wait until a client that tries without pause is served. :returns: seconds after ``since``."""
        return await self.cluster.served(realm, self.proxy1, within_s, since)

    async def follows(self, realm: str, router: Node, host: LoopbackHost, cluster_ip: str | None = "") -> None:
        """Move ``router`` to ``host`` and see clients of ``realm`` served again."""
        await self.cluster.move(router, host, cluster_ip)
        await self.served_again(realm, time.monotonic())


@pytest_asyncio.fixture(scope="session")
async def lab(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Lab]:
    async with loopback_cluster(tmp_path_factory.mktemp("lab"), patched=PATCHED) as (cluster, network):
        router1, router2, proxy1 = (cluster.add_node(n, network.host()) for n in ("router1", "router2", "proxy1"))
        idle = [Node(name, network.host(), cluster.watched / name, PATCHED) for name in ("proxy2", "spare")]
        for node in idle:
            node.cluster_ip = node.host.address
            await cluster.make_key(node)
        await cluster.boot()
        await cluster.start_webcluster(proxy1)
        realm1 = await cluster.start_realm("realm1", router1)
        await cluster.start_realm("realm2", router2)
        await cluster.served("realm1", proxy1)
        await cluster.served("realm2", proxy1)
        yield Lab(cluster, network, router1, router2, proxy1, *idle, realm1)
