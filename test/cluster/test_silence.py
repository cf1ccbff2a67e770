"""Nodes that fall silent for 20 s, stopped or cut off: back in service at once, and nobody else notices.

In network namespaces: nobody is told that a link is down, no connection is closed. Needs root.
"""

import asyncio
import itertools
import signal
import time
from contextlib import asynccontextmanager

import pytest
import pytest_asyncio

from crossbar_cluster.lab.cluster import Cluster
from crossbar_cluster.lab.namespaces import NamespaceNetwork, available

pytestmark = [pytest.mark.skipif(available() is not None, reason=str(available())), pytest.mark.slow]

SILENT_S = 20.0
BACK_WITHIN_S = 10.0
OFFLINE_WITHIN_S = 13.0  # 9 s, and some more on a machine that has much else to do
NOTICED_S = 5.0  # what a client calls a gap: here, too, a busy machine is no fault


@pytest_asyncio.fixture(scope="module")
async def pods(tmp_path_factory):
    """Two routers with a realm each, two proxies; each node in a network namespace of its own."""
    network = NamespaceNetwork()
    try:
        master, client = network.host(), network.host()
        async with Cluster(tmp_path_factory.mktemp("silence"), master, client) as cluster:
            for name in ("router1", "router2", "proxy1", "proxy2"):
                cluster.add_node(name, network.host())
            await cluster.boot()
            await cluster.start_webcluster(cluster.nodes["proxy1"], cluster.nodes["proxy2"])
            for number in (1, 2):
                await cluster.start_realm(f"realm{number}", cluster.nodes[f"router{number}"])
            for realm in ("realm1", "realm2"):
                for proxy in ("proxy1", "proxy2"):
                    await cluster.served(realm, cluster.nodes[proxy])
            yield cluster
    finally:
        network.close()


class Silence:
    """Ways for a node to fall silent."""

    def __init__(self, node) -> None:
        self._node = node

    def begin(self, how: str) -> None:
        if how == "stopped":
            self._node.running.signal_all(signal.SIGSTOP)
        else:
            self._node.host.link(up=False)

    def end(self, how: str) -> None:
        if how == "stopped":
            self._node.running.signal_all(signal.SIGCONT)
        else:
            self._node.host.link(up=True)


@asynccontextmanager
async def nobody_notices(cluster: Cluster, *who: tuple[str, str]):
    """See that these clients, each of a realm and a proxy, are served without a gap."""
    callers = [cluster.caller(realm, cluster.nodes[proxy]) for realm, proxy in who]
    for caller in callers:
        caller.start()
    try:
        for caller in callers:
            assert await caller.served(time.monotonic(), 10.0)
        begun = time.monotonic()
        yield
        ended = time.monotonic()
    finally:
        for caller in callers:
            await caller.stop()
    for caller, (realm, proxy) in zip(callers, who, strict=True):
        times = [begun, *(at for at in caller.served_at if begun <= at <= ended), ended]
        gap = max(later - earlier for earlier, later in itertools.pairwise(times))
        assert gap < NOTICED_S, (
            f"a client of {realm} through {proxy} was not served for {gap:.1f} s: {caller.last_error}"
        )


async def online(cluster: Cluster, name: str, expected: str, timeout_s: float) -> None:
    """Wait until the master says so of a node."""
    deadline = time.monotonic() + timeout_s
    last: object = None
    while time.monotonic() < deadline:
        try:
            nodes = (await cluster.status(3.0))["nodes"]
        except Exception as e:  # the master itself is the one that was silent
            last = e
        else:
            last = {node["name"]: node["status"] for node in nodes}[name]
            if last == expected:
                return
        await asyncio.sleep(0.1)
    raise AssertionError(f"{name} is not {expected} after {timeout_s:g} s: {last}")


@pytest.mark.parametrize("how", ["stopped", "cut off"])
async def test_a_router_and_a_proxy(pods, how):
    """The clients of another realm, through another proxy, go on; the master notices the silence within 10 s."""
    router1, proxy2 = pods.nodes["router1"], pods.nodes["proxy2"]
    async with nobody_notices(pods, ("realm2", "proxy1")):
        begun = time.monotonic()
        for node in (router1, proxy2):
            Silence(node).begin(how)
        for node in (router1, proxy2):
            await online(pods, node.name, "offline", OFFLINE_WITHIN_S)
        await asyncio.sleep(begun + SILENT_S - time.monotonic())  # the length of the silence is what is tested
        back = time.monotonic()
        for node in (router1, proxy2):
            Silence(node).end(how)
        for realm, proxy in (("realm1", "proxy1"), ("realm2", "proxy2"), ("realm1", "proxy2")):
            await pods.served(realm, pods.nodes[proxy], BACK_WITHIN_S, back)
        for node in (router1, proxy2):
            await online(pods, node.name, "online", BACK_WITHIN_S)


@pytest.mark.parametrize("how", ["stopped", "cut off"])
async def test_the_master(pods, how):
    """No client notices; what moves meanwhile is followed once the master is back."""
    async with nobody_notices(pods, ("realm1", "proxy1"), ("realm2", "proxy2")):
        Silence(pods.master).begin(how)
        await asyncio.sleep(SILENT_S)  # the length of the silence is what is tested
        Silence(pods.master).end(how)
        for name in pods.nodes:
            await online(pods, name, "online", BACK_WITHIN_S)
    moved = time.monotonic()
    await pods.nodes["router2"].running.kill()
    await pods.start(pods.nodes["router2"])
    await pods.served("realm2", pods.nodes["proxy1"], 20, moved)
