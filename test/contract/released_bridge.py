"""How a node makes itself callable on the master, and stays so. On the released classes, without a network."""

from types import SimpleNamespace

import pytest
from autobahn.wamp.exception import ApplicationError
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock

from crossbar_cluster.node import bridge as bridging
from crossbar_cluster.node.bridge import CallForwarding, tell_worker_gone


class Log:
    """Keeps what it is told, filled in."""

    def __init__(self):
        self.lines = []

    def info(self, text, **values):
        self.lines.append(text.format(**values))

    warn = error = debug = info

    def failure(self, text="", failure=None, **values):
        self.lines.append(f"failure: {failure}")

    def matching(self, part):
        return [line for line in self.lines if part in line]


class Manager:
    """A session on the master whose master misbehaves as told."""

    def __init__(self, *answers, attached=True):
        self._session_id = 7
        self._answers = list(answers)
        self.registered, self.published = [], []
        self.attached, self.disconnected = attached, False

    def is_attached(self):
        return self.attached

    def register(self, endpoint, procedure, options):
        self.registered.append((procedure, options.match, options.force_reregister))
        self.endpoint = endpoint
        return succeed(None)

    def call(self, procedure):
        answer = self._answers.pop(0) if self._answers else {"management_session_id": self._session_id}
        return Deferred() if answer is None else fail(answer) if isinstance(answer, Exception) else succeed(answer)

    def publish(self, topic, options):
        self.published.append(topic)
        return fail(RuntimeError("refused"))

    def disconnect(self):
        self.disconnected = True
        self.attached = False


@pytest.fixture
def local():
    return SimpleNamespace(log=Log(), call=lambda uri, *args, **kwargs: (uri, args, kwargs))


def test_one_prefix_is_registered_and_calls_go_to_the_local_procedure(local):
    manager = Manager()
    CallForwarding(local, manager, "node1", Clock()).start()
    assert manager.registered == [("crossbarfabriccenter.node.node1.", "prefix", True)]
    assert local.log.lines == ["The master can call this node, at crossbarfabriccenter.node.node1."]
    details = SimpleNamespace(procedure="crossbarfabriccenter.node.node1.worker.w1.get_status")
    assert manager.endpoint(1, a=2, details=details) == ("crossbar.worker.w1.get_status", (1,), {"a": 2})


@pytest.mark.parametrize("name", ["sign", "sign_challenge"])
def test_signing_is_no_procedure_for_others(local, name):
    manager = Manager()
    CallForwarding(local, manager, "node1", Clock()).start()
    with pytest.raises(ApplicationError, match="no_such_procedure"):
        manager.endpoint(b"data", details=SimpleNamespace(procedure=f"crossbarfabriccenter.node.node1.{name}"))


@pytest.mark.parametrize("answer", [{"management_session_id": 6}, RuntimeError("gone"), None], ids=str)
def test_a_node_that_cannot_be_called_registers_again(local, answer):
    manager, reactor = Manager(answer), Clock()
    CallForwarding(local, manager, "node1", reactor).start()
    reactor.advance(bridging.ANSWER_WITHIN_S)
    reactor.advance(bridging.PAUSES_S[0])
    assert len(manager.registered) == 2 and not manager.disconnected
    assert len(local.log.matching("registering again")) == 1 and local.log.matching("can call this node, at")


def test_a_node_that_stays_out_of_reach_connects_anew(local):
    manager, reactor = Manager(*[{"management_session_id": 6}] * 9), Clock()
    CallForwarding(local, manager, "node1", reactor).start()
    for _ in range(40):
        reactor.advance(0.5)
    assert manager.disconnected and len(manager.registered) == 1 + len(bridging.PAUSES_S)


def test_nothing_is_registered_for_a_session_that_has_been_detached(local):
    manager, reactor = Manager({"management_session_id": 6}), Clock()
    forwarding = CallForwarding(local, manager, "node1", reactor)
    forwarding.start()
    forwarding.stop()
    reactor.advance(60)
    assert len(manager.registered) == 1 and not manager.disconnected and not local.log.matching("failure")


