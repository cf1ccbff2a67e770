"""A node that is told to end finishes what is under way, and sends its clients elsewhere.

With CROSSBAR_CLUSTER=off no client of a realm on two routers is ever served.
"""

import asyncio
import json
import signal
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass

import pytest
import pytest_asyncio
from autobahn.wamp.exception import ApplicationError, TransportLost

from crossbar_cluster.lab.client import Client
from crossbar_cluster.lab.cluster import Cluster, Node, loopback_cluster

from .conftest import command, converged, until
from .group import REALM, WITHIN_S, Arrivals, client_on, slow_call

DRAIN_S = 4.0
ANSWERS = 100


@dataclass
class Pair:
    """A realm on two routers behind two proxies."""

    cluster: Cluster
    routers: dict[str, Node]
    proxies: tuple[Node, Node]

    async def client_on(self, router: str, proxy: Node) -> Client:
        async with asyncio.timeout(60):
            return await client_on(self.cluster, self.routers[router], proxy)

    async def restored(self, node: Node) -> None:
        """Start a node again; return when there are clients on both routers again through both proxies."""
        await self.cluster.bring_up(node)
        for proxy in self.proxies:
            await self.cluster.served(REALM, proxy)
            for router in self.routers:
                await (await self.client_on(router, proxy)).close()


@pytest_asyncio.fixture(scope="module")
async def pair(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Pair]:
    async with loopback_cluster(tmp_path_factory.mktemp("drain")) as (cluster, network):
        routers = {name: cluster.add_node(name, network.host()) for name in ("router1", "router2")}
        proxies = (cluster.add_node("proxy1", network.host()), cluster.add_node("proxy2", network.host()))
        for node in (*routers.values(), *proxies):
            node.settings["CROSSBAR_CLUSTER_DRAIN_SECONDS"] = str(DRAIN_S)
        await cluster.boot()
        await cluster.start_webcluster(*proxies)
        await cluster.start_realm(REALM, *routers.values(), scale=2)
        found = Pair(cluster, routers, proxies)
        for proxy in proxies:
            await cluster.served(REALM, proxy)
            for router in routers:
                await (await found.client_on(router, proxy)).close()
        yield found


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["router", "proxy"])
async def test_a_node_that_ends_finishes_calls_and_sends_its_clients_elsewhere(pair: Pair, kind: str) -> None:
    router1, proxy1 = pair.routers["router1"], pair.proxies[0]
    ending = router1 if kind == "router" else proxy1
    caller, callee, idle = [await pair.client_on("router1", proxy1) for _ in range(3)]
    elsewhere = await pair.client_on("router2", pair.proxies[1])
    call = await slow_call(caller, callee, 1.5)
    across = await slow_call(elsewhere, callee, 1.0)
    async with Arrivals(pair.cluster, pair.proxies[1]) as arrivals:
        began = time.monotonic()
        ended = asyncio.ensure_future(ending.running.terminate())
        async with asyncio.timeout(WITHIN_S):
            await idle.gone
            assert not caller.gone.done() and not callee.gone.done() and not ended.done()
            assert await across == "done"
            assert await call == "done"
            await asyncio.gather(caller.gone, callee.gone, ended)
        assert time.monotonic() - began < DRAIN_S + 8  # of which the release takes some
    assert ending.running.returncode == 0
    assert not elsewhere.gone.done()
    arrivals.check()
    await elsewhere.close()
    await pair.restored(ending)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["router", "proxy"])
async def test_a_node_is_ended_from_afar_and_comes_back_without_a_failed_join(pair: Pair, kind: str) -> None:
    ending = pair.routers["router1"] if kind == "router" else pair.proxies[0]
    caller, callee, idle = [await pair.client_on("router1", pair.proxies[0]) for _ in range(3)]
    call = await slow_call(caller, callee, 1.5)
    async with Arrivals(pair.cluster, pair.proxies[1]) as arrivals:
        draining = asyncio.create_task(command(pair.cluster, "drain", ending.name, "--back", "60", "--json"))
        async with asyncio.timeout(WITHIN_S):
            await idle.gone
            assert await call == "done"
            await asyncio.gather(caller.gone, callee.gone)
        assert await ending.running.ended(WITHIN_S) == 0
        await pair.restored(ending)  # as Kubernetes or docker-compose would start it
        code, out, err = await draining
    assert (code, err) == (0, "")
    told = json.loads(out)
    assert told["node"] == ending.name
    assert 0 < told["left_after_s"] < told["back_after_s"]
    arrivals.check()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["router", "proxy"])
