"""A realm is configured before any node exists, is served when they come, and leaves a node that is to go."""

import asyncio
import time

import pytest
import pytest_asyncio
from autobahn.wamp.exception import ApplicationError

from crossbar_cluster.lab.cluster import loopback_cluster

from .conftest import PATCHED, RECOVERY_S

GROUP = {"name": "group1", "scale": 1}


class Configured:
    """A master that knows a realm and its clusters; its nodes come later."""

    def __init__(self, cluster, network):
        self.cluster, self.network = cluster, network

    async def configure(self):
        await self.cluster.start_webcluster()
        self.routers = (await self.manage("create_routercluster", {"name": "routers"}))["oid"]
        self.group = (await self.manage("add_routercluster_workergroup", self.routers, GROUP))["oid"]
        await self.manage("start_routercluster", self.routers)
        self.realm = await self.cluster.start_realm_on("realm1", self.group)

    async def manage(self, procedure, *args):
        return await self.cluster.manage(f"routercluster.{procedure}", *args)

    async def bring(self, name):
        """A node comes."""
        node = self.cluster.add_node(name, self.network.host())
        await self.cluster.make_key(node)
        await self.cluster.bring_up(node)
        return node

    async def until_stopped(self, procedure, oid):
        deadline = time.monotonic() + RECOVERY_S
        while (status := (await self.cluster.manage(procedure, oid))["status"]) != "STOPPED":
            assert time.monotonic() < deadline, status
            await asyncio.sleep(0.1)

    async def until_forgotten(self):
        """The status shows no worker group any more."""
        async with asyncio.timeout(5.0):
            while (await self.cluster.manage("get_cluster_status"))["groups"]:
                await asyncio.sleep(0.1)


@pytest_asyncio.fixture(scope="module")
async def configured(tmp_path_factory):
    async with loopback_cluster(tmp_path_factory.mktemp("placements"), patched=PATCHED) as (cluster, network):
        await cluster.boot()
        configured = Configured(cluster, network)
        await configured.configure()
        yield configured


def change(what, from_node, to_node):
    return {"group": "group1", "worker": "group1_1", "what": what, "from_node": from_node, "to_node": to_node}


async def refusal(call):
    with pytest.raises(ApplicationError) as refused:
        await call
    return refused.value.error, refused.value.args[0]


@pytest.mark.slow
async def test_a_configured_realm_is_served_when_its_nodes_come_and_leaves_one_that_is_drained(configured):
    cluster = configured.cluster
    proxy1 = await configured.bring("proxy1")
    await cluster.manage("webcluster.add_webcluster_node", cluster.webcluster, proxy1.oid, {"parallel": 1})
    router1, router2 = await configured.bring("router1"), await configured.bring("router2")
    await configured.manage("add_routercluster_node", configured.routers, router1.oid, {})
    await cluster.served("realm1", proxy1, RECOVERY_S)

    assert await refusal(configured.manage("drain_node", "router1")) == (
        "crossbar.error.no_capacity",
        "router worker group1_1 (worker group group1) cannot be moved from node router1: no other node of its router "
        "cluster may take it. Add a node to the cluster, raise a hard limit or undrain a node, then try again",
    )
    await configured.manage("add_routercluster_node", configured.routers, router2.oid, {})
    assert await configured.manage("drain_node", "router1") == [change("moved", "router1", "router2")]
    await router1.running.kill()
    await cluster.served("realm1", proxy1, RECOVERY_S)

    await cluster.start(router1)
    await configured.manage("undrain_node", "router1")
    assert await configured.manage("move_placements", "router2", "router1") == [change("moved", "router2", "router1")]
    await router2.running.kill()
    await cluster.served("realm1", proxy1, RECOVERY_S)


async def test_a_group_goes_when_its_realm_is_stopped(configured):
    cluster = configured.cluster
    error, says = await refusal(
        configured.manage("remove_routercluster_workergroup", configured.routers, configured.group)
    )
    assert error == "crossbar.error.dependent_objects"
    assert "realm1" in says

    await cluster.manage("arealm.stop_arealm", configured.realm.oid)
    await configured.until_stopped("arealm.get_arealm", configured.realm.oid)
    await configured.manage("stop_routercluster", configured.routers)
    await configured.until_stopped("routercluster.get_routercluster", configured.routers)
    await configured.manage("remove_routercluster_workergroup", configured.routers, configured.group)
    await configured.until_forgotten()
    await configured.manage("delete_routercluster", configured.routers)
    assert await configured.manage("list_routerclusters") == []
