"""What one node sends its master, however much: what the master does with it, and what it costs others."""

from types import SimpleNamespace

import pytest
from twisted.internet.task import Clock

from crossbar_cluster.control.inbox import UNREACHABLE_EACH_S

from .master_world import SNAPSHOT

FLOOD = 5000
WORKER = {"timestamp": 1, "period": 10, "seq": 1, "type": "router", "state": 1}


def rows(master, table):
    with master.db.begin() as txn:
        return list(getattr(master.schema, table).select(txn, return_keys=False))


def cluster_of(master):
    """A router with a worker that is to run, and a proxy. All is as configured."""
    router, proxy = master.node("router1"), master.node("proxy1")
    master.realm_on(router)
    master.web_cluster(proxy)
    master.answers["router1.worker.group_1.get_router_snapshot"] = SNAPSHOT
    master.answers["router1.get_workers"] = lambda types: ["group_1"] if types in (["router"], []) else []
    master.joins("router1", 1)
    master.joins("proxy1", 2)
    master.runs(30)
    return router, proxy


def heartbeat(master, worker="group_1", node="router1", publisher=None, **of_it):
    master.event("_on_worker_heartbeat", node, worker, {**WORKER, **of_it}, publisher=publisher or node)


def test_a_flood_of_heartbeats_is_few_transactions_and_keeps_the_last(master):
    cluster_of(master)
    before, passes = master.db.writes, master.plane.loop.passes
    for number in range(FLOOD):
        heartbeat(master, seq=number)
    assert master.db.writes == before, "nothing is written at once"
    master.runs(10)
    assert master.db.writes - before <= 2
    [row] = rows(master, "mworker_logs")
    assert row.seq < FLOOD - 1, "what is too much is dropped"
    assert master.plane.loop.passes - passes <= 1
    assert len(master.told("Node router1 sends more heartbeats than its master takes")) == 1
    from crossbar_cluster.control.status import problems_of

    [problem] = [p for p in problems_of(master.plane) if p["object"] == "node router1"]
    assert "more heartbeats" in problem["reason"]
    master.runs(120)
    assert not [p for p in problems_of(master.plane) if p["object"] == "node router1"], "it is over"


def test_heartbeats_of_all_nodes_are_one_transaction_and_each_is_kept(master):
    cluster_of(master)
    master.answers["proxy1.get_workers"] = ["p1", "p2"]
    for worker in ("p1", "p2"):
        heartbeat(master, worker, "proxy1")
    master.runs(1)  # it has been asked what it runs
    before = master.db.writes
    for worker, node in (("group_1", "router1"), ("controller", "router1"), ("p1", "proxy1"), ("p2", "proxy1")):
        heartbeat(master, worker, node)
    master.runs(10)
    assert master.db.writes - before == 1
    assert sorted(row.worker_id for row in rows(master, "mworker_logs")) == ["controller", "group_1", "p1", "p2"]


def test_heartbeats_of_workers_that_a_node_has_not_are_dropped(master):
    cluster_of(master)
    asked = master.asked["router1.get_workers"]
    for number in range(400):
        heartbeat(master, f"invented{number}")
    heartbeat(master)
    master.runs(10)
    assert [row.worker_id for row in rows(master, "mworker_logs")] == ["group_1"]
    assert master.asked["router1.get_workers"] - asked <= 1, "it is asked again now and then, and not each time"


@pytest.mark.parametrize("of_it", [{"seq": "x"}, {"period": "x"}, {"router": []}, {"process": {"num_fds": -(2**70)}}])
def test_a_heartbeat_that_is_none_is_told_once_and_spoils_no_others(master, of_it):
    cluster_of(master)
    master.answers["proxy1.get_workers"] = ["p1"]
    heartbeat(master, "p1", "proxy1")
    master.runs(1)
    heartbeat(master, "p1", "proxy1")
    for _ in range(50):
        heartbeat(master, **of_it)
    heartbeat(master, "controller", **of_it)
    master.runs(10)
    assert [row.worker_id for row in rows(master, "mworker_logs")] == ["p1"]
    assert len(master.told("A heartbeat of node router1 (worker group_1) is none")) == 1


def test_nobody_sends_heartbeats_in_anothers_name(master):
    cluster_of(master)
    for _ in range(FLOOD):
        heartbeat(master, publisher="proxy1")
    master.runs(10)
    assert rows(master, "mworker_logs") == []
    assert len(master.told("is ignored")) <= 500
    heartbeat(master)
    master.runs(10)
    assert len(rows(master, "mworker_logs")) == 1, "the flood was the other one's"