async def test_whenever_an_answer_is_given_while_a_node_ends_it_arrives(pair: Pair, kind: str) -> None:
    """A client is asked to come back right after its answer, which must be out by then."""
    ending = pair.routers["router1"] if kind == "router" else pair.proxies[0]
    caller = await pair.client_on("router2", pair.proxies[1])
    callees = [await pair.client_on("router1", pair.proxies[0]) for _ in range(ANSWERS)]
    calls = [await slow_call(caller, callee, 1.0 + DRAIN_S / 2 * i / ANSWERS) for i, callee in enumerate(callees)]
    ended = asyncio.ensure_future(ending.running.terminate())
    async with asyncio.timeout(WITHIN_S):
        answers = await asyncio.gather(*calls, return_exceptions=True)
        await asyncio.gather(ended, *(callee.gone for callee in callees))
    assert answers == ["done"] * ANSWERS
    await caller.close()
    await pair.restored(ending)


@pytest.mark.slow
async def test_what_cannot_be_ended_is_told(pair: Pair) -> None:
    code, out, err = await command(pair.cluster, "drain", "router3")
    assert (code, out) == (1, "")
    assert err == "Error: There is no node router3. Paired are: proxy1, proxy2, router1, router2.\n"


@pytest.mark.slow
async def test_a_call_that_takes_too_long_is_answered_by_an_error(pair: Pair) -> None:
    router1, proxy1 = pair.routers["router1"], pair.proxies[0]
    caller, callee = [await pair.client_on("router1", proxy1) for _ in range(2)]
    call = await slow_call(caller, callee, 60)
    began = time.monotonic()
    ended = asyncio.ensure_future(router1.running.terminate())
    async with asyncio.timeout(WITHIN_S):
        with pytest.raises(ApplicationError) as failed:
            await call
    assert failed.value.error == "wamp.error.canceled"
    assert time.monotonic() - began >= DRAIN_S - 0.5
    async with asyncio.timeout(WITHIN_S):
        await asyncio.gather(caller.gone, callee.gone, ended)
    await pair.restored(router1)


@pytest.mark.slow
async def test_a_second_signal_ends_a_node_at_once(pair: Pair) -> None:
    router1, proxy1 = pair.routers["router1"], pair.proxies[0]
    caller, callee = [await pair.client_on("router1", proxy1) for _ in range(2)]
    await slow_call(caller, callee, 60)
    idle = await pair.client_on("router1", proxy1)
    running = router1.running
    running.signal(signal.SIGTERM)
    async with asyncio.timeout(WITHIN_S):
        await idle.gone  # it is draining
    began = time.monotonic()
    running.signal(signal.SIGTERM)
    async with asyncio.timeout(WITHIN_S):
        assert await running.ended(WITHIN_S) == 128 + signal.SIGTERM
        await asyncio.gather(caller.gone, callee.gone)
    assert time.monotonic() - began < DRAIN_S - 1
    await running.kill()  # as for any process: nothing of it is left
    await pair.restored(router1)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_master_that_is_told_to_end_has_not_failed(pair: Pair, number: signal.Signals) -> None:
    master = pair.cluster.master
    master.running.signal(number)
    assert await master.running.ended(2 * WITHIN_S) == 0
    assert master.running.find(f"Received {number.name}: this node ends in order. A second signal ends it at once")
    await master.running.kill()
    await pair.cluster.start(master)

    async def answers() -> bool:
        with suppress(ApplicationError, TransportLost, TimeoutError):
            return bool(await pair.cluster.status(timeout_s=5))
        return False

    await until(answers, 60)
    await converged(pair.cluster)
