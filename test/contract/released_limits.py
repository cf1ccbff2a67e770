"""What clients may have on a realm of a router, and how they are told that it is enough."""

import os
from types import SimpleNamespace

import pytest
from autobahn.wamp import message
from twisted.internet.defer import Deferred

from crossbar_cluster.core.limits import SessionLimits
from crossbar_cluster.core.metrics import LIMIT_REFUSALS, METRICS, UNREAD_ENDED
from crossbar_cluster.node.backend_auth import BackendAuth, Claim, Denied
from crossbar_cluster.node.settings import InvalidSetting, check
from crossbar_cluster.router import backlogs
from crossbar_cluster.router.limits import LIMIT_EXCEEDED

from . import linked_routers
from .linked_routers import Routers, Session

PROCEDURE = "open.procedure"


@pytest.fixture
def routers():
    return Routers().link()


def limited(routers, **limits):
    """A client that has come through a proxy, with limits."""
    client = Session(routers.two, next(routers.ids), flow=routers.flow)
    auth = BackendAuth(None, {}, None)
    auth.claim = Claim("proxy1", "key", "realm1", "a", "anonymous", None, b"", None, SessionLimits(**limits))
    client._pending_auth = SimpleNamespace(_backend_auth=auth)
    return client.join()


def refused(client):
    assert {error.error for error in client.answers(message.Error)} <= {LIMIT_EXCEEDED}
    return [error.request for error in client.answers(message.Error)]


def counted():
    return {labels[0]: n for labels, n in METRICS.collect().get(LIMIT_REFUSALS.name, [])}


@pytest.mark.parametrize(
    ("kind", "answer", "end", "limit"),
    [
        (message.Subscribe, message.Subscribed, message.Unsubscribe, "subscriptions"),
        (message.Register, message.Registered, message.Unregister, "registrations"),
    ],
)
def test_a_client_has_as_much_as_it_may(routers, kind, answer, end, limit):
    before = counted().get(limit, 0)
    client = limited(routers, **{limit: 3})
    for number in range(5):
        client.say(kind, f"open.name{number}")
    assert len(client.answers(answer)) == 3 and refused(client) == [4, 5]
    assert "3" in client.answers(message.Error)[0].args[0]
    assert counted()[limit] == before + 2
    if kind is message.Subscribe:
        client.say(kind, "open.name0")  # which it has
        assert len(client.answers(answer)) == 4
    client.say(end, getattr(client.answers(answer)[0], limit[:-1]))
    client.say(kind, "open.another")
    assert len(refused(client)) == 2
    other = routers.client(routers.two)  # who has come otherwise
    for number in range(5):
        other.say(kind, f"open.other{number}")
    assert len(other.answers(answer)) == 5


def test_a_client_has_as_many_calls_in_flight_as_it_may(routers):
    callee, client = routers.client(routers.two), limited(routers, calls=3)
    callee.say(message.Register, PROCEDURE)
    for _ in range(5):
        client.say(message.Call, PROCEDURE)
    assert refused(client) == [4, 5]
    invocations = callee.answers(message.Invocation)
    assert len(invocations) == 3
    callee.tell(message.Yield(invocations[0].request))
    client.say(message.Call, PROCEDURE)
    assert refused(client) == [4, 5] and len(callee.answers(message.Invocation)) == 4


@pytest.mark.parametrize("kind", [message.Call, message.Subscribe, message.Register])
def test_what_waits_to_be_authorized_counts(routers, kind):
    decisions = []
    client = limited(routers, calls=3, subscriptions=3, registrations=3)
    routers.two._roles["anonymous"].authorize = lambda *args: decisions.append(Deferred()) or decisions[-1]
    for number in range(5):
        client.say(kind, f"open.name{number}")
    assert refused(client) == [4, 5] and len(decisions) == 3
    for decision in decisions:
        decision.callback({"allow": False, "disclose": False, "cache": False})
    routers.flow()
    assert not routers.two.limits._undecided


