"""The uplink of real nodes to a real master: taken over, waited for, found again. And a master that restarts itself."""

import asyncio
import os
import re
import shutil
import sys
import time
from signal import SIGKILL, SIGSTOP

import pytest
import pytest_asyncio
from autobahn.asyncio.wamp import ApplicationSession
from autobahn.wamp.exception import ApplicationError
from autobahn.wamp.types import SubscribeOptions

from crossbar_cluster.lab.client import Client, join
from crossbar_cluster.lab.cluster import MASTER_PORT, Cluster, Node, loopback_cluster
from crossbar_cluster.lab.namespaces import NamespaceNetwork, available
from crossbar_cluster.lab.process import group_members

from .conftest import PATCHED, until

#: A node boots, connects and registers in about 2 s on an idle machine.
CALLABLE_S = 8.0
NOTICED_S = 13.0  # it takes 9 s at most, and longer on a machine that has much else to do


@pytest_asyncio.fixture(scope="module")
async def small(tmp_path_factory):
    """A master and a node, and the network that more can be put on."""
    async with loopback_cluster(tmp_path_factory.mktemp("uplink"), patched=PATCHED) as (cluster, network):
        cluster.add_node("node1", network.host())
        await cluster.boot()
        yield cluster, network


async def status_of(cluster: Cluster, name: str, timeout_s: float = 5.0) -> dict:
    """What a node answers to the master's own users, asked by its name."""
    return await cluster.call(f"crossbarfabriccenter.node.{name}.get_status", timeout_s=timeout_s)


async def until_callable(cluster: Cluster, node: Node, within_s: float) -> float:
    """Wait until calls reach ``node``'s present process and no other. :returns: seconds it took."""
    began = time.monotonic()
    problem: object = None
    while time.monotonic() - began < within_s:
        try:
            answered = (await status_of(cluster, node.name, 1.0))["controller_pid"]
            if answered == node.running.pid:
                return time.monotonic() - began
            problem = f"process {answered} answers"
        except Exception as e:
            problem = e
        await asyncio.sleep(0.1)
    raise node.running.failure(f"{node.name} cannot be called within {within_s:g} s: {problem!r}")


def gone(cluster: Cluster, name: str):
    """A condition for `until`: the master knows no session of the node."""

    async def is_gone():
        return not await cluster.sessions_of(name)

    return is_gone


async def given_up(user: Client, procedure: str, *args) -> None:
    """Call, and cancel the call; the master has heard of both."""
    calling = ApplicationSession.call(user, procedure, *args)
    await user.call("wamp.session.count")
    calling.cancel()
    await user.call("wamp.session.count")


def copy_of(node: Node, name: str, host, cluster: Cluster) -> Node:
    """The same node with the same key, in another directory that the master does not watch."""
    copy = Node(node.name, host, cluster.directory / name, node.patched, host.address, oid=node.oid)
    shutil.copytree(node.cbdir, copy.cbdir, ignore=shutil.ignore_patterns("node.pid", "sock*"))
    return copy


async def test_procedures_are_taken_over_before_the_old_session_is_noticed(small):
    cluster, network = small
    old = cluster.nodes["node1"]
    old.running.signal_all(SIGSTOP)
    try:
        new = cluster.nodes["node1"] = copy_of(old, "elsewhere", network.host(), cluster)
        await cluster.start(new)
        await until_callable(cluster, new, CALLABLE_S)
        assert len(await cluster.sessions_of("node1")) == 2, "the old session was to be there still"

        async def old_one_is_dropped():
            assert (await status_of(cluster, "node1"))["controller_pid"] == new.running.pid
            return len(await cluster.sessions_of("node1")) == 1

        await until(old_one_is_dropped, NOTICED_S)
        for _ in range(10):
            assert (await status_of(cluster, "node1"))["controller_pid"] == new.running.pid
            await asyncio.sleep(0.1)
    finally:
        await old.running.kill()


async def test_a_call_that_was_given_up_costs_no_session_when_its_callee_ends(small):
    """The release answers it a second time then, and Autobahn drops the session: a user's, and the controller's."""
    cluster, _ = small
    node, user = cluster.nodes["node1"], cluster.management
    controller_since = (await cluster.status())["master"]["started"]
    node.running.signal_all(SIGSTOP)
    try:
        for procedure, args in (
            ("crossbarfabriccenter.node.node1.get_status", ()),
            ("crossbarfabriccenter.remote.node.get_status", (node.oid,)),  # the controller calls the node for the user
        ):
            await given_up(user, procedure, *args)
        leaving = await join(
            cluster.client_host, cluster.master.host.address, MASTER_PORT, "default", **cluster.superuser()
        )
        await given_up(leaving, "crossbarfabriccenter.node.node1.get_status")
        await leaving.close()
    finally:
        await node.running.kill()
    await until(gone(cluster, "node1"), NOTICED_S)
    assert cluster.management is user and not user.gone.done()
    assert (await cluster.status())["master"]["started"] == controller_since
    await cluster.start(node)
    await until_callable(cluster, node, CALLABLE_S)


