"""What is in proportion to what clients have is done in slices, between which the reactor has its turn."""

from types import SimpleNamespace

import pytest
from autobahn.wamp import message
from autobahn.wamp.types import ComponentConfig

from crossbar.router.service import RouterServiceAgent
from crossbar.router.session import RouterSessionFactory
from crossbar_cluster.core.metrics import METRICS
from crossbar_cluster.core.mirror import WINDOW, Kind
from crossbar_cluster.links.agreement import COMPARE_EACH_S
from crossbar_cluster.router.slices import SLICE_ITEMS, Slices

from .linked_routers import Routers, Session

MANY = 3000
PROCEDURE = "open.procedure"


def many(client, kind=message.Subscribe, count=MANY):
    for number in range(count):
        client._router.process(client, kind(number + 1, f"open.{kind.__name__}.{number}"))


class Turns:
    """Has the reactor do what is due, turn by turn, and does something in each. (A `Clock` does all of it in one.)"""

    def __init__(self, routers, do=lambda: None):
        self.count, self._routers, self._do = 0, routers, do

    def until(self, condition):
        """:returns: how many turns it took."""
        clock = self._routers.clock
        while not condition():
            assert self.count < 10_000
            self.count += 1
            self._do()
            for call in [call for call in clock.getDelayedCalls() if call.getTime() <= clock.seconds()]:
                if call.active():
                    clock.calls.remove(call)
                    call.called = 1
                    call.func(*call.args, **call.kw)
        self._routers.flow()
        return self.count


@pytest.fixture
def routers():
    linked = Routers()
    yield linked
    assert not linked.failed


def closed(client):
    client._transport.is_open = False
    client.onClose(False)


@pytest.mark.parametrize("kind", [message.Subscribe, message.Register])
def test_what_a_client_has_is_taken_off_in_slices(routers, kind):
    router = routers.two
    client, other, callee = (routers.client(router) for _ in range(3))
    many(client, kind)
    callee.say(message.Register, PROCEDURE)

    def serve():
        other._router.process(other, message.Call(1000 + turns.count, PROCEDURE))
        invocation = callee.answers(message.Invocation)[-1]
        router.process(callee, message.Yield(invocation.request))

    turns = Turns(routers, serve)
    closed(client)
    observations = router.links.observations(
        Kind.SUBSCRIPTION if kind is message.Subscribe else Kind.REGISTRATION
    )._observation_id_to_observation
    assert len(observations) > MANY / 2, "most of it is left for later"
    count = turns.until(lambda: not router.leaving.sessions)
    assert count >= MANY / SLICE_ITEMS
    assert len(other.answers(message.Result)) >= count
    assert [o.uri for o in observations.values()] == ([] if kind is message.Subscribe else [PROCEDURE])


def test_the_calls_of_a_client_and_to_it_are_ended_in_slices(routers):
    callee, caller, other = (routers.client(routers.two) for _ in range(3))
    callee.say(message.Register, PROCEDURE)
    other.say(message.Register, "open.other")
    for number in range(MANY):
        routers.two.process(caller, message.Call(number + 1, PROCEDURE))
        routers.two.process(callee, message.Call(number + 1, "open.other"))
    turns = Turns(routers)
    closed(callee)
    assert len(caller.answers(message.Error)) < MANY
    # one that is given up now is answered, once
    routers.two.process(caller, message.Cancel(MANY, "kill"))
    # and one that is answered now is answered to nobody
    routers.two.process(other, message.Yield(other.answers(message.Invocation)[-1].request))
    assert turns.until(lambda: not routers.two.leaving.sessions) >= MANY / SLICE_ITEMS
    assert sorted(error.request for error in caller.answers(message.Error)) == list(range(1, MANY + 1))
    dealer = routers.two._dealer
    assert not (dealer._invocations or dealer._callee_to_invocations or dealer._caller_to_invocations)


def test_whoever_is_being_taken_off_is_not_there_any_more(routers):
    router = routers.two
    client, heir, caller, publisher = (routers.client(router) for _ in range(4))
    many(client, message.Register)
    many(client, message.Subscribe)
    last = MANY - 1
    client.onMessage(message.Goodbye())  # its connection stays
    client.sent.clear()
    router.process(publisher, message.Publish(1, f"open.Subscribe.{last}"))
    router.process(caller, message.Call(1, f"open.Register.{last}"))
    assert [error.error for error in caller.answers(message.Error)] == ["wamp.error.no_such_procedure"]
    assert router.leaving.sessions == {client}
    router.process(heir, message.Register(1, f"open.Register.{last - 1}"))
    assert len(heir.answers(message.Registered)) == 1
    router.process(caller, message.Call(2, f"open.Register.{last - 1}"))
    assert len(heir.answers(message.Invocation)) == 1
    routers.flow()
    assert not client.sent and not router.leaving.sessions
    assert [o.uri for o in router._dealer._registration_map._observation_id_to_observation.values()] == [
        f"open.Register.{last - 1}"
    ]


def test_what_a_router_shows_is_shown_in_slices_and_pings_are_answered_meanwhile(routers):
    client = routers.client(routers.one)
    many(client)
    process, shown = routers.two._broker.processSubscribe, []
    routers.two._broker.processSubscribe = lambda session, msg: shown.append(turns.count) or process(session, msg)
    flow, routers.flow = routers.flow, lambda *args: None
    turns = Turns(routers)
    routers.link()
    assert len(routers.end.mirror._wanted) <= MANY / 2
    routers.flow = flow
    turns.until(lambda: routers.came_up)
    assert len(shown) == MANY
    assert max(shown.count(turn) for turn in set(shown)) <= WINDOW
    assert len(set(shown)) >= MANY / WINDOW
    publisher = routers.client(routers.two)
    publisher.say(message.Publish, f"open.Subscribe.{MANY - 1}")
    assert len(client.answers(message.Event)) == 1


