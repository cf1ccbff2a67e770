"""The master is killed at random moments while addresses change: no record is lost or half-written, and it goes on.

``LAB_MASTER_KILLS=100`` makes it the long run; ``LAB_SEED=n`` repeats a run.
"""

import asyncio
import contextlib
import os
import random
import time

import pytest

from crossbar_cluster.lab.client import join
from crossbar_cluster.lab.cluster import MASTER_PORT, Cluster, Node, loopback_cluster

KILLS = int(os.environ.get("LAB_MASTER_KILLS", "4"))
SEED = int(os.environ.get("LAB_SEED", "20261123"))


class Wanderer:
    """A node that says without pause that it is somewhere else: every join is a write to the master's database."""

    def __init__(self, cluster: Cluster, node: Node) -> None:
        self._cluster = cluster
        self._key = cluster.node_key(node)
        self.claimed: list[str] = []  #: every address it ever named
        self.welcomed = 0

    async def wander(self) -> None:
        while True:
            address = f"10.1.{len(self.claimed) // 250}.{len(self.claimed) % 250 + 1}"
            self.claimed.append(address)
            try:
                client = await join(
                    self._cluster.client_host,
                    self._cluster.master.host.address,
                    MASTER_PORT,
                    None,
                    key=self._key,
                    authrole="node",
                    authextra={"cluster_ip": address, "cluster_ip_source": "environment"},
                    timeout_s=2.0,
                )
            except ConnectionError:
                await asyncio.sleep(0.05)
            else:
                self.welcomed += 1
                await client.close()


@pytest.mark.slow
@pytest.mark.timeout(120 + 20 * KILLS)
async def test_no_kill_of_the_master_loses_a_record(tmp_path):
    rng = random.Random(SEED)
    async with loopback_cluster(tmp_path) as (cluster, network):
        router1, proxy1, spare = (cluster.add_node(name, network.host()) for name in ("router1", "proxy1", "spare"))
        await cluster.boot()
        await spare.running.kill()
        await cluster.start_webcluster(proxy1)
        await cluster.start_realm("realm1", router1)
        await cluster.served("realm1", proxy1)
        before = {node.name: await cluster.record(node) for node in cluster.nodes.values()}
        wanderer = Wanderer(cluster, spare)
        wandering = asyncio.create_task(wanderer.wander())
        try:
            for _ in range(KILLS):
                welcomed = wanderer.welcomed
                await cluster.start(cluster.master) if not cluster.master.running.running else None
                await cluster.master.running.line("Management controller started", timeout_s=60)
                deadline = time.monotonic() + 30
                while wanderer.welcomed == welcomed:
                    assert time.monotonic() < deadline, "the master lets nobody in"
                    await asyncio.sleep(0.01)
                await asyncio.sleep(rng.uniform(0.0, 0.8))  # the moment of the kill is what is varied
                await cluster.master.running.kill()
        finally:
            wandering.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await wandering
        assert wanderer.welcomed > KILLS
        await cluster.start_master()
        for node in cluster.nodes.values():
            record = await cluster.record(node)
            for unchanging in ("oid", "pubkey", "authid", "mrealm_oid", "owner_oid"):
                assert record[unchanging] == before[node.name][unchanging], f"{node.name}: {unchanging}"
            assert record["authextra"]["cluster_ip"] == record["cluster_ip"], f"{node.name} is half-written"
        at = (await cluster.record(spare))["cluster_ip"]
        assert at in [spare.host.address, *wanderer.claimed]
        await cluster.move(router1, network.host())
        await cluster.served("realm1", proxy1, 60)
