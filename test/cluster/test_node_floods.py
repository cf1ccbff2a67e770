"""What one node sends its master holds up nobody else: a node's key is all that it takes to send any amount."""

import asyncio
import contextlib
import time

import pytest
import pytest_asyncio

from crossbar_cluster.lab.client import join
from crossbar_cluster.lab.cluster import MASTER_PORT, Node, loopback_cluster

from .conftest import PATCHED, RECOVERY_S, command, until

FLOOD_S = 12.0
#: The release, or one write to disk for each event, takes many times as long.
ANSWERED_WITHIN_S = 12.0
OF_NODES = "crossbarfabriccenter.node."
HEARTBEAT = {"timestamp": 1, "period": 10, "seq": 1, "type": "router", "state": 1}


@pytest_asyncio.fixture(scope="module")
async def cluster(tmp_path_factory):
    async with loopback_cluster(tmp_path_factory.mktemp("floods"), patched=PATCHED) as (cluster, network):
        cluster.add_node("router1", network.host())
        cluster.spare = Node("spare", network.host(), cluster.watched / "spare", PATCHED)
        await cluster.make_key(cluster.spare)
        await cluster.boot()
        yield cluster


@contextlib.asynccontextmanager
async def flood(cluster, *messages):
    """A session with the key of a node that publishes these without pause. Yields how many have been sent."""
    node = await join(
        cluster.client_host, cluster.master.host.address, MASTER_PORT, None,
        key=cluster.node_key(cluster.spare), authrole="node",
    )  # fmt: skip
    sent = [0]

    async def send() -> None:
        while True:
            for _ in range(100):
                for topic, *args in messages:
                    node.publish(topic, *args)
            sent[0] += 100 * len(messages)
            await asyncio.sleep(0.02)

    sending = asyncio.create_task(send())
    try:
        yield sent
    finally:
        sending.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await sending
        await node.close()


KINDS = {
    "heartbeats": [(f"{OF_NODES}on_worker_heartbeat", "spare", "controller", HEARTBEAT)],
    "heartbeats of the node": [(f"{OF_NODES}on_heartbeat", "spare", HEARTBEAT)],
    "events": [(f"{OF_NODES}spare.on_worker_gone",), (f"{OF_NODES}spare.worker.w.on_backend_unreachable", "cnc_x")],
    "log lines": [(f"{OF_NODES}spare.worker.w.on_log", {"level": "info", "message": "x" * 200})],
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
async def test_a_flood_of_one_node_holds_up_neither_status_nor_others(cluster, kind):
    async with flood(cluster, *KINDS[kind]) as sent:
        until_s = time.monotonic() + FLOOD_S
        while time.monotonic() < until_s:
            async with asyncio.timeout(ANSWERED_WITHIN_S):
                await cluster.status()
                await cluster.call("crossbarfabriccenter.remote.node.get_status", cluster.nodes["router1"].oid)
            await asyncio.sleep(0.2)
        assert sent[0] > 10_000
    if kind != "log lines":  # of which busy proxies send many
        assert cluster.master.running.find(f"Node spare sends more {kind.split(' of ')[0]}")


@pytest.mark.slow
async def test_a_node_that_floods_is_named_by_status(cluster):
    async with flood(cluster, *KINDS["heartbeats"]):

        async def is_named() -> bool:
            problems = {p["object"]: p["reason"] for p in (await cluster.status())["problems"]}
            return "more heartbeats" in problems.get("node spare", "")

        await until(is_named, RECOVERY_S)
        async with asyncio.timeout(RECOVERY_S):
            code, out, _ = await command(cluster, "status")
        assert code == 1 and "spare" in out and "more heartbeats" in out
