"""What the master stops lets calls finish, as what is told to end does: workers that move or are too many, realms.

With CROSSBAR_CLUSTER=off the worker of a realm is not moved at all.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

import pytest
import pytest_asyncio

from crossbar_cluster.lab.cluster import Cluster, Node, Realm, loopback_cluster

from .conftest import RECOVERY_S, command, converged, until
from .group import REALM, client_on, router_of, slow_call

DRAIN_S = 8.0
#: Longer than what is no longer configured is left alone in any case.
CALL_S = 4.0
WITHIN_S = 60.0
GROUP = f"group_{REALM}"


@dataclass
class Kept:
    """Two realms on one router worker, which can be on two nodes, behind two proxies."""

    cluster: Cluster
    proxies: tuple[Node, Node]
    realm2: Realm

    async def finishes(self, realm: str, proxy: Node, stop: Callable[[], Awaitable[object]]) -> None:
        """See that a call finishes although what it goes through is stopped, and that its ends go after it."""
        caller, callee, idle = [await self.cluster.client(realm, proxy) for _ in range(3)]
        call = await slow_call(caller, callee, CALL_S, after=asyncio.shield(idle.gone))
        async with asyncio.timeout(WITHIN_S):
            stopping = asyncio.ensure_future(stop())
            await idle.gone
            assert not caller.gone.done() and not callee.gone.done()
            assert await call == "done"
            await asyncio.gather(caller.gone, callee.gone, stopping)
        await converged(self.cluster)


@pytest_asyncio.fixture(scope="module")
async def kept(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Kept]:
    async with loopback_cluster(tmp_path_factory.mktemp("stopping")) as (cluster, network):
        router1, router2, proxy1, proxy2 = (
            cluster.add_node(name, network.host()) for name in ("router1", "router2", "proxy1", "proxy2")
        )
        for node in (router1, router2, proxy1, proxy2):
            node.settings["CROSSBAR_CLUSTER_DRAIN_SECONDS"] = str(DRAIN_S)
        await cluster.boot()
        await cluster.start_webcluster(proxy1, proxy2)
        realm1 = await cluster.start_realm(REALM, router1, router2)
        realm2 = await cluster.start_realm_on("realm2", realm1.workergroup)
        for proxy in (proxy1, proxy2):
            for realm in (realm1, realm2):
                await cluster.served(realm.name, proxy)
        yield Kept(cluster, (proxy1, proxy2), realm2)


async def place(kept: Kept) -> str:
    client = await kept.cluster.client(REALM, kept.proxies[0])
    await client.close()
    return router_of(client)


async def moved(kept: Kept, source: str) -> None:
    code, out, err = await command(kept.cluster, "placements", "move", source)
    assert code == 0, out + err


@pytest.mark.slow
async def test_calls_finish_on_a_router_worker_that_is_moved(kept: Kept) -> None:
    source = await place(kept)
    await kept.finishes(REALM, kept.proxies[0], lambda: moved(kept, source))
    assert await place(kept) != source


@pytest.mark.slow
async def test_calls_finish_between_a_router_worker_that_stays_and_one_that_is_too_many(kept: Kept) -> None:
    cluster, proxy = kept.cluster, kept.proxies[0]
    assert (await command(cluster, "placements", "scale", GROUP, "2"))[0] == 0
    await converged(cluster)
    [group] = (await cluster.status())["groups"]
    place_of = {placed["worker"]: cluster.nodes[placed["node"]] for placed in group["placements"]}
    stays, goes = (place_of[f"{GROUP}_{number}"] for number in (1, 2))
    async with asyncio.timeout(WITHIN_S):
        caller = await client_on(cluster, stays, proxy)
        callee, idle = [await client_on(cluster, goes, proxy) for _ in range(2)]
    call = await slow_call(caller, callee, CALL_S, after=asyncio.shield(idle.gone))
    assert (await command(cluster, "placements", "scale", GROUP, "1"))[0] == 0
    async with asyncio.timeout(WITHIN_S):
        assert await call == "done"
        await callee.gone
    await converged(cluster)
    assert not caller.gone.done()
    await caller.close()


async def test_calls_finish_on_a_realm_that_is_stopped(kept: Kept) -> None:
    unconcerned = await kept.cluster.client(REALM, kept.proxies[0])
    realm = kept.realm2

    async def stop() -> None:
        await kept.cluster.manage("arealm.stop_arealm", realm.oid)

    async def is_stopped() -> bool:
        return (await kept.cluster.manage("arealm.get_arealm", realm.oid))["status"] == "STOPPED"

    await kept.finishes(realm.name, kept.proxies[0], stop)
    await until(is_stopped, RECOVERY_S)
    assert not unconcerned.gone.done()
    await unconcerned.close()


async def test_calls_finish_through_a_proxy_worker_that_is_one_too_many(kept: Kept) -> None:
    leaving = kept.proxies[1]

    async def remove() -> None:
        await kept.cluster.manage("webcluster.remove_webcluster_node", kept.cluster.webcluster, leaving.oid)

    await kept.finishes(REALM, leaving, remove)
    assert leaving.running.returncode is None
