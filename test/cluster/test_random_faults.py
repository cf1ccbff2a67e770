"""A seeded run of faults over every part of a cluster ends in a serving cluster with every loop alive.

``LAB_SEED=n`` repeats a run (a failure names its seed), ``LAB_FAULTS=n`` makes it longer or shorter.
"""

import asyncio
import os
import random
import signal
import time
from dataclasses import dataclass

import pytest

from crossbar_cluster.lab.cluster import Cluster, Node, loopback_cluster
from crossbar_cluster.lab.process import ProcessFailed, group_members

SEED = int(os.environ.get("LAB_SEED", "20261123"))
FAULTS = int(os.environ.get("LAB_FAULTS", "50"))


@dataclass(frozen=True)
class Fault:
    """What happens to which node, and when."""

    after_s: float  #: after the fault before it
    node: str
    what: str
    lasts_s: float  #: how long the node is down, or stopped


def schedule(seed: int, count: int) -> list[Fault]:
    """The faults of a run: the same for the same seed."""
    rng = random.Random(seed)
    nodes = ["master", "router1", "router1", "router2", "router2", "proxy1", "proxy2"]
    kinds = ["killed", "killed", "ended", "stopped", "worker killed"]
    return [
        Fault(rng.uniform(0.0, 1.5), rng.choice(nodes), rng.choice(kinds), rng.uniform(0.0, 2.5)) for _ in range(count)
    ]


class Run:
    """Carries a schedule out. Faults overlap, except those of one node."""

    def __init__(self, cluster: Cluster, network) -> None:
        self.cluster = cluster
        self.network = network
        self._one_at_a_time = {name: asyncio.Lock() for name in ("master", *cluster.nodes)}

    async def carry_out(self, faults: list[Fault]) -> None:
        async with asyncio.TaskGroup() as group:
            for fault in faults:
                await asyncio.sleep(fault.after_s)  # the moments of the faults are what is varied
                group.create_task(self._inflict(fault))

    async def _inflict(self, fault: Fault) -> None:
        node = self.cluster.master if fault.node == "master" else self.cluster.nodes[fault.node]
        async with self._one_at_a_time[fault.node]:
            match fault.what:
                case "stopped":
                    node.running.signal_all(signal.SIGSTOP)
                    await asyncio.sleep(fault.lasts_s)
                    node.running.signal_all(signal.SIGCONT)
                case "worker killed":
                    self._kill_a_worker(node, fault)
                case "killed":
                    await node.running.kill()
                    await asyncio.sleep(fault.lasts_s)
                    await self._start(node)
                case "ended":
                    await node.running.terminate(3.0)
                    await self._start(node)

    def _kill_a_worker(self, node: Node, fault: Fault) -> None:
        workers = sorted(set(group_members(node.running.pid)) - {node.running.pid})
        if workers:
            os.kill(workers[int(fault.lasts_s * 1000) % len(workers)], signal.SIGKILL)

    async def _start(self, node: Node) -> None:
        """A router comes back under another address, as a rescheduled pod does."""
        if node.name.startswith("router"):
            node.host = self.network.host()
            node.cluster_ip = node.host.address
        await self.cluster.start(node)


async def everything_converged(cluster: Cluster, timeout_s: float) -> dict:
    """The status of a cluster in which nothing is left to do; asked until the master can be asked."""
    deadline = time.monotonic() + timeout_s
    seen: object = None
    while time.monotonic() < deadline:
        try:
            status = await cluster.status(5.0)
        except Exception as e:
            seen = e
        else:
            seen = status["problems"]
            if not status["problems"]:
                return status
        await asyncio.sleep(0.2)
    raise AssertionError(f"not converged within {timeout_s:g} s: {seen}")


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_a_run_of_faults_ends_in_a_serving_cluster(tmp_path):
    faults = schedule(SEED, FAULTS)
    async with loopback_cluster(tmp_path) as (cluster, network):
        names = ("router1", "router2", "proxy1", "proxy2")
        router1, router2, proxy1, proxy2 = (cluster.add_node(name, network.host()) for name in names)
        await cluster.boot()
        await cluster.start_webcluster(proxy1, proxy2)
        await cluster.start_realm("realm1", router1)
        await cluster.start_realm("realm2", router2)
        await everything_converged(cluster, 60)
        try:
            await Run(cluster, network).carry_out(faults)
            for realm in ("realm1", "realm2"):
                for proxy in (proxy1, proxy2):
                    await cluster.served(realm, proxy, 60)
            status = await everything_converged(cluster, 60)
            assert {node["status"] for node in status["nodes"]} == {"online"}
            # every loop is alive: whatever dies next is repaired as well
            for node in (router1, router2):
                await cluster.move(node, network.host())
            for realm in ("realm1", "realm2"):
                for proxy in (proxy1, proxy2):
                    await cluster.served(realm, proxy, 30)
        except (AssertionError, ConnectionError, ProcessFailed) as e:
            raise AssertionError(f"LAB_SEED={SEED} LAB_FAULTS={FAULTS}: {e}") from e


def test_a_seed_gives_one_run():
    assert schedule(7, 50) == schedule(7, 50)
    assert schedule(7, 50) != schedule(8, 50)
    assert {fault.what for fault in schedule(SEED, 50)} == {"killed", "ended", "stopped", "worker killed"}
    assert {fault.node for fault in schedule(SEED, 50)} == {"master", "router1", "router2", "proxy1", "proxy2"}
