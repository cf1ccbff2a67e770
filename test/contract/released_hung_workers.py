"""A worker that hangs for hours is asked one thing, by its master and by its node, and holds up no other."""

from types import SimpleNamespace

import pytest
from autobahn.wamp.exception import ApplicationError
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock

from .master_world import SNAPSHOT

HOUR = 3600
QUESTION = "router1.worker.group_1.get_router_snapshot"


# -- on the master --------------------------------------------------------------------------------------------------


def router_of(master, answer):
    router = master.node("router1")
    master.realm_on(router)
    master.answers[QUESTION] = answer
    master.joins("router1", 1)
    master.runs(30)
    return next(iter(master.plane.reconcilers.values()))


def test_a_worker_that_hangs_is_asked_once_until_it_answers(master):
    pending = []

    def hang():
        pending.append(Deferred())
        return pending[-1]

    router = router_of(master, hang)
    master.runs(2 * HOUR, 5)
    assert len(pending) == 1
    from crossbar_cluster.control.status import problems_of

    [problem] = [p for p in problems_of(master.plane) if "group_1" in p["object"]]
    assert "has not answered" in problem["reason"]
    assert len(master.told("has not answered")) == 1

    asked = master.asked[QUESTION]
    master.answers[QUESTION] = SNAPSHOT
    pending[0].callback(SNAPSHOT)  # too late for whoever asked
    master.runs(10)
    assert master.asked[QUESTION] > asked and router.observed.running
    assert not master.plane.calls._unanswered


@pytest.mark.parametrize("error", ["wamp.error.canceled", "crossbar.error.whatever"])
def test_the_end_of_its_session_is_an_answer(master, error):
    pending = Deferred()
    router_of(master, lambda: pending)
    master.runs(HOUR, 5)
    asked, master.answers[QUESTION] = master.asked[QUESTION], SNAPSHOT
    pending.errback(ApplicationError(error))
    master.runs(10)
    assert master.asked[QUESTION] > asked


def test_another_worker_of_the_same_node_is_asked_as_before(master):
    router_of(master, lambda: Deferred())
    router2 = master.plane
    calls, answers = router2.calls, []
    master.answers["router1.worker.other.get_status"] = "well"
    master.runs(HOUR, 5)
    Deferred.fromCoroutine(calls.worker("router1", "other", "get_status")).addCallback(answers.append)
    assert answers == ["well"]


def test_a_node_that_does_not_say_what_it_runs_is_asked_once(master):
    master.answers["proxy1.get_workers"] = lambda types: Deferred()
    master.node("proxy1")
    master.joins("proxy1", 1)
    master.runs(HOUR, 5)
    assert master.asked["proxy1.get_workers"] == 1


# -- on its node ----------------------------------------------------------------------------------------------------


@pytest.fixture
def bridge(monkeypatch):
    """The released bridge, with the patch, whose node's router passes calls on to workers that hang or answer."""
    from autobahn.twisted.wamp import ApplicationSession
    from autobahn.wamp.types import ComponentConfig
    from twisted.internet import reactor

    from crossbar.edge.node.management import NodeManagementBridgeSession

    clock, pending, made = Clock(), [], []
    monkeypatch.setattr(reactor, "callLater", clock.callLater)
    monkeypatch.setattr(reactor, "seconds", clock.seconds)

    def call(self, procedure, *args, **kwargs):
        made.append(procedure)
        answers = {
            "crossbar.get_status": {"workers_by_type": {"router": 2}},
            "crossbar.get_process_monitor": {"type": "controller"},
            "crossbar.get_system_stats": {},
            "crossbar.get_workers": ["hung", "well"],
        }
        if procedure.startswith("crossbar.worker.hung."):
            pending.append(Deferred())
            return pending[-1]
        if procedure.endswith(".get_process_monitor") and procedure not in answers:
            return succeed({"type": "router"})
        return succeed(answers.get(procedure, {}))

    monkeypatch.setattr(ApplicationSession, "call", call)
    session = NodeManagementBridgeSession(ComponentConfig("crossbar", extra={"controller_config": {}}))
    session.subscribe = lambda *args, **kwargs: succeed(SimpleNamespace(unsubscribe=lambda: succeed(None)))
    session.clock, session.pending, session.made = clock, pending, made
    return session


class Manager:
    """A session on a master."""

    def __init__(self):
        self._session_id, self.published = 7, []

    def is_attached(self):
        return True

    def register(self, *args, **kwargs):
        return succeed(None)

    def call(self, procedure):
        return succeed({"management_session_id": 7})

    def publish(self, topic, *args, options=None):
        self.published.append((topic, *args))
        return succeed(None)


def test_the_heartbeats_of_a_node_go_on_when_one_of_its_workers_hangs(bridge):
    manager = Manager()
    bridge.attach_manager(manager, "default", "node1")
    for _ in range(600):
        bridge.clock.advance(1)
    workers = [args[1] for topic, *args in manager.published if topic.endswith(".on_worker_heartbeat")]
    assert workers.count("well") > 25 and "hung" not in workers
    assert len(bridge.pending) == 1
    bridge.pending[0].callback({"type": "router"})
    for _ in range(30):
        bridge.clock.advance(1)
    assert len(bridge.pending) == 2, "it is asked again once it has answered"
    bridge.detach_manager()


def test_reconnects_do_not_add_to_what_waits_for_it(bridge):
    for _ in range(20):
        bridge.attach_manager(Manager(), "default", "node1")
        for _ in range(30):
            bridge.clock.advance(1)
        bridge.detach_manager()
    assert len(bridge.pending) == 1


def test_so_many_calls_wait_for_a_worker_whoever_makes_them_and_others_are_called(bridge):
    from crossbar_cluster.node.bridge import CALLS_AT_MOST

    refused = 0
    for _ in range(10 * CALLS_AT_MOST):
        try:
            bridge.call("crossbar.worker.hung.get_status")
        except ApplicationError as e:
            refused += e.error == "crossbar.error.busy"
    assert (len(bridge.pending), refused) == (CALLS_AT_MOST, 9 * CALLS_AT_MOST)
    bridge.call("crossbar.worker.well.get_status")
    assert bridge.made[-1] == "crossbar.worker.well.get_status"
    for waiting in bridge.pending:
        waiting.callback(None)
    bridge.call("crossbar.worker.hung.get_status")
    assert len(bridge._to_workers._at_most) == 1


def test_what_is_asked_at_once_is_answered_to_each_by_itself(bridge):
    answers = []
    for _ in range(2):
        bridge.call("crossbar.worker.hung.get_process_monitor").addCallback(answers.append)
    assert len(bridge.pending) == 1
    bridge.pending[0].callback({"of": {}})
    answers[0]["of"]["a"] = 1
    assert answers[1] == {"of": {}}


def test_what_is_asked_with_arguments_is_no_others_question(bridge):
    answers = []
    for realm in ("one", "two"):
        bridge.call("crossbar.worker.hung.get_router_realm_stats", realm).addCallback(answers.append)
    bridge.call("crossbar.worker.hung.get_router_realm_stats", id="three").addCallback(answers.append)
    for number, waiting in enumerate(bridge.pending):
        waiting.callback(number)
    assert answers == [0, 1, 2]
