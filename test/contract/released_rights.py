"""The role of nodes, on the released router: each node is asked for by its own name, whoever asked before it."""

from types import SimpleNamespace

import pytest
from crossbar.master.node.roles import BUILTIN_ROLES

from crossbar.router.router import RouterFactory
from crossbar.router.session import RouterSession
from crossbar_cluster.control.rights import REFUSALS_TOLD
from crossbar_cluster.core.limits import SessionLimits

OWN = "crossbarfabriccenter.node.node1."


class Realm:
    config, session = {"name": "default"}, None


def router_of(personality):
    """A management realm's router in a worker of a node with that personality, with the node role."""
    factory = RouterFactory("master", "cfrouter1", None)
    factory._worker = SimpleNamespace(personality=SimpleNamespace(NAME=personality))
    router = factory.start_realm(Realm())
    factory.add_role("default", BUILTIN_ROLES["node-role"])
    return router


def allowed(router, authid, uri, action):
    session = SimpleNamespace(_realm="default", _authid=authid, _authrole="node", _session_id=1)
    answers = []
    router.authorize(session, uri, action, {}).addCallback(answers.append)
    return answers[0]["allow"]


@pytest.mark.parametrize("action", ["call", "register", "publish", "subscribe"])
def test_what_one_node_was_allowed_is_not_allowed_to_another(action):
    router = router_of("master")
    for _ in range(2):
        assert allowed(router, "node1", OWN + "get_status", action)
        assert not allowed(router, "node2", OWN + "get_status", action)


def test_callers_and_publishers_are_disclosed_as_in_the_release():
    router = router_of("master")
    session = SimpleNamespace(_realm="default", _authid="node1", _authrole="node", _session_id=1)
    for action in ("call", "publish"):
        answers = []
        router.authorize(session, OWN + "x", action, {}).addCallback(answers.append)
        assert answers[0]["disclose"] is True


def test_a_role_of_the_same_name_on_another_node_stays_as_it_is():
    assert allowed(router_of("edge"), "node2", OWN + "get_status", "call")


def test_a_refusal_is_told_once_and_not_without_end():
    router, told = router_of("master"), []
    router._roles["node"]._rights._log = SimpleNamespace(warn=lambda text, **v: told.append(text.format(**v)))
    for _ in range(3):
        assert not allowed(router, "node2", OWN + "get_status", "call")
    assert len(told) == 1 and "Node node2 may not call crossbarfabriccenter.node.node1.get_status" in told[0]
    for number in range(2 * REFUSALS_TOLD):
        assert not allowed(router, "node2", f"{OWN}x{number}", "call")
    assert len(told) == REFUSALS_TOLD and "No more" in told[-1] and "No more" not in told[-2]


@pytest.mark.parametrize(("personality", "limits"), [("master", SessionLimits()), ("edge", None)])
def test_nodes_have_limits_on_a_masters_realm(personality, limits):
    router = router_of(personality)
    node = RouterSession(router._factory)
    node._transport, node._router, node._session_id = SimpleNamespace(), router, 1
    node._realm, node._authid, node._authrole, node._session_roles = "default", "node1", "node", {}
    router.limits.joined(node)
    assert node._cluster_limits == limits
