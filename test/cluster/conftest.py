"""The cluster that tests share. With CROSSBAR_CLUSTER=off it runs the release, and the tests fail as it does."""

import asyncio
import os
import sysconfig
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from crossbar_cluster.lab.cluster import MASTER_PORT, Cluster, Node, Realm, loopback_cluster
from crossbar_cluster.lab.host import LoopbackHost, LoopbackNetwork

PATCHED = os.environ.get("CROSSBAR_CLUSTER", "on").lower() not in ("off", "0", "no", "false")

#: Generous: what is waited for takes about 3 s on an idle machine, 25 s on one that boots six nodes at once, and never
#: comes with the release.
RECOVERY_S = 60.0


async def until(condition: Callable[[], Awaitable[object]], within_s: float) -> float:
    """Wait until an awaitable condition holds. :returns: seconds it took."""
    began = time.monotonic()
    while not await condition():
        assert time.monotonic() - began < within_s, f"not within {within_s:g} s"
        await asyncio.sleep(0.05)
    return time.monotonic() - began


async def converged(cluster: Cluster) -> None:
    """Wait until all is as configured."""

    async def is_converged() -> bool:
        return not (await cluster.status())["problems"]

    await until(is_converged, RECOVERY_S)


async def command(cluster: Cluster, *argv: str) -> tuple[int, str, str]:
    """`crossbar-cluster`, as an operator of the cluster types it. :returns: exit code, stdout, stderr."""
    url = f"ws://{cluster.master.host.address}:{MASTER_PORT}/ws"
    key = cluster.directory / "home" / ".crossbar" / "default.priv"
    process = await asyncio.create_subprocess_exec(
        str(Path(sysconfig.get_path("scripts")) / "crossbar-cluster"), *argv, "--url", url, "--key", str(key),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate()
    return process.returncode or 0, out.decode(), err.decode()


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


async def boot_two_realms(cluster: Cluster, services: Mapping[str, Any] | None = None) -> Realm:
    """Boot ``router1`` and ``router2``, with a realm each, and ``proxy1``; return when both realms are served.

    :param services: further web services of the proxy.
    :returns: the realm on ``router1``.
    """
    proxy1 = cluster.nodes["proxy1"]
    await cluster.boot()
    await cluster.start_webcluster(proxy1, services=services)
    realms = [await cluster.start_realm(f"realm{number}", cluster.nodes[f"router{number}"]) for number in (1, 2)]
    for realm in realms:
        await cluster.served(realm.name, proxy1)
    return realms[0]


@pytest_asyncio.fixture(scope="session")
async def lab(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Lab]:
    async with loopback_cluster(tmp_path_factory.mktemp("lab"), patched=PATCHED) as (cluster, network):
        router1, router2, proxy1 = (cluster.add_node(n, network.host()) for n in ("router1", "router2", "proxy1"))
        idle = [Node(name, network.host(), cluster.watched / name, PATCHED) for name in ("proxy2", "spare")]
        for node in idle:
            node.cluster_ip = node.host.address
            await cluster.make_key(node)
        realm1 = await boot_two_realms(cluster)
        yield Lab(cluster, network, router1, router2, proxy1, *idle, realm1)
