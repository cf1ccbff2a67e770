"""Who may do what in whose name."""

import pytest

from crossbar_cluster.core.rights import HEARTBEATS, node_may, signs_for

OWN = "crossbarfabriccenter.node.node1."
ALL = ("call", "register", "publish", "subscribe")


@pytest.mark.parametrize("action", ALL)
@pytest.mark.parametrize("name", ["", "get_status", "worker.w1.start_component", ".", ".x"])
def test_a_node_may_do_everything_in_its_own_name(action, name):
    assert node_may("node1", action, OWN + name)


@pytest.mark.parametrize("action", ALL)
@pytest.mark.parametrize(
    "uri",
    [
        "",
        "wamp.session.kill",
        "wamp.session.add_testament",
        "crossbarfabriccenter.",
        "crossbarfabriccenter.node.",
        "crossbarfabriccenter.node..get_status",
        "crossbarfabriccenter.node.node1",  # as a prefix it would take in node12
        "crossbarfabriccenter.node.node12.get_status",
        "crossbarfabriccenter.node.node2.start_worker",
        "crossbarfabriccenter.mrealm.routercluster.move_placements",
        "crossbarfabriccenter.remote.node.start_worker",
        "x" + OWN,
    ],
)
def test_a_node_may_do_nothing_in_others_names(action, uri):
    assert not node_may("node1", action, uri)


@pytest.mark.parametrize("authid", [None, ""])
def test_nobody_may_nothing(authid):
    assert not node_may(authid, "call", "crossbarfabriccenter.node..get_status")
    assert not node_may(authid, "publish", next(iter(HEARTBEATS)))


def test_heartbeats_are_only_published_and_the_masters_status_is_only_asked_for():
    for uri in HEARTBEATS:
        assert [action for action in ALL if node_may("node1", action, uri)] == ["publish"]
    status = "crossbarfabriccenter.mrealm.get_status"
    assert [action for action in ALL if node_may("node1", action, status)] == ["call"]


@pytest.mark.parametrize("role", [None, "", "trusted", "controller", "node", "crossbar.worker.", "crossbar.worker.w2"])
def test_a_node_signs_for_its_own_workers_only(role):
    assert signs_for("crossbar.worker.w1", frozenset({"w1"}))
    assert not signs_for(role, frozenset({"w1"}))
