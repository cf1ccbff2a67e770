"""The control plane on a real cluster: configuration is followed, at any time and in any order, and nothing ends it."""

import asyncio
import json
import os
import signal
import time

import pytest
import pytest_asyncio
from autobahn.wamp.exception import ApplicationError
from autobahn.wamp.types import PublishOptions

from crossbar_cluster.lab.client import join
from crossbar_cluster.lab.cluster import MASTER_PORT, Cluster, Node, Realm, loopback_cluster

from .conftest import command

WORKER = "crossbarfabriccenter.remote.node.get_worker"


async def status_when(cluster: Cluster, holds, timeout_s: float = 30.0) -> dict:
    """The first status document for which ``holds`` is true."""
    deadline = time.monotonic() + timeout_s
    while True:
        status = await cluster.status()
        if holds(status):
            return status
        assert time.monotonic() < deadline, f"not within {timeout_s:g} s; the last status was {status}"
        await asyncio.sleep(0.1)


async def stopped(cluster: Cluster, realm: str) -> None:
    """Wait until the realm has come to a stop."""
    await status_when(cluster, lambda s: (realm, "STOPPED") in {(r["name"], r["status"]) for r in s["realms"]})


async def converged(cluster: Cluster, timeout_s: float = 30.0) -> dict:
    return await status_when(cluster, lambda status: not status["problems"], timeout_s)


