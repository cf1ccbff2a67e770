"""Nodes that do not reach their master are forgotten, but for those that others still have clients of."""

import pytest
from autobahn.wamp.exception import ApplicationError
from twisted.internet.defer import Deferred

from .master_world import SNAPSHOT

HOUR = 3600
GUESTS = "router1.worker.group_1.get_router_guests"


def cluster_of(master):
    """A router that is placed, and a proxy that has paired itself; both are there."""
    router = master.node("router1")
    master.node("proxy1", by_token=True)
    master.realm_on(router)
    master.answers["router1.worker.group_1.get_router_snapshot"] = SNAPSHOT
    master.answers[GUESTS] = [["proxy1", "aa"]]
    sessions = master.joins("router1", 1), master.joins("proxy1", 2)
    master.runs(120)
    return sessions


def test_a_proxy_whose_clients_a_router_has_is_not_forgotten_and_that_is_told(master):
    _, proxy = cluster_of(master)
    master.leaves(proxy)
    master.runs(1.1 * HOUR, 5)
    assert "proxy1" in master.names()
    from crossbar_cluster.control.status import problems_of, status_of_node

    [problem] = [p for p in problems_of(master.plane) if p["object"] == "node proxy1"]
    assert "goes on serving (router worker group_1 on router1 has clients of it)" in problem["reason"]
    [record] = [n for n in master.plane.configuration.nodes.values() if n.name == "proxy1"]
    assert status_of_node(master.plane, record) == "offline", "gone are those that nobody knows"

    master.answers[GUESTS] = []
    master.runs(0.9 * HOUR, 5)
    assert "proxy1" in master.names(), "the hour begins when its last client has left"
    assert status_of_node(master.plane, record) == "gone"
    master.runs(0.2 * HOUR, 5)
    assert "proxy1" not in master.names()
    assert master.told("Node proxy1 is forgotten")


def test_nobody_is_forgotten_while_a_router_cannot_say_whose_clients_it_has(master):
    router, proxy = cluster_of(master)
    for session in (router, proxy):  # both are cut off: it may well have clients of the proxy
        master.leaves(session)
    master.runs(2 * HOUR, 5)
    assert "proxy1" in master.names()
    master.answers[GUESTS] = []
    master.joins("router1", 3)
    master.runs(0.9 * HOUR, 5)
    assert "proxy1" in master.names(), "until now nobody knew"
    master.runs(0.2 * HOUR, 5)
    assert "proxy1" not in master.names()


def test_a_router_that_hangs_cannot_say_either(master):
    _, proxy = cluster_of(master)
    master.leaves(proxy)
    master.answers[GUESTS] = lambda: Deferred()
    master.runs(2 * HOUR, 5)
    assert "proxy1" in master.names()


def test_a_router_that_said_so_before_it_went_itself_is_believed(master):
    router, proxy = cluster_of(master)
    master.leaves(proxy)
    master.answers[GUESTS] = []
    master.runs(120)
    master.leaves(router)
    master.runs(1.1 * HOUR, 5)
    assert "proxy1" not in master.names()


@pytest.mark.parametrize("answer", [{"status": "started"}, ApplicationError("crossbar.error.no_such_worker", "none")])
def test_a_router_of_the_plain_release_or_one_that_does_not_run_keeps_nobody(master, answer):
    _, proxy = cluster_of(master)
    for name in ("get_router_snapshot", "get_router_guests"):
        del master.answers[f"router1.worker.group_1.{name}"]
    master.answers["router1.get_worker"] = answer
    master.leaves(proxy)
    master.runs(1.1 * HOUR, 5)
    assert "proxy1" not in master.names()


def test_a_router_that_a_proxy_still_has_clients_on_is_not_forgotten(master):
    """Its router worker has been placed elsewhere meanwhile; clients leave it when they are not busy."""
    cluster_of(master)
    proxy2 = master.node("proxy2")
    web = master.web_cluster(proxy2)
    master.node("router2", by_token=True)
    master.joins("proxy2", 3)
    snapshot = {
        "transports": {}, "connections": {}, "routes": {}, "routers": {},
        "leaving": {"cnc_router2_group_1": ["realm1"]},
    }  # fmt: skip
    worker = f"proxy2.worker.cpw-{str(web).split('-')[0]}-0.get_proxy_snapshot"
    master.answers[worker] = snapshot
    master.runs(1.5 * HOUR, 5)
    assert master.asked[worker], "it was looked at"
    assert "router2" in master.names()
    master.answers[worker] = {**snapshot, "leaving": {}}
    master.runs(1.2 * HOUR, 5)
    assert "router2" not in master.names()


@pytest.mark.parametrize("identified", [True, False])
def test_a_node_is_not_taken_for_one_whose_name_begins_like_it(master, identified):
    cluster_of(master)
    proxy2 = master.node("proxy2")
    web = master.web_cluster(proxy2)
    master.node("router", by_token=True)
    master.node("router_1")
    master.joins("proxy2", 3)
    used = "cnc_router_1_group_1"
    life = {"node": "router_1", "worker": "group_1", "pubkey": None}
    master.answers[f"proxy2.worker.cpw-{str(web).split('-')[0]}-0.get_proxy_snapshot"] = {
        "transports": {}, "connections": {}, "routes": {}, "leaving": {used: ["realm1"]},
        "routers": {used: life if identified else None},
    }  # fmt: skip
    master.runs(1.5 * HOUR, 5)
    assert "router" not in master.names()


def test_who_was_there_meanwhile_is_away_anew(master):
    _, proxy = cluster_of(master)
    master.answers[GUESTS] = []
    for _ in range(4):
        master.leaves(proxy)
        master.runs(0.4 * HOUR, 5)
        proxy = master.joins("proxy1", proxy + 10)
        master.runs(1)
    assert "proxy1" in master.names()


def test_a_clock_that_is_set_makes_nobody_forgotten(master, monkeypatch):
    from crossbar_cluster.control import plane

    _, proxy = cluster_of(master)
    master.answers[GUESTS] = []
    master.leaves(proxy)
    monkeypatch.setattr(plane.time, "time_ns", lambda: 2 * 10**18)
    master.runs(300)
    assert "proxy1" in master.names()


def test_what_is_known_of_nodes_goes_with_them(master):
    _, proxy = cluster_of(master)
    gone = master.plane._gone
    master.answers[GUESTS] = []
    master.leaves(proxy)
    master.runs(120)
    assert gone._absences
    master.runs(1.1 * HOUR, 5)
    assert not gone._absences