def test_heartbeats_of_nodes_are_kept_if_they_have_the_key_in_them(master):
    router, _ = cluster_of(master)
    key = master.plane.node(router).pubkey
    for pubkey in (key, "00" * 32, None):
        master.event("_on_node_heartbeat", "router1", {"timestamp": 1, "seq": 1, "pubkey": pubkey}, publisher="router1")
    master.runs(10)
    assert [row.node_id for row in rows(master, "mnode_logs")] == [router]


def test_a_full_database_costs_heartbeats_and_is_told_once(master, monkeypatch):
    cluster_of(master)
    begin = master.db.begin

    def full(write=False):
        if write:
            raise RuntimeError("MDB_MAP_FULL")
        return begin()

    monkeypatch.setattr(master.db, "begin", full)
    for _ in range(4):
        heartbeat(master)
        master.runs(10)
    assert len(master.told("Heartbeats of workers cannot be put into the database")) == 1
    assert len(master.plane.inbox._heartbeats) == 0


def test_what_waits_is_written_when_the_plane_stops(master):
    cluster_of(master)
    heartbeat(master)
    master.plane.stop()
    assert len(rows(master, "mworker_logs")) == 1
    assert not [c for c in master.clock.getDelayedCalls() if "Heartbeats" in str(c.func)]


def report(master, kind):
    """Something that a node tells, in bulk."""
    if kind == "registration":
        master._handled(master.controller._on_registration(2, 1))
    elif kind == "ended":
        master.event("_on_something_ended", publisher="proxy1")
    elif kind == "unreachable":
        master.event("_on_backend_unreachable", "cnc_router1_group_1", publisher="proxy1")
    else:
        master.event("_on_router_link_changed", "group_1", publisher="proxy1")


@pytest.mark.parametrize("kind", ["registration", "ended", "unreachable", "link"])
def test_reports_in_bulk_make_few_passes_and_none_of_others(master, kind):
    cluster_of(master)
    router = next(r for r in master.plane.reconcilers.values() if r.node == "router1")
    proxy = next(r for r in master.plane.reconcilers.values() if r.node == "proxy1")
    loops = {"router": router.loop, "proxy": proxy.loop, "plane": master.plane.loop}

    def passes_in_30_s(reports):
        before = {name: loop.passes for name, loop in loops.items()}
        for _ in range(300):
            for _ in range(reports):
                report(master, kind)
            master.runs(0.1, 0.1)
        return {name: loop.passes - before[name] for name, loop in loops.items()}

    usual, reads = passes_in_30_s(0), []
    read = master.plane._reader.read_node
    master.plane._reader.read_node = lambda oid: reads.append(oid) or read(oid)
    passes = passes_in_30_s(50)
    of_a_sweep = 10
    assert passes["router"] <= usual["router"] + 30 / UNREACHABLE_EACH_S + of_a_sweep, (usual, passes)
    assert passes["plane"] <= usual["plane"] + 2
    assert passes["proxy"] <= 60 + 2 * 30 + 2
    assert len(reads) <= 300 + 10 * 30 + 40, "what is too much is looked at together"
    if kind == "registration":
        assert passes["proxy"] > usual["proxy"]


def test_the_last_of_too_many_is_seen_to(master):
    cluster_of(master)
    for _ in range(FLOOD):
        report(master, "registration")
    loop = next(r for r in master.plane.reconcilers.values() if r.node == "proxy1").loop
    master.runs(0.5)
    report(master, "registration")
    began = master.clock.seconds()
    master.runs(3)
    assert loop.began_s > began and not master.plane.inbox._later


def test_of_two_kinds_of_reports_the_last_of_each_is_seen_to(master):
    cluster_of(master)
    ended = []
    master.plane.presence.something_ended = ended.append
    for kind in ("registration", "ended"):
        for _ in range(FLOOD):
            report(master, kind)
    ended.clear()
    master.runs(3)
    assert ended == ["proxy1"]


def test_a_report_that_waits_is_of_the_session_that_the_node_has_by_then(master):
    cluster_of(master)
    for _ in range(FLOOD):
        report(master, "registration")
    master.joins("proxy1", 9)
    master.leaves(2)
    looked_at = []
    master.plane.look_at = lambda node, quiet_s, *, is_news: looked_at.append((node.name, is_news))
    master.runs(3)
    assert ("proxy1", True) in looked_at


def test_a_node_is_asked_for_its_workers_one_call_at_a_time(master):
    from twisted.internet.defer import Deferred

    cluster_of(master)
    master.answers["proxy1.get_workers"] = lambda types: Deferred()
    before = master.asked["proxy1.get_workers"]
    master.joins("proxy1", 9)
    for _ in range(100):
        report(master, "registration")
    master.runs(5)
    assert master.asked["proxy1.get_workers"] - before == 1


