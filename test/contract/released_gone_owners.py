"""What a control plane keeps of nodes is gone when they are: nodes come, flood, go, and are forgotten, by the dozen.

Every map, set, list and loop that can be reached from the management controller's plane is counted.
"""

import dataclasses
import gc
import uuid

from .master_world import SNAPSHOT

NODES = 60


def sizes(root):
    """Number of elements of every collection that can be reached from an object of ours, by where it is."""
    found, seen, left = {}, set(), [("plane", root)]
    while left:
        path, it = left.pop()
        if id(it) in seen:
            continue
        seen.add(id(it))
        if isinstance(it, (dict, list, set, frozenset, tuple)):
            found[path] = found.get(path, 0) + len(it)
            values = [*it.keys(), *it.values()] if isinstance(it, dict) else list(it)
            left += [(f"{path}[]", value) for value in values]
        elif type(it).__module__.startswith("crossbar_cluster"):
            names = list(getattr(it, "__dict__", ())) + [
                s for c in type(it).__mro__ for s in getattr(c, "__slots__", ())
            ]
            left += [(f"{path}.{name}", getattr(it, name)) for name in names if hasattr(it, name) and name != "log"]
    return found


def come_and_go(master, number):
    """So many proxies pair themselves, run a worker, tell this and that, go, and are forgotten."""
    names = [f"proxy{uuid.uuid4().hex[:8]}" for _ in range(number)]
    for name in names:
        oid = master.node(name, by_token=True)
        with master.db.begin(write=True) as txn:
            from cfxdb.mrealm import WebClusterNodeMembership

            member = WebClusterNodeMembership(cluster_oid=master.web, node_oid=oid, parallel=1)
            master.schema.webcluster_node_memberships[txn, (master.web, oid)] = member
        master.answers[f"{name}.get_workers"] = lambda types: ["by-hand"]
    master.plane.configuration_changed()
    sessions = [master.joins(name, 1000 + master.asked.total() + index) for index, name in enumerate(names)]
    master.runs(5)
    for name in names:
        for _ in range(600):
            master.event("_on_worker_heartbeat", name, "by-hand", {}, publisher=name)
        beat = {"timestamp": 1, "seq": 1, "type": "router"}
        master.event("_on_worker_heartbeat", name, "invented", beat, publisher=name)
        master.event("_on_something_ended", publisher=name)
        for index in range(300):
            master.event("_on_backend_unreachable", f"cnc_{index}", publisher=name)
        master.event("_on_router_link_changed", "w", publisher=name)
    master.runs(5)
    for session in sessions:
        master.leaves(session)
    master.runs(3600 * 1.3, 5)
    assert not set(names) & master.names(), "they are forgotten"
    for name in names:
        del master.answers[f"{name}.get_workers"]


def strangers_come_and_go(master, number):
    """Sessions of nodes that are not paired here: their record has gone since they were let in."""
    for index in range(number):
        session = master.joins(f"stranger{uuid.uuid4().hex[:8]}", 500_000 + index)
        master.leaves(session)


def test_nothing_is_kept_of_nodes_that_are_gone(master):
    router = master.node("router1")
    master.realm_on(router)
    master.web = master.web_cluster()
    master.answers["router1.worker.group_1.get_router_snapshot"] = SNAPSHOT
    master.answers["router1.worker.group_1.get_router_guests"] = []
    master.joins("router1", 1)
    master.runs(130)
    master.lines.clear()
    before = sizes(master.plane)
    assert before["plane.reconcilers"] == 1
    come_and_go(master, NODES)
    strangers_come_and_go(master, NODES)
    master.runs(200)
    gc.collect()
    after = sizes(master.plane)
    grown = {path: (before.get(path, 0), size) for path, size in after.items() if size > before.get(path, 0) + 10}
    assert not grown, grown
    assert not master.controller._nodes.keys() - {str(router)}
    assert len(master.clock.getDelayedCalls()) < 10
    assert not master.told("Traceback")


def test_the_count_sees_what_is_kept(master):
    """The test above would pass if it counted nothing."""
    before = sizes(master.plane)
    for index in range(50):
        master.joins(f"stranger{index}", 10 + index)
    grown = {path for path, size in sizes(master.plane).items() if size > before.get(path, 0) + 10}
    assert any("_sessions" in path for path in grown), grown
    assert dataclasses.is_dataclass(master.plane.configuration)