@pytest.mark.parametrize(
    ("kind", "answer"), [(message.Subscribe, message.Subscribed), (message.Register, message.Registered)]
)
def test_a_realm_has_as_much_as_it_may(monkeypatch, kind, answer):
    name = f"realm_{'subscriptions' if kind is message.Subscribe else 'registrations'}"
    monkeypatch.setitem(os.environ, f"CROSSBAR_CLUSTER_{name.upper()}", "5")
    routers = Routers().link()
    clients = [limited(routers) for _ in range(3)]
    for number in range(3):
        for client in clients:
            client.say(kind, f"open.name{number}.{client._session_id}")
    assert sum(len(client.answers(answer)) for client in clients) == 5
    assert sum(len(refused(client)) for client in clients) == 4
    clients[0]._transport.is_open = False
    clients[0].onClose(False)
    routers.flow()
    clients[1].say(kind, "open.name")
    assert len(clients[1].answers(answer)) == 3
    # a link is not refused what it shows for clients that have been counted where they are
    elsewhere = routers.client(routers.one)
    for number in range(9):
        elsewhere.say(kind, f"open.elsewhere{number}")
    assert not routers.end.mirror.refused and routers.end.mirror.picture.count == 9


def test_limits_that_make_no_sense_are_refused():
    extra = {
        "proxy_realm": "realm1", "proxy_authid": "a", "proxy_authrole": "anonymous", "pubkey": "aa",
        "x_cb_cluster": {"version": 1, "nonce": "00" * 32, "limits": {"calls": 7}},
    }  # fmt: skip
    details = SimpleNamespace(authid="proxy1", authextra=extra)
    assert Claim.of("realm1", details).limits == SessionLimits(calls=7)
    extra["x_cb_cluster"]["limits"] = {"calls": -1}
    with pytest.raises(Denied, match="calls"):
        Claim.of("realm1", details)
    for value in ("0", "-5", "many"):
        with pytest.raises(InvalidSetting, match="REALM_SUBSCRIPTIONS"):
            check({"CROSSBAR_CLUSTER_REALM_SUBSCRIPTIONS": value})


class Tcp:
    """A TCP transport of Twisted's, as far as a backlog looks at it; nobody reads at its other end."""

    disconnecting, producer, dataBuffer, offset, _tempDataLen = False, None, b"", 0, 0

    def __init__(self, clock):
        self.reactor = clock

    def registerProducer(self, producer, streaming):
        self.producer = producer


@pytest.mark.parametrize("kind", ["client", "link"])
def test_a_session_that_does_not_read_is_ended_and_nobody_else(routers, kind, monkeypatch):
    monkeypatch.setattr(backlogs, "CLIENT_BYTES", 1000)
    monkeypatch.setattr(backlogs, "LINK_BYTES", 3000)
    monkeypatch.setattr("crossbar_cluster.node.backlog.give_back_soon", lambda reactor: None)
    monkeypatch.setattr(linked_routers.Wire, "transport", Tcp(routers.clock), raising=False)
    before = {labels[0]: n for labels, n in METRICS.collect().get(UNREAD_ENDED.name, [])}
    session = limited(routers) if kind == "client" else routers.link().peer
    wire, tcp = session._transport, session._transport.transport
    for waiting, is_ended in ((900, False), (3100, True)):
        tcp._tempDataLen = waiting
        tcp.producer.pauseProducing()
        routers.flow()
        assert wire.isOpen() is not is_ended
    after = {labels[0]: n for labels, n in METRICS.collect()[UNREAD_ENDED.name]}
    assert after[kind] == before.get(kind, 0) + 1


def test_the_other_end_of_a_link_that_is_not_read_is_ended(routers, monkeypatch):
    monkeypatch.setattr(backlogs, "LINK_BYTES", 1000)
    monkeypatch.setattr("crossbar_cluster.node.backlog.give_back_soon", lambda reactor: None)
    lost, tcp = [], Tcp(routers.clock)
    session = SimpleNamespace(transport=SimpleNamespace(transport=tcp), lose=lost.append)
    backlogs.bound_link_backlog(session, routers.clock)
    tcp._tempDataLen = 1001
    tcp.producer.pauseProducing()
    routers.flow()
    assert len(lost) == 1 and "1001" in lost[0]