async def not_served(cluster: Cluster, realm: str, proxy: Node, within_s: float = 15.0) -> None:
    """Wait until nobody can join the realm."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        try:
            client = await cluster.client(realm, proxy, timeout_s=2.0)
        except ConnectionError:
            return
        await client.close()
        await asyncio.sleep(0.1)
    raise AssertionError(f"clients can still join {realm} after {within_s:g} s")


async def worker_of(cluster: Cluster, node: Node, kind: str) -> str:
    status = await cluster.status()
    return next(w["worker"] for w in status["workers"] if w["node"] == node.name and w["kind"] == kind)


class Configured:
    """A cluster that was configured in full before any node of it was started."""

    def __init__(self, cluster: Cluster, network) -> None:
        self.cluster = cluster
        self.network = network
        names = ("router1", "router2", "proxy1", "proxy2")
        self.router1, self.router2, self.proxy1, self.proxy2 = (cluster.add_node(n, network.host()) for n in names)
        self.realm1 = self.realm2 = Realm("", "", "")

    async def configure(self) -> None:
        cluster = self.cluster
        nodes = dict(cluster.nodes)
        for node in nodes.values():
            await cluster.make_key(node)  # the master pairs what it finds
        cluster.nodes.clear()
        await cluster.boot()
        for node in nodes.values():
            cluster.nodes[node.name] = node
            await status_when(cluster, lambda s, name=node.name: name in {n["name"] for n in s["nodes"]})
            node.oid = (await cluster.record(node))["oid"]
        await cluster.start_webcluster(self.proxy1, self.proxy2)
        self.realm1 = await cluster.start_realm("realm1", self.router1)
        self.realm2 = await cluster.start_realm("realm2", self.router2)


@pytest_asyncio.fixture(scope="module")
async def configured(tmp_path_factory):
    async with loopback_cluster(tmp_path_factory.mktemp("plane")) as (cluster, network):
        it = Configured(cluster, network)
        await it.configure()
        yield it


async def test_configuration_comes_before_the_nodes(configured):
    """Everything has been configured; no node has ever been started. They fall into place, in whatever order."""
    cluster = configured.cluster

    def is_told(status: dict) -> bool:  # each worker has been looked at once
        reasons = {problem["reason"] for problem in status["problems"]}
        return len(status["workers"]) == 4 and "node router1 is not connected" in reasons

    status = await status_when(cluster, is_told)
    assert {node["status"] for node in status["nodes"]} == {"offline"}
    assert {realm["status"] for realm in status["realms"]} == {"STARTING"}
    for node in (configured.proxy1, configured.router2, configured.router1, configured.proxy2):
        await cluster.start(node)
    for realm in ("realm1", "realm2"):
        for proxy in (configured.proxy1, configured.proxy2):
            await cluster.served(realm, proxy)
    status = await converged(cluster)
    assert {realm["status"] for realm in status["realms"]} == {"RUNNING"}
    assert {cluster["status"] for cluster in status["webclusters"]} == {"RUNNING"}
    assert {node["status"] for node in status["nodes"]} == {"online"}


async def test_the_status_shows_where_everything_is(configured):
    cluster = configured.cluster
    status = await converged(cluster)
    nodes = {node["name"]: node for node in status["nodes"]}
    assert nodes["router1"]["address"] == configured.router1.host.address
    assert nodes["router1"]["address_source"] == "environment"
    assert nodes["router1"]["since"] <= status["now"]
    router = next(w for w in status["workers"] if w["node"] == "router1")
    assert (router["state"], router["realms"]) == ("converged", ["realm1"])
    proxy = next(w for w in status["workers"] if w["node"] == "proxy2")
    connection = {c["id"]: (c["host"], c["port"]) for c in proxy["connections"]}[f"cnc_router1_{router['worker']}"]
    assert connection == (configured.router1.host.address, router["port"])
    assert {"realm": "realm1", "roles": {"anonymous": f"cnc_router1_{router['worker']}"}} in proxy["routes"]
    assert proxy["services"] == ["ws"]


async def test_while_nothing_changes_no_node_is_called(configured):
    cluster = configured.cluster
    before = (await converged(cluster))["master"]["calls"]
    await asyncio.sleep(5.0)  # the passing of time is what is tested
    after = (await cluster.status())["master"]["calls"]
    assert after - before <= 4, "at most one sweep, with one call for each worker"


@pytest.mark.parametrize("kind", ["router", "proxy"])
async def test_a_worker_that_dies_alone_is_back_at_once(configured, kind):
    cluster = configured.cluster
    node = configured.router1 if kind == "router" else configured.proxy1
    await cluster.served("realm1", configured.proxy1)
    worker = await worker_of(cluster, node, kind)
    pid = (await cluster.call(WORKER, node.oid, worker))["pid"]
    mark = cluster.master.running.mark()
    os.kill(pid, signal.SIGKILL)
    await cluster.master.running.line(f"worker {worker} on {node.name}: worker started", since=mark, timeout_s=10)
    await cluster.served("realm1", configured.proxy1, 20)
    assert (await cluster.call(WORKER, node.oid, worker))["pid"] != pid


async def test_a_realm_stops_and_starts_and_can_be_deleted(configured):
    cluster, realm = configured.cluster, configured.realm2
    await cluster.served("realm2", configured.proxy1)
    await cluster.manage("arealm.stop_arealm", realm.oid)
    await stopped(cluster, "realm2")
    await not_served(cluster, "realm2", configured.proxy1)
    status = await status_when(cluster, lambda s: not any(w["node"] == "router2" for w in s["workers"]))
    assert all(route["realm"] != "realm2" for w in status["workers"] for route in w.get("routes", ()))
    await cluster.served("realm1", configured.proxy1, 5)
    await cluster.manage("arealm.start_arealm", realm.oid, realm.workergroup, cluster.webcluster)
    await cluster.served("realm2", configured.proxy1, 20)
    await cluster.manage("arealm.stop_arealm", realm.oid)
    await stopped(cluster, "realm2")
    await cluster.manage("arealm.delete_arealm", realm.oid)
    configured.realm2 = await cluster.start_realm_on("realm2", realm.workergroup)
    await cluster.served("realm2", configured.proxy1, 20)
    await converged(cluster)


async def test_a_stop_is_not_forgotten_by_a_master_that_is_killed(configured):
    """What is to run no more is found again and ended: nothing in the database names it any longer."""
    cluster, realm = configured.cluster, configured.realm2
    await cluster.served("realm2", configured.proxy1)
    await cluster.manage("arealm.stop_arealm", realm.oid)
    await cluster.master.running.kill()
    await cluster.start_master()
    await stopped(cluster, "realm2")
    await not_served(cluster, "realm2", configured.proxy1)
    await status_when(cluster, lambda s: not any(w["node"] == "router2" for w in s["workers"]))
    with pytest.raises(ApplicationError, match="no_such_worker"):
        await cluster.call(WORKER, configured.router2.oid, "group_realm2_1")
    await cluster.served("realm1", configured.proxy1, 5)
    await cluster.manage("arealm.start_arealm", realm.oid, realm.workergroup, cluster.webcluster)
    await cluster.served("realm2", configured.proxy1, 20)
    await converged(cluster)


async def test_a_node_is_drained_onto_one_that_is_there(configured):
    """Clients are served by the new worker before the former one ends; a member that is away gets nothing."""
    cluster = configured.cluster
    routers = (await cluster.manage("routercluster.get_routercluster_by_name", "routers_realm1"))["oid"]
    absent = cluster.add_node("absent", configured.network.host())
    await cluster.make_key(absent)
    await status_when(cluster, lambda s: "absent" in {node["name"] for node in s["nodes"]})  # the master has paired it
    absent.oid = (await cluster.record(absent))["oid"]
    for node in (absent, configured.router2):
        await cluster.manage("routercluster.add_routercluster_node", routers, node.oid, {})
    changes = await cluster.manage("routercluster.drain_node", "router1")
    assert [(c["from_node"], c["to_node"]) for c in changes] == [("router1", "router2")]
    status = await status_when(cluster, lambda s: not any(w["node"] == "router1" for w in s["workers"]))
    assert {"node": "router2", "worker": "group_realm1_1"} in status["groups"][0]["placements"]
    await cluster.served("realm1", configured.proxy1, 5)
    await cluster.manage("routercluster.undrain_node", "router1")
    await cluster.manage("routercluster.remove_routercluster_node", routers, configured.router2.oid)
    await cluster.served("realm1", configured.proxy1, 20)
    await cluster.manage("routercluster.remove_routercluster_node", routers, absent.oid)
    del cluster.nodes["absent"]
    await status_when(cluster, lambda s: "router1" in {w["node"] for w in s["workers"]})
    await converged(cluster)


async def test_a_web_cluster_stops_and_starts(configured):
    cluster = configured.cluster
    await cluster.manage("webcluster.stop_webcluster", cluster.webcluster)
    status = await status_when(cluster, lambda s: [w["status"] for w in s["webclusters"]] == ["STOPPED"])
    assert not [w for w in status["workers"] if w["kind"] == "proxy"], "its workers have ended"
    await cluster.manage("webcluster.start_webcluster", cluster.webcluster)
    await cluster.served("realm1", configured.proxy1, 20)
    await cluster.served("realm2", configured.proxy2, 20)
    await converged(cluster)


async def test_a_router_cluster_stops_once_no_realm_runs_on_it(configured):
    cluster = configured.cluster
    routers = (await cluster.manage("routercluster.get_routercluster_by_name", "routers_realm2"))["oid"]
    await cluster.manage("routercluster.stop_routercluster", routers)
    status = await status_when(cluster, lambda s: any("routers_realm2" in p["object"] for p in s["problems"]))
    assert any("realm2. Stop them" in problem["reason"] for problem in status["problems"])
    await cluster.served("realm2", configured.proxy1, 5)
    await cluster.manage("arealm.stop_arealm", configured.realm2.oid)
    deadline = time.monotonic() + 20
    while (await cluster.manage("routercluster.get_routercluster", routers))["status"] != "STOPPED":
        assert time.monotonic() < deadline
        await asyncio.sleep(0.1)
    await stopped(cluster, "realm2")
    await cluster.manage("routercluster.start_routercluster", routers)
    realm = configured.realm2
    await cluster.manage("arealm.start_arealm", realm.oid, realm.workergroup, cluster.webcluster)
    await cluster.served("realm2", configured.proxy1, 20)
    await converged(cluster)


async def test_a_role_and_its_permissions_reach_the_workers_at_once(configured):
    """Added, changed and taken away while a client is connected, which keeps its session."""
    cluster = configured.cluster
    client = await cluster.client("realm1", configured.proxy1)
    role = (await cluster.manage("arealm.get_role_by_name", "anonymous"))["oid"]
    await client.register(lambda: "called", "test.procedure")
    assert await client.call("test.procedure") == "called"
    await cluster.manage("arealm.add_role_permission", role, "test.closed.", {"match": "prefix", "allow_call": True})
    mark = cluster.master.running.mark()
    await cluster.master.running.line("role anonymous of realm realm1 updated", since=max(0, mark - 40), timeout_s=10)
    with pytest.raises(ApplicationError, match="not_authorized"):
        await client.register(lambda: "called", "test.closed.procedure")
    assert await client.call("test.procedure") == "called"
    await client.close()
    await converged(cluster)


async def test_a_proxy_node_that_is_added_serves_at_once(configured):
    cluster = configured.cluster
    proxy3 = cluster.add_node("proxy3", configured.network.host())
    await cluster.make_key(proxy3)
    await cluster.bring_up(proxy3)
    added = time.monotonic()
    await cluster.manage("webcluster.add_webcluster_node", cluster.webcluster, proxy3.oid, {"parallel": 1})
    await cluster.served("realm1", proxy3, 15, added)
    await cluster.served("realm2", proxy3, 5)
    await cluster.manage("webcluster.remove_webcluster_node", cluster.webcluster, proxy3.oid)
    await status_when(cluster, lambda s: not any(w["node"] == "proxy3" for w in s["workers"]))
    with pytest.raises(ConnectionError):
        await cluster.client("realm1", proxy3, timeout_s=3)
    await proxy3.running.kill()
    del cluster.nodes["proxy3"]


async def test_events_that_make_no_sense_harm_nobody(configured):
    """In the release each of these restarts the management controller, which then knows no node any more."""
    cluster = configured.cluster
    started = (await converged(cluster))["master"]["started"]
    mark = cluster.master.running.mark()
    node = await join(
        cluster.client_host, cluster.master.host.address, MASTER_PORT, None,
        key=cluster.node_key(configured.proxy2), authrole="node",
    )  # fmt: skip
    acknowledged = PublishOptions(acknowledge=True)
    prefix = "crossbarfabriccenter.node."
    for authid in ("proxy2", "router1", "nobody"):
        await node.publish(prefix + "on_heartbeat", authid, {}, options=acknowledged)
        await node.publish(prefix + "on_heartbeat", authid, {"timestamp": 1, "seq": "x"}, options=acknowledged)
        await node.publish(prefix + "on_worker_heartbeat", authid, "w", {"timestamp": "x"}, options=acknowledged)
    await node.publish(prefix + "on_heartbeat", options=acknowledged)
    await node.publish(prefix + "proxy2.on_ready", options=acknowledged)
    with pytest.raises(ApplicationError, match="not_authorized"):
        await node.publish(prefix + "router1.on_shutdown", {"node_id": "router1"}, options=acknowledged)
    await node.publish(prefix + "proxy2.on_worker_gone", 1, 2, x=3, options=acknowledged)
    await node.publish(prefix + "proxy2.worker.w.on_backend_unreachable", {"no": "string"}, options=acknowledged)
    await node.close()
    status = await converged(cluster)
    assert status["master"]["started"] == started, "the management controller was restarted"
    started_nodes = {"router1", "router2", "proxy1", "proxy2"}
    assert {n["status"] for n in status["nodes"] if n["name"] in started_nodes} == {"online"}
    await cluster.master.running.line("heartbeat of node router1 from proxy2 is ignored", since=mark, timeout_s=5)
    await cluster.served("realm1", configured.proxy1, 5)


async def test_a_heartbeat_of_a_node_is_nothing_to_warn_of(configured):
    """Nodes send no public key with it. The release warns of each, every 10 s for each node."""
    cluster = configured.cluster
    node = await join(
        cluster.client_host, cluster.master.host.address, MASTER_PORT, None,
        key=cluster.node_key(configured.proxy2), authrole="node",
    )  # fmt: skip
    acknowledged = PublishOptions(acknowledge=True)
    for authid in ("proxy2", "barrier"):  # the second one is ignored, with a line in the log
        heartbeat = {"timestamp": time.time_ns(), "period": 10, "seq": 1, "workers": {}}
        await node.publish("crossbarfabriccenter.node.on_heartbeat", authid, heartbeat, options=acknowledged)
    await cluster.master.running.line("heartbeat of node barrier from proxy2 is ignored")
    assert not cluster.master.running.find("heartbeat pubkey does not match")
    await node.close()


async def test_a_realm_that_cannot_start_is_told_and_holds_up_nobody(configured):
    cluster = configured.cluster
    group = configured.realm1.workergroup
    mark = cluster.master.running.mark()
    broken = await cluster.start_realm_on("two words", group)
    await cluster.master.running.line("start_router_realm failed with", since=mark, timeout_s=15)
    await cluster.start_realm_on("realm1c", group)
    await cluster.served("realm1c", configured.proxy1, 15)
    await cluster.served("realm1", configured.proxy1, 5)
    status = await cluster.status()
    assert any("two words" in str(p) or "start_router_realm" in p["reason"] for p in status["problems"])
    await cluster.manage("arealm.stop_arealm", broken.oid)
    await converged(cluster)


async def test_the_command_shows_it(configured):
    """`crossbar-cluster status`, as an operator types it."""
    cluster = configured.cluster
    await converged(cluster)
    code, text, err = await command(cluster, "status")
    assert code == 0, text + err
    for expected in ("converged", "router1", configured.router1.host.address, "realm1", "proxy2", "group_realm1_1"):
        assert expected in text
    code, text, _ = await command(cluster, "status", "--json")
    assert code == 0
    assert json.loads(text)["problems"] == []
    await configured.router2.running.kill()
    await status_when(cluster, lambda s: bool(s["problems"]))
    code, text, _ = await command(cluster, "status")
    assert code == 1
    assert "node router2 is not connected" in text
    await cluster.start(configured.router2)
    await cluster.served("realm2", configured.proxy1, 20)
