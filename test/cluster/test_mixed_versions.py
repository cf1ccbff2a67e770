"""Patched and released nodes in one cluster: no worse than the release alone, and the log says so."""

import asyncio
import time
from pathlib import Path

import psutil
import pytest

from crossbar_cluster.core.router import LISTENING_PORTS
from crossbar_cluster.lab.client import JoinFailed
from crossbar_cluster.lab.cluster import loopback_cluster


async def realm_on(cluster, network, master_patched, nodes_patched):
    cluster.master.patched = master_patched
    router, proxy = (cluster.add_node(name, network.host(), patched=nodes_patched) for name in ("router1", "proxy1"))
    return router, proxy


async def configure(cluster, router, proxy):
    await cluster.start_webcluster(proxy)
    await cluster.start_realm("realm1", router)
    await cluster.served("realm1", proxy)


async def nothing_is_left_on_the_ports_of(node, within_s=90.0):
    """Wait until a router's next life gets the port it has now.

    A connection that the router's end closes first blocks the port for a minute; the router then takes another one,
    and released proxies never find it there.
    """
    deadline = time.monotonic() + within_s
    while left := [
        connection
        for connection in psutil.net_connections("tcp")
        if connection.laddr.ip == node.host.address
        and connection.laddr.port in LISTENING_PORTS
        and connection.status != psutil.CONN_LISTEN
    ]:
        assert time.monotonic() < deadline, left
        await asyncio.sleep(0.1)


async def router_refuses(cluster, router, proxy, within_s=60.0):
    """Let a client try until the router has said why it lets the proxy not in. :returns: what it said."""
    caller = cluster.caller("realm1", proxy)
    caller.start()
    try:
        return (await router.running.line("is refused: it does not prove it", timeout_s=within_s)).text
    finally:
        await caller.stop()


async def router_worker_is_patched(cluster, router):
    """Whether the overlay is at work in the router worker: only then is wrapt's extension module mapped."""
    worker = await cluster.call("crossbarfabriccenter.remote.node.get_worker", router.oid, "group_realm1_1")
    return "/wrapt/" in Path(f"/proc/{worker['pid']}/maps").read_text()


async def test_patched_master_with_released_nodes(tmp_path):
    async with loopback_cluster(tmp_path) as (cluster, network):
        router, proxy = await realm_on(cluster, network, master_patched=True, nodes_patched=False)
        await cluster.boot()
        assert "node-cluster-ip" in (router.cbdir / "key.pub").read_text(), "made by the release"
        await configure(cluster, router, proxy)
        # the address of the key file, as the release has it
        assert (await cluster.record(router))["cluster_ip"] == router.host.address
        assert not await router_worker_is_patched(cluster, router), (
            "it inherits PYTHONPATH only, and the switch with it"
        )
        line = await cluster.master.running.line("Node router1 runs without crossbar-cluster")
        assert router.host.address in line.text and "Install crossbar-cluster" in line.text
        # the same address, after a restart: served again
        await nothing_is_left_on_the_ports_of(router)
        await cluster.move(router, router.host)
        await cluster.served("realm1", proxy)


async def test_a_released_proxy_gets_in_where_that_is_asked_for_and_cannot_follow(tmp_path):
    """It cannot answer a challenge (it looks for the answer under a wrong name). Router and master say so."""
    async with loopback_cluster(tmp_path) as (cluster, network):
        router, proxy = await realm_on(cluster, network, master_patched=True, nodes_patched=True)
        proxy.patched = False
        await cluster.boot()
        await cluster.start_webcluster(proxy)
        await cluster.start_realm("realm1", router)
        refused = await router_refuses(cluster, router, proxy)
        assert "proxy1" in refused and "CROSSBAR_CLUSTER_UNPROVEN_PROXIES=accept" in refused
        await router.running.kill()
        await nothing_is_left_on_the_ports_of(router)  # at another port the released proxy would not look for it
        router.settings["CROSSBAR_CLUSTER_UNPROVEN_PROXIES"] = "accept"
        await cluster.start(router)
        await cluster.served("realm1", proxy)
        assert router.running.find("proxy node proxy1 is let in without any proof")
        assert await router_worker_is_patched(cluster, router)
        was = router.host.address
        mark = cluster.master.running.mark()
        await cluster.move(router, network.host())
        line = await cluster.master.running.line("this proxy runs without crossbar-cluster", since=mark)
        assert "proxy1" in line.text and was in line.text and router.host.address in line.text
        # what the message advises
        await cluster.move(proxy, proxy.host)
        await cluster.served("realm1", proxy)


async def test_a_released_router_is_taken_by_its_name_unless_that_is_not_good_enough(tmp_path):
    async with loopback_cluster(tmp_path) as (cluster, network):
        router, proxy = await realm_on(cluster, network, master_patched=True, nodes_patched=True)
        router.patched = False
        await cluster.boot()
        await configure(cluster, router, proxy)
        line = await proxy.running.line("cannot prove who it is: it is taken by its name")
        assert "Install crossbar-cluster on node router1" in line.text
        assert len(proxy.running.find("taken by its name")) == 1
        await proxy.running.kill()
        proxy.settings["CROSSBAR_CLUSTER_UNPROVEN_ROUTERS"] = "refuse"
        await cluster.start(proxy)
        await proxy.running.line("CROSSBAR_CLUSTER_UNPROVEN_ROUTERS says to refuse it here", timeout_s=30)
        with pytest.raises(JoinFailed):
            await cluster.client("realm1", proxy, 20.0)


async def test_released_master_with_patched_nodes(tmp_path):
    async with loopback_cluster(tmp_path) as (cluster, network):
        router, proxy = await realm_on(cluster, network, master_patched=False, nodes_patched=False)
        # nodes that were made and paired with the release, and patched later
        for node in (router, proxy):
            await cluster.make_key(node)
            node.patched = True
        await cluster.boot()
        await configure(cluster, router, proxy)
        assert (await cluster.record(router))["cluster_ip"] == router.host.address
        assert not router.running.find("has .* on record as this node's address")
        was = router.host.address
        await cluster.move(router, network.host())
        line = await router.running.line("on record as this node's address")
        assert was in line.text and router.host.address in line.text and "CROSSBAR_NODE_CLUSTER_IP" in line.text


@pytest.mark.parametrize("named", [False, True], ids=["address", "host name"])
async def test_the_release_alone(tmp_path, named):
    """The defect that all of this is about. By host name and with an unchanged port even the release comes back."""
    async with loopback_cluster(tmp_path, patched=False) as (cluster, network):
        router, proxy = await realm_on(cluster, network, master_patched=False, nodes_patched=False)
        if named:
            network.name("router1.lab", router.host.address)
            router.cluster_ip = "router1.lab"
        await cluster.boot()
        await configure(cluster, router, proxy)
        host = network.host()
        if named:
            await nothing_is_left_on_the_ports_of(router)
            network.name("router1.lab", host.address)
        await cluster.move(router, host, "router1.lab" if named else "")
        if named:
            await cluster.served("realm1", proxy)
        else:
            with pytest.raises(JoinFailed, match="Connection was refused"):
                await cluster.served("realm1", proxy, 30)