def test_meta_events_are_told_in_slices_and_only_if_somebody_listens(routers):
    for router in (routers.one, routers.two):
        agent = RouterServiceAgent(ComponentConfig(realm="realm1", extra={}), router)
        router._realm.session = agent
        RouterSessionFactory(router._factory).add(agent, router, "service", "trusted")
    routers.flow()
    published = []
    publish = routers.two._broker.processPublish
    routers.two._broker.processPublish = lambda session, msg: published.append(turns.count) or publish(session, msg)
    turns = SimpleNamespace(count=0)
    client, listener = routers.client(routers.two), routers.client(routers.two)
    many(client)
    routers.flow()
    closed(client)
    routers.flow()
    assert not published
    listener.say(message.Subscribe, "wamp.subscription.on_unsubscribe")
    client = routers.client(routers.two)
    many(client)
    routers.flow()
    turns = Turns(routers)
    closed(client)
    turns.until(lambda: routers.two.leaving.slices.is_idle)
    assert len(listener.answers(message.Event)) == MANY == len(published)
    assert max(published.count(turn) for turn in set(published)) <= SLICE_ITEMS


def test_a_part_that_fails_is_told_and_the_others_are_done(routers):
    failed, done = [], []
    slices = Slices(routers.clock, failed.append)
    for number in range(3):
        slices.callLater(0, lambda number=number: done.append(1 / (number - 1)))

    def job():
        yield
        raise RuntimeError("a bug")

    slices.run(job())
    slices.run(iter(range(5)))
    routers.flow()
    assert slices.is_idle and done == [-1, 1] and {type(e) for e in failed} == {RuntimeError, ZeroDivisionError}


# -- what two routers know of each other ------------------------------------------------------------------------------


@pytest.fixture
def compared():
    """Two linked routers with a client each, and the meta API. ``told``: what they do not agree on."""
    routers = Routers()
    for router in (routers.one, routers.two):
        agent = RouterServiceAgent(ComponentConfig(realm="realm1", extra={}), router)
        router._realm.session = agent
        RouterSessionFactory(router._factory).add(agent, router, "service", "trusted")
    routers.link()
    told = []
    routers.end._comparison._agreed = told.append
    routers.lost = []
    routers.session.lose = routers.lost.append
    mine = routers.client(routers.one)
    mine.say(message.Register, PROCEDURE)
    mine.say(message.Subscribe, "open.topic")
    routers.flow(COMPARE_EACH_S + 1)
    assert told == [""]
    return routers, told, mine


def disagreements():
    return sum(number for _, number in METRICS.collect().get("crossbar_cluster_link_disagreements_total", []))


def test_routers_that_agree_go_on(compared):
    routers, told, mine = compared
    for number in range(40):
        mine.say(message.Subscribe, f"open.topic{number}")
    routers.flow(3 * COMPARE_EACH_S)
    assert set(told) == {""} and len(told) >= 4 and not routers.lost


@pytest.mark.parametrize("what", ["a registration is missing", "a subscription is too much", "a ghost is in the way"])
def test_routers_that_do_not_agree_are_linked_anew_and_operators_are_told(compared, what):
    routers, told, _ = compared
    before = disagreements()
    dealer, broker = routers.two._dealer, routers.two._broker
    if what == "a registration is missing":
        registration = dealer._registration_map.get_observation(PROCEDURE)
        registration.observers.discard(routers.peer)
    elif what == "a subscription is too much":
        subscription, _, _ = broker._subscription_map.add_observer(routers.peer, "open.never")
        broker._session_to_subscriptions[routers.peer].add(subscription)
    else:
        dealer._registration_map._observations_exact[PROCEDURE] = "of a session that is gone"
    routers.flow(COMPARE_EACH_S)
    assert not routers.lost, "once may be chance"
    routers.flow(COMPARE_EACH_S + 1)
    assert len(routers.lost) == 1 and "did not agree" in told[-1]
    assert disagreements() == before + 1


def test_a_name_that_stays_refused_is_told(compared):
    routers, told, _ = compared
    Session(routers.two, 5, flow=routers.flow).join().say(message.Register, "open.taken")
    routers.client(routers.one).say(message.Register, "open.taken")
    routers.flow(3 * COMPARE_EACH_S)
    assert "open.taken" in told[-1] and not routers.lost


def test_a_router_that_does_not_know_the_question_is_left_alone(compared):
    routers, told, _ = compared
    (registration,) = [
        r
        for r in routers.two._dealer._registration_map._observation_id_to_observation.values()
        if r.uri == "wamp.cluster.link_picture"
    ]
    routers.two._dealer._unregister(registration, registration.observers[0], message.Unregister(1, registration.id))
    routers.two._dealer._session_to_registrations[routers.peer].clear()  # it would be a difference
    told.clear()
    routers.flow(5 * COMPARE_EACH_S)
    assert not told and not routers.lost and not routers.end._calls


def test_only_routers_are_told_what_links_hold(compared):
    mine, request = compared[2], 77
    mine.tell(message.Call(request, "wamp.cluster.link_picture"))
    assert [e.error for e in mine.answers(message.Error) if e.request == request] == ["wamp.error.not_authorized"]