async def test_what_starts_later_is_callable_and_errors_pass_through(small):
    cluster, _ = small
    prefix = "crossbarfabriccenter.node.node1"
    with pytest.raises(ApplicationError) as unknown:
        await cluster.call(f"{prefix}.get_worker", "late")
    assert unknown.value.error == "crossbar.error.no_such_worker"
    with pytest.raises(ApplicationError) as missing:
        await cluster.call(f"{prefix}.worker.late.get_router_realms")
    assert missing.value.error == "wamp.error.no_such_procedure"
    await cluster.call(f"{prefix}.start_worker", "late", "router", {})
    assert await cluster.call(f"{prefix}.worker.late.get_router_realms") == []


async def test_a_worker_that_runs_without_the_patches_is_not_gone_on_with(small):
    """Everything that it needs is in its PYTHONPATH, and its Python reads no .pth file."""
    cluster, _ = small
    node, prefix = cluster.nodes["node1"], "crossbarfabriccenter.node.node1"
    bare = cluster.directory / "python"
    bare.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')
    bare.chmod(0o755)
    with pytest.raises(ApplicationError) as refused:
        await cluster.call(f"{prefix}.start_worker", "bare", "router", {"python": str(bare)})
    assert refused.value.error == "crossbar.error.cannot_start" and "crossbar-cluster.pth" in str(refused.value)
    await node.running.line("Cannot start a worker of this node: worker bare runs without")

    async def has_ended():
        try:
            await cluster.call(f"{prefix}.get_worker", "bare")
        except ApplicationError as e:
            return e.error == "crossbar.error.no_such_worker"

    await until(has_ended, NOTICED_S)
    await cluster.call(f"{prefix}.start_worker", "armed", "router", {})


async def test_the_master_is_told_when_a_worker_has_died(small):
    cluster, _ = small
    prefix = "crossbarfabriccenter.node.node1"
    await cluster.call(f"{prefix}.start_worker", "dying", "router", {})
    worker = await cluster.call(f"{prefix}.get_worker", "dying")
    told = asyncio.get_running_loop().create_future()
    subscription = await cluster.management.subscribe(
        lambda *args, details: told.done() or told.set_result((args, details.topic)),
        "crossbarfabriccenter.node..on_worker_gone",
        SubscribeOptions(match="wildcard", details_arg="details"),
    )
    os.kill(worker["pid"], SIGKILL)
    async with asyncio.timeout(2):
        assert await told == ((), f"{prefix}.on_worker_gone")
    await subscription.unsubscribe()


async def test_a_node_that_is_not_paired_waits_and_joins_when_it_is(small):
    cluster, network = small
    host = network.host()
    node = Node("unpaired", host, cluster.directory / "unpaired", PATCHED, host.address)
    await cluster.make_key(node)
    began = time.monotonic()
    process = await cluster.start(node)
    try:
        key = cluster.node_key(node).public_key()
        line = await process.line("This node is not paired", timeout_s=15)
        assert key in line.text and "crossbar-cluster pair " in line.text
        await asyncio.sleep(max(0.0, began + 9 - time.monotonic()))
        assert process.running
        assert len(process.find("This node is not paired")) == 1, "it says so once"
        assert not process.find("Traceback"), process.failure("it waits in silence")

        (cluster.watched / "unpaired").mkdir()
        shutil.copy(node.cbdir / "key.pub", cluster.watched / "unpaired" / "key.pub")
        await cluster.master.running.line("Auto-paired node.*authid=unpaired", timeout_s=40)
        assert await until_callable(cluster, node, CALLABLE_S) < 7.5
    finally:
        await process.kill()


async def test_a_key_file_takes_no_node_s_name_and_one_that_is_malformed_stops_no_other(small):
    cluster, _ = small
    was = await cluster.manage("get_node_by_authid", "node1")

    def shown(folder: str, text: str) -> None:
        (cluster.watched / folder).mkdir()
        (cluster.watched / folder / "key.pub").write_text(text)

    shown("0malformed", "A title\n\nnothing of the kind\n")
    shown("1thief", f"A title\n\nnode-authid: node1\npublic-key-ed25519: {'ab' * 32}\n")
    shown("2honest", f"A title\n\nnode-authid: honest\npublic-key-ed25519: {'cd' * 32}\n")
    await cluster.master.running.line("Auto-paired node.*authid=honest", timeout_s=40)
    assert (await cluster.manage("get_node_by_authid", "node1"))["pubkey"] == was["pubkey"]
    assert (await cluster.record(cluster.nodes["node1"]))["oid"] == was["oid"]
    master = cluster.master.running
    await master.line("No node is paired by .*0malformed/key.pub: it holds no public key")
    await master.line(f"No node is paired by .*1thief/key.pub: a node named node1 is paired already.*{was['pubkey']}")
    assert "ab" * 32 not in {node["pubkey"] for node in (await cluster.status())["nodes"]}


