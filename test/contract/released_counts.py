"""What is counted, where it happens: clients that join, claims of nodes, calls and passes of the control plane."""

from types import SimpleNamespace

import pytest
from autobahn.wamp.exception import ApplicationError
from autobahn.wamp.types import Deny
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock

from crossbar_cluster.control import authentication
from crossbar_cluster.control.loop import CONVERGED, Outcome, ReconcileLoop, State
from crossbar_cluster.control.nodes import CALL_TIMEOUT_S, NodeCallFailed, NodeCalls
from crossbar_cluster.control.records import AddressUpdate
from crossbar_cluster.core import metrics
from crossbar_cluster.core.backends import UNAVAILABLE
from crossbar_cluster.core.metrics import METRICS, PASS_DURATION
from crossbar_cluster.node.handshake import Principal
from crossbar_cluster.proxy import attach
from crossbar_cluster.proxy.pool import NoBackend


class Log:
    def info(self, *args, **values):
        pass

    warn = error = failure = info


@pytest.fixture
def counted():
    """counted(metric): what has been counted since the test began: values of labels -> number."""
    before = METRICS.collect()

    def since(metric):
        def of(collected):
            return {tuple(values): number for values, number in collected.get(metric.name, [])}

        was = of(before)
        grown = {values: number - was.get(values, 0) for values, number in of(METRICS.collect()).items()}
        return {values: number for values, number in grown.items() if number}

    return since


class Frontend:
    """Of a client; can be a key, as the release's is."""

    log = Log()
    transport = SimpleNamespace(peer="client")

    def __init__(self):
        self._controller = SimpleNamespace(_backends_by_frontend={})


# -- clients ----------------------------------------------------------------------------------------------------------


class Joining:
    """A client that asks a pool for a session; the test decides what comes of it."""

    def __init__(self, monkeypatch):
        monkeypatch.setattr(attach, "turn_away", lambda *args: None)
        monkeypatch.setattr(attach, "lose", lambda *args: None)
        self.clock, self.asked = Clock(), Deferred()
        self.ended = []
        pool = SimpleNamespace(join=lambda principal, make: self.asked, ended=self.ended.append)
        self.client = attach.AttachedClient(Frontend(), pool, self.clock)
        self.client.attach(Principal("realm1", "client", "anonymous"))

    def joins(self):
        session = SimpleNamespace(backend=SimpleNamespace(id="b"))
        details = ("session", "realm", "authid", "authrole", "authextra")
        self.clock.advance(0.3)
        self.asked.callback((session, SimpleNamespace(**dict.fromkeys(details, "x"))))
        return session


@pytest.fixture
def joining(monkeypatch):
    return Joining(monkeypatch)


def test_a_client_that_is_let_in(joining, counted):
    before = METRICS.collect().get(metrics.JOIN_DURATION.name, [[[], [0.0] * 99]])[0][1][-1]
    session = joining.joins()
    assert counted(metrics.JOINS) == {("joined",): 1}
    [[_, [*_, total]]] = METRICS.collect()[metrics.JOIN_DURATION.name]
    assert total - before == pytest.approx(0.3)
    joining.client.left()
    assert counted(metrics.JOINS) == {("joined",): 1}, "once"
    joining.client.ended(session, None)
    assert not counted(metrics.SESSIONS_LOST), "it has left by itself"


def test_a_client_that_loses_its_session(joining, counted):
    joining.client.ended(joining.joins(), "the connection was lost")
    assert counted(metrics.SESSIONS_LOST) == {(): 1}


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (NoBackend(UNAVAILABLE, "none"), "unavailable"),
        (NoBackend("wamp.error.no_such_role", "no"), "refused"),
        (ValueError("a bug"), "failed"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_client_that_is_not_let_in(joining, counted, error, outcome):
    joining.asked.errback(error)
    assert counted(metrics.JOINS) == {(outcome,): 1}


def test_a_client_that_does_not_wait(joining, counted):
    joining.client.left()
    assert counted(metrics.JOINS) == {("left",): 1}


# -- nodes ------------------------------------------------------------------------------------------------------------


class Records:
    """:param was: the address on record."""

    def __init__(self, was):
        self._was = was

    def by_pubkey(self, pubkey):
        return None

    def refresh_address(self, pubkey, claim):
        return AddressUpdate({}, self._was, claim.address)


@pytest.mark.parametrize(("was", "changes"), [("10.0.0.2", {(): 1}), ("10.0.0.1", {}), (None, {})])
def test_an_address_that_replaces_another_one(counted, was, changes):
    claim = {"cluster_ip": "10.0.0.1", "cluster_ip_source": "environment"}
    authentication.proven(Log(), Records(was), "key", "node1", claim)
    assert counted(metrics.ADDRESS_CHANGES) == changes and not counted(metrics.CLAIMS_REJECTED)


def test_an_address_that_is_none(counted):
    claim = {"cluster_ip": "nowhere at all", "cluster_ip_source": "environment"}
    authentication.proven(Log(), Records("10.0.0.1"), "key", "node1", claim)
    assert counted(metrics.CLAIMS_REJECTED) == {("invalid_address",): 1}


@pytest.mark.parametrize(("role", "rejected"), [("node", {("unproven",): 1}), ("owner", {})])
def test_a_signature_that_is_wrong(counted, role, rejected):
    authenticator = SimpleNamespace(node_proven=lambda *args: None)
    pending = SimpleNamespace(_authenticator_session=authenticator, _authrole=role)
    assert isinstance(authentication.confirm(pending, Deny()), Deny)
    assert counted(metrics.CLAIMS_REJECTED) == rejected


# -- the control plane ------------------------------------------------------------------------------------------------


def test_calls_and_those_that_failed(counted):
    clock = Clock()
    missing = ApplicationError("wamp.error.no_such_procedure", "none")
    refused = ApplicationError("crossbar.error.invalid_configuration", "no")
    answers = [succeed(1), fail(missing), fail(refused), Deferred()]
    calls = NodeCalls(SimpleNamespace(call=lambda uri, *args: answers.pop(0)), clock)
    calling = [Deferred.fromCoroutine(calls.node("node1", "get_status")) for _ in range(4)]
    clock.advance(CALL_TIMEOUT_S)
    for call in calling[1:]:
        call.addErrback(lambda failure: failure.trap(NodeCallFailed))
    assert counted(metrics.CALLS) == {(): 4}
    assert counted(metrics.CALLS_FAILED) == {(): 2}, "refused, and not answered: not what asked whether it is there"


def test_passes_and_how_long_they_took(counted):
    clock, outcomes = Clock(), [CONVERGED, Outcome(State.FAILED), ValueError("a bug")]

    async def one_pass():
        await pause
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    loop = ReconcileLoop(one_pass, clock, lambda error: None, "router")
    pause = Deferred()
    loop.start()
    clock.advance(0)
    clock.advance(0.3)
    pause.callback(None)
    assert counted(metrics.PASSES) == {("router", "converged"): 1}
    [series] = [series for values, series in METRICS.collect()[PASS_DURATION.name] if values == ["router"]]
    assert series[-1] == pytest.approx(0.3)
    for _ in range(2):
        pause = succeed(None)
        loop.mark()
        clock.advance(0)
    assert counted(metrics.PASSES) == {("router", "converged"): 1, ("router", "failed"): 2}
    loop.stop()