@pytest.fixture
def bridge(monkeypatch):
    """The released bridge, with the patch, on a local router that takes every subscription."""
    from autobahn.wamp.types import ComponentConfig
    from twisted.internet import reactor

    from crossbar.edge.node.management import NodeManagementBridgeSession

    session = NodeManagementBridgeSession(ComponentConfig("crossbar", extra={"controller_config": {}}))
    session.subscriptions = set()

    def subscribe(handler, topic, options=None):
        key = (topic, object())
        session.subscriptions.add(key)
        return succeed(SimpleNamespace(unsubscribe=lambda: succeed(session.subscriptions.discard(key))))

    session.subscribe = subscribe
    session.clock = Clock()
    monkeypatch.setattr(reactor, "callLater", session.clock.callLater)
    monkeypatch.setattr(reactor, "seconds", session.clock.seconds)
    beats = []
    monkeypatch.setattr(NodeManagementBridgeSession, "_send_heartbeat", lambda self: beats.append(1))
    session.beats = beats
    return session


def test_one_heartbeat_loop_and_one_set_of_subscriptions_after_any_number_of_reconnects(bridge):
    for _ in range(4):
        bridge.attach_manager(Manager(), "default", "node1")
        assert sorted(topic for topic, _ in bridge.subscriptions) == ["crossbar.", "wamp.session.on_leave"]
        bridge.clock.advance(1)
        bridge.detach_manager()
        assert not bridge.subscriptions
    bridge.clock.advance(60)
    assert not bridge.beats, "none after a detach"
    bridge.attach_manager(Manager(), "default", "node1")
    bridge.detach_manager()
    bridge.attach_manager(Manager(), "default", "node1")
    for _ in range(25):
        bridge.clock.advance(1)
    assert len(bridge.beats) == 3, "after 5, 15 and 25 s: one loop"
    bridge.detach_manager()
    bridge.clock.advance(60)
    assert len(bridge.beats) == 3


def test_the_end_of_a_worker_is_told_and_never_fails(local):
    local._translate_uri = lambda uri: f"crossbarfabriccenter.node.node1.{uri.removeprefix('crossbar.')}"
    local._manager = Manager()
    tell_worker_gone(local)
    assert local._manager.published == ["crossbarfabriccenter.node.node1.on_worker_gone"]
    for local._manager in (None, Manager(attached=False)):
        tell_worker_gone(local)


# -- the released router's side of the takeover ------------------------------------------------------------------------


def test_the_router_gives_a_prefix_to_the_newcomer_and_the_late_end_of_the_old_session_takes_nothing():
    from autobahn.wamp import message

    from .linked_routers import Routers

    routers = Routers()
    old, new = (routers.client(routers.one) for _ in range(2))
    for each in (old, new):
        each.say(message.Register, "a.node1.", match="prefix", force_reregister=True)
    assert [len(each.answers(message.Registered)) for each in (old, new)] == [1, 1]
    assert [len(each.answers(message.Unregistered)) for each in (old, new)] == [1, 0]
    old.onClose(False)
    routers.flow()
    observation = routers.one._dealer._registration_map.best_matching_observation("a.node1.get_status")
    assert list(observation.observers) == [new]


@pytest.mark.parametrize(
    ("procedure", "error", "told"),
    [
        ("crossbar.worker.w1.set_node_id", ApplicationError.NO_SUCH_PROCEDURE, []),
        ("crossbar.worker.w1.set_node_id", ApplicationError.CANCELED, [ApplicationError.CANCELED]),
        ("crossbar.worker.w1.get_status", ApplicationError.NO_SUCH_PROCEDURE, [ApplicationError.NO_SUCH_PROCEDURE]),
    ],
)
def test_a_worker_that_is_starting_need_not_be_told_its_nodes_name(procedure, error, told):
    failures = []
    called = bridging.unless_starting(procedure, fail(ApplicationError(error)))
    called.addErrback(lambda failure: failures.append(failure.value.error))
    assert failures == told