async def test_a_node_that_is_started_before_its_key_is_found_ends_up_managed(small):
    """Its activation file appears beside its key while it waits: it restarts in place and uses the address there."""
    cluster, network = small
    node = cluster.add_node("early", network.host())
    await cluster.make_key(node)
    process = await cluster.start(node)
    await cluster.master.running.line("Auto-paired node.*authid=early", timeout_s=40)
    await until_callable(cluster, node, CALLABLE_S)
    await asyncio.sleep(2)  # the file is looked for every second
    assert process.running
    await until_callable(cluster, node, CALLABLE_S)
    assert not process.find("Traceback")


async def test_a_master_that_has_moved_is_found(small):
    cluster, network = small
    moved = copy_of(cluster.nodes["node1"], "moved", network.host(), cluster)
    await cluster.nodes["node1"].running.kill()
    cluster.nodes["node1"] = moved
    nowhere = f"ws://{network.host().address}:{MASTER_PORT}/ws"
    activation = moved.cbdir / "key.activate"
    lines = [f"management-url: {nowhere}" if "management-url" in line else line for line in activation.open()]
    activation.write_text("\n".join(line.rstrip("\n") for line in lines) + "\n")
    process = await cluster.start(moved)
    await until_callable(cluster, moved, CALLABLE_S)
    turned = process.find("does not answer.*trying .* from CROSSBAR_FABRIC_URL")
    assert len(turned) == 1 and nowhere in turned[0].text
    assert nowhere in activation.read_text(), "the file is never rewritten"


@pytest.mark.parametrize("worker", ["cfrouter1", "cfrealmmanager1", "cfcontainer1"])
async def test_a_master_whose_worker_is_killed_manages_all_nodes_again(small, worker):
    cluster, _ = small
    node = cluster.nodes["node1"]
    await until_callable(cluster, node, CALLABLE_S)
    master = cluster.master.running
    since = master.mark()
    killed, began = worker_pid(cluster.master, worker), time.monotonic()
    os.kill(killed, SIGKILL)

    async def there_is_another():
        return worker_pid(cluster.master, worker) != killed

    await until(there_is_another, 60)
    await managed_again(cluster, node, began + 90)
    print(f"{worker}: all nodes are managed again after {time.monotonic() - began:.1f} s")
    assert master.running, "the same process, for whatever supervises it"
    assert len(master.find(f"The master's worker {worker} has died: restarting", since=since)) == 1


async def test_a_worker_of_the_master_that_dies_while_it_starts_does_not_stop_the_master_for_good(small):
    cluster, _ = small
    process = cluster.master.running
    since = process.mark()
    os.kill(worker_pid(cluster.master, "cfcontainer1"), SIGKILL)
    await process.line('Starting container-worker "cfcontainer1"', since=since, timeout_s=60)
    running = {worker_pid(cluster.master, worker) for worker in ("cfrouter1", "cfrealmmanager1")} | {process.pid}
    while not (starting := set(group_members(process.pid)) - running):
        await asyncio.sleep(0.01)
    again = process.mark()
    os.kill(starting.pop(), SIGKILL)
    await process.line("The master's worker cfcontainer1 has died: restarting", since=again, timeout_s=30)
    await managed_again(cluster, cluster.nodes["node1"], time.monotonic() + 60)


async def managed_again(cluster: Cluster, node: Node, deadline: float) -> None:
    """Wait until the management controller itself reaches the node."""
    while True:
        try:
            await cluster.call("crossbarfabriccenter.remote.node.get_status", node.oid, timeout_s=2)
            return
        except Exception:
            if time.monotonic() > deadline:
                raise
        await asyncio.sleep(0.1)


def worker_pid(node: Node, worker: str) -> int:
    """The process of a node's worker, as it is now. (Workers hide their arguments behind a title.)"""
    attached = node.running.find(rf'session attached .*authrole="crossbar.worker.{worker}"')
    found = re.search(r'authid="crossbar.process.(\d+)"', attached[-1].text)
    assert found is not None
    return int(found[1])


# -- silent loss ----------------------------------------------------------------------------------------------------


@pytest.mark.skipif(available() is not None, reason=str(available()))
async def test_both_sides_notice_a_silent_loss(tmp_path):
    """Within 10 s, wherever between two pings the loss comes. (The release needs 15 s at worst.)"""
    network = NamespaceNetwork()
    try:
        master, client, host = (network.host() for _ in range(3))
        async with Cluster(tmp_path, master, client, PATCHED) as cluster:
            node = cluster.add_node("node1", host)
            await cluster.boot()
            await asyncio.sleep(6)  # heartbeats have begun: there is traffic that a loss interrupts
            lost = time.monotonic()
            since = node.running.mark()
            host.link(up=False)

            at_master, line = await asyncio.gather(
                until(gone(cluster, "node1"), NOTICED_S + 1),
                node.running.line("manager detached for node", since=since, timeout_s=NOTICED_S + 5),
            )
            print(f"noticed by the master after {at_master:.1f} s, by the node after {line.at - lost:.1f} s")
            assert at_master < NOTICED_S
            assert line.at - lost < NOTICED_S
            host.link(up=True)
            took = await until_callable(cluster, node, 15)
            print(f"callable {took:.1f} s after the link")
            assert took < 10
    finally:
        network.close()