def test_what_is_known_of_floods_ends_with_them(master):
    cluster_of(master)
    for kind in ("registration", "ended", "unreachable", "link"):
        for _ in range(FLOOD):
            report(master, kind)
    for _ in range(FLOOD):
        heartbeat(master)
    master.runs(300)
    plane = master.plane
    assert plane.inbox.limited() == []
    assert not plane.inbox._later and len(plane.inbox._heartbeats) == 0
    assert len(plane.inbox._intake._budgets) <= 8


def test_events_that_cannot_be_handled_fill_no_log(master):
    from crossbar_cluster.control.guard import guarded

    handler = guarded(lambda node: {}[node], master.controller.log, "a.topic")
    for number in range(FLOOD):
        handler(number)
    assert len(master.told("An event on a.topic could not be handled")) == 1


# -- at the master's router -----------------------------------------------------------------------------------------


class Connection:
    """A node's, at the master's router."""

    connected, disconnecting = True, False

    def __init__(self):
        self.read = True

    def pauseProducing(self):
        assert self.read
        self.read = False

    def resumeProducing(self):
        assert not self.read
        self.read = True


def test_the_router_lets_no_flood_of_a_node_through_reads_less_of_it_and_takes_all_of_others():
    from crossbar_cluster.control.rights import PAUSE_S, NodeRights

    clock, told, connections = Clock(), [], {"node1": Connection(), "node2": Connection()}
    log = SimpleNamespace(warn=lambda text, **v: told.append(text.format(**v)))
    of_nodes = NodeRights("default", log, clock)

    def allowed(node, uri, action="publish"):
        session = SimpleNamespace(_authid=node, _transport=SimpleNamespace(transport=connections[node]))
        return of_nodes.restrict({"allow": True, "disclose": True}, session, uri, action)["allow"]

    beat, own = "crossbarfabriccenter.node.on_worker_heartbeat", "crossbarfabriccenter.node.node1."
    for uri, action in ((beat, "publish"), (own + "x", "publish"), (own + "x", "register"), (own + "x", "call")):
        told.clear()
        let_in = sum(allowed("node1", uri, action) for _ in range(10_000))
        assert let_in <= 2000
        assert len(told) == 1 and "node1 sends more" in told[0]
        assert not connections["node1"].read
        clock.advance(PAUSE_S)
        assert connections["node1"].read
    assert allowed("node2", beat) and connections["node2"].read
    clock.advance(60.0)
    assert allowed("node1", beat)
    assert not of_nodes._paused


def test_a_connection_that_has_ended_is_not_read_again():
    from crossbar_cluster.control.rights import NodeRights

    clock, connection = Clock(), Connection()
    of_nodes = NodeRights("default", SimpleNamespace(warn=lambda *args, **fields: None), clock)
    session = SimpleNamespace(_authid="node1", _transport=SimpleNamespace(transport=connection))
    for _ in range(3000):
        of_nodes.restrict({"allow": True}, session, "crossbarfabriccenter.node.node1.x", "publish")
    connection.connected = False
    clock.advance(60.0)
    assert not connection.read and not of_nodes._paused


def test_the_router_lets_so_many_bytes_of_a_node_through_in_however_few_messages():
    from crossbar_cluster.control.rights import PAUSE_S, NodeRights

    clock, told = Clock(), []
    of_nodes = NodeRights("default", SimpleNamespace(warn=lambda text, **v: told.append(text.format(**v))), clock)

    class Transport:
        """That of a node's session: the message that is being handled has so many bytes, and is its so manieth."""

        message_bytes, number = 0, 0

        def __init__(self):
            self.transport = Connection()

        def count(self):
            return self.number

    def publishes(transport, node, size, uri="crossbarfabriccenter.node.on_heartbeat", times=1):
        """A message; ``times``: a batch of so many."""
        transport.message_bytes, transport.number = size, transport.number + 1
        session = SimpleNamespace(_authid=node, _transport=transport)
        allowed = [of_nodes.restrict({"allow": True}, session, uri, "publish")["allow"] for _ in range(times)]
        return sum(allowed)

    one, two = Transport(), Transport()
    passed = sum(publishes(one, "node1", 2**20) for _ in range(20))
    assert 1 <= passed <= 4 and not one.transport.read
    assert len(told) == 1 and "node1 sends more bytes than its master takes" in told[0]
    clock.advance(PAUSE_S)
    assert one.transport.read
    assert sum(publishes(two, "node2", 10_000) for _ in range(200)) == 200, "another is let through"
    for _ in range(60):
        clock.advance(1.0)
    assert publishes(one, "node1", 2**20)
    assert publishes(one, "node1", 2**19, times=300) == 300, "a batch is counted once"
    assert publishes(one, "node1", 2**22, times=300) == 0
    clock.advance(60.0)
    for _ in range(20):  # what it may not do at all is no cheaper
        publishes(one, "node1", 2**20, "crossbarfabriccenter.node.node2.x")
    assert not one.transport.read
