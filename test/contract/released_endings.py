"""Nothing of a call, a session or a link outlives it, however it ends: every map is counted afterwards."""

from contextlib import suppress
from types import SimpleNamespace

import pytest
from autobahn.exception import Disconnected
from autobahn.wamp import message
from autobahn.wamp.exception import ProtocolError, TransportLost
from autobahn.wamp.types import ComponentConfig
from crossbar.router.realmstore import RealmStoreMemory

from crossbar.router.service import RouterServiceAgent
from crossbar.router.session import RouterSessionFactory

from .linked_routers import ALL, CALLEE_THAT_CANNOT_CANCEL, MOST, Realm, Routers

PROCEDURE = "open.procedure"
CANCELED = "wamp.error.canceled"


@pytest.fixture
def routers():
    linked = Routers().link()
    yield linked
    assert not linked.failed, "the link was aborted"


class Timers:
    """Of the dealer, on the test's clock: the release takes those of the process."""

    def __init__(self, clock):
        self._clock = clock

    def call_later(self, delay_s, do):
        return self._clock.callLater(delay_s, do)


def prepare(routers):
    for router in (routers.one, routers.two):
        router._dealer._cancel_timers = Timers(routers.clock)
    return routers


@pytest.fixture(params=["here", "across"])
def place(request, routers):
    """A caller on the second router, and where its callee is."""
    prepare(routers)
    return SimpleNamespace(routers=routers, across=request.param == "across")


class Called:
    """A call that is in flight."""

    def __init__(self, place, roles=ALL, **options):
        self.routers = place.routers
        self.callee = self.routers.client(self.routers.one if place.across else self.routers.two, roles=roles)
        self.callee.say(message.Register, PROCEDURE)
        self.caller = self.routers.client(self.routers.two)
        self.request = self.caller.say(message.Call, PROCEDURE, args=["payload"], **options)
        (self.invocation,) = self.callee.answers(message.Invocation)

    def cancel(self, mode):
        self.caller.tell(message.Cancel(self.request, mode))

    def progress(self):
        self.callee.tell(message.Yield(self.invocation.request, args=["so far"], progress=True))

    def result(self, *args):
        self.callee.tell(message.Yield(self.invocation.request, args=list(args)))

    def error(self):
        self.callee.tell(message.Error(message.Invocation.MESSAGE_TYPE, self.invocation.request, "lab.error"))

    def unregister(self):
        self.callee.say(message.Unregister, self.callee.answers(message.Registered)[0].registration)

    def leave(self, who):
        leave(self.routers, getattr(self, who))

    @property
    def answers(self):
        return [m for m in self.caller.sent if isinstance(m, (message.Result, message.Error)) and not progress(m)]


def progress(msg):
    return isinstance(msg, message.Result) and msg.progress


def leave(routers, session):
    session._transport.is_open = False
    session.onClose(False)
    routers.flow()


def leftovers(router):
    """What a router keeps for calls, and for sessions that are not there, by name: nothing, if all is well."""
    dealer, broker = router._dealer, router._broker
    kept = {
        name: value
        for name, value in vars(dealer).items()
        if name in ("_invocations", "_invocations_by_call", "_callee_to_invocations", "_caller_to_invocations")
    }
    there = set(router._session_id_to_session.values())
    owners = {
        "registrations": dealer._session_to_registrations,
        "subscriptions": broker._session_to_subscriptions,
        "authids": {s: 1 for sessions in router._authid_to_sessions.values() for s in sessions},
        "authroles": {s: 1 for sessions in router._authrole_to_sessions.values() for s in sessions},
    }
    kept |= {name: [owner for owner in of if owner not in there] for name, of in owners.items()}
    for name, observations in (("callee", dealer._registration_map), ("subscriber", broker._subscription_map)):
        for observation in observations._observation_id_to_observation.values():
            kept[f"{name} {observation.uri}"] = [o for o in observation.observers if o not in there]
            kept[f"extra {name} {observation.uri}"] = [o for o in observation.observers_extra if o not in there]
            for extra in observation.observers_extra.values():
                kept[f"busy {name} {observation.uri}"] = getattr(extra, "concurrency_current", 0)
    kept["no observers"] = [
        o.uri for o in dealer._registration_map._observation_id_to_observation.values() if not o.observers
    ]
    if dealer._call_store is not None:
        kept["queued"] = [queued for queued in queued_in(dealer) if queued]
    links = router.links
    kept["peers"] = [peer for peer in links._sessions if peer not in there]
    return {name: value for name, value in kept.items() if value}


def queued_in(dealer):
    store = dealer._call_store
    maps = (getattr(store, name, {}) for name in ("_queued_calls", "_calls", "_callers", "_keys"))
    return [queued for each in maps for queued in each.values()]


def nothing_is_left(routers):
    assert not leftovers(routers.one) and not leftovers(routers.two)
    assert not routers.end._remote._callers
    assert not routers.end._calls
    assert not [call for call in routers.clock.getDelayedCalls() if call.getTime() > routers.clock.seconds() + 10]


WAYS = {
    "a result": (lambda c: c.result(5), 1),
    "progress, and a result": (lambda c: (c.progress(), c.progress(), c.result()), 1),
    "an error": (lambda c: c.error(), 1),
    "progress, and an error": (lambda c: (c.progress(), c.error()), 1),
    "skipped, and a result": (lambda c: (c.cancel("skip"), c.result()), 0),
    "killed, and an error": (lambda c: (c.cancel("kill"), c.error()), 1),
    "killed, and a result all the same": (lambda c: (c.cancel("kill"), c.result()), 1),
    "killed without waiting, and an error": (lambda c: (c.cancel("killnowait"), c.error()), 1),
    "killed twice": (lambda c: (c.cancel("killnowait"), c.cancel("kill"), c.result()), 1),
    "the caller leaves": (lambda c: c.leave("caller"), 0),
    "progress, and the caller leaves": (lambda c: (c.progress(), c.leave("caller")), 0),
    "skipped, and the caller leaves": (lambda c: (c.cancel("skip"), c.leave("caller")), 0),
    "killed, and the caller leaves": (lambda c: (c.cancel("kill"), c.leave("caller")), None),
    "killed without waiting, and the caller leaves": (lambda c: (c.cancel("killnowait"), c.leave("caller")), 1),
    "the callee leaves": (lambda c: c.leave("callee"), 1),
    "skipped, and the callee leaves": (lambda c: (c.cancel("skip"), c.leave("callee")), 0),
    "killed, and the callee leaves": (lambda c: (c.cancel("kill"), c.leave("callee")), 1),
    "killed without waiting, and the callee leaves": (lambda c: (c.cancel("killnowait"), c.leave("callee")), 1),
    "skipped, and both leave": (lambda c: (c.cancel("skip"), c.leave("caller"), c.leave("callee")), 0),
    "both leave": (lambda c: (c.leave("caller"), c.leave("callee")), 0),
    "both leave, the other way round": (lambda c: (c.leave("callee"), c.leave("caller")), 1),
    "unregistered, and a result": (lambda c: (c.unregister(), c.result()), 1),
    "unregistered, and the callee leaves": (lambda c: (c.unregister(), c.leave("callee")), 1),
    "unregistered, and the caller leaves": (lambda c: (c.unregister(), c.leave("caller")), 0),
    "a result that cannot be passed on": (lambda c: c.result("x" * MOST), 1),
    "progress, and a result that cannot be passed on": (lambda c: (c.progress(), c.result("x" * MOST)), 1),
}


@pytest.mark.parametrize("roles", [ALL, CALLEE_THAT_CANNOT_CANCEL], ids=["can be canceled", "cannot"])
@pytest.mark.parametrize("way", WAYS)
def test_a_call_leaves_nothing_whichever_way_it_ends(place, way, roles):
    called = Called(place, roles=roles)
    end, answers = WAYS[way]
    end(called)
    nothing_is_left(place.routers)
    if answers is not None:
        assert len(called.answers) == answers, called.answers
    assert {answer.request for answer in called.answers} <= {called.request}


@pytest.mark.parametrize("roles", [ALL, CALLEE_THAT_CANNOT_CANCEL], ids=["can be canceled", "cannot"])
@pytest.mark.parametrize("after", ["", "kill", "result", "the caller leaves", "the callee leaves"])
def test_a_call_with_a_time_limit_leaves_nothing(place, after, roles):
    called = Called(place, roles=roles, timeout=5)
    after and {
        "kill": lambda: called.cancel("kill"),
        "result": called.result,
        "the caller leaves": lambda: called.leave("caller"),
        "the callee leaves": lambda: called.leave("callee"),
    }[after]()
    called.routers.flow(6.0)
    nothing_is_left(called.routers)
    assert len(called.answers) == (after != "the caller leaves"), called.answers


@pytest.mark.parametrize("canceled", [None, "skip", "kill", "killnowait"])
def test_a_call_over_a_link_that_ends_leaves_nothing(routers, canceled):
    called = Called(SimpleNamespace(routers=prepare(routers), across=True))
    if canceled:
        called.cancel(canceled)
    routers.cut()
    assert routers.end.over.called
    nothing_is_left(routers)
    assert len(called.answers) == (canceled != "skip")


def test_who_calls_itself_leaves_nothing(routers):
    client = prepare(routers).client(routers.two)
    client.say(message.Register, PROCEDURE)
    client.say(message.Call, PROCEDURE)
    leave(routers, client)
    nothing_is_left(routers)


# -- calls that wait for a callee that is busy ------------------------------------------------------------------------


class Queued:
    """A callee that takes one call at a time, a call that it is busy with, and one that waits."""

    def __init__(self, invoke="single"):
        personality = SimpleNamespace(create_realm_store=lambda *args: RealmStoreMemory(*args))
        Store = type("WithStore", (Realm,), {"config": {"name": "realm1", "store": {"type": "memory"}}})
        self.routers = routers = Routers()
        routers.two._factory._worker = SimpleNamespace(personality=personality, WORKER_TYPE="test")
        del routers.two._factory._routers["realm1"]
        roles = routers.two._roles
        routers.two = routers.two._factory.start_realm(Store())
        routers.two._roles.update(roles)
        prepare(routers.link())
        self.callee = routers.client(routers.two)
        self.callee.say(message.Register, PROCEDURE, invoke=invoke, concurrency=1)
        self.busy, self.waiting = routers.client(routers.two), routers.client(routers.two)
        self.first = self.busy.say(message.Call, PROCEDURE, args=["first"])
        self.second = self.waiting.say(message.Call, PROCEDURE, args=["second"])

    def invoked(self):
        return [invocation.args[0] for invocation in self.callee.answers(message.Invocation)]

    def answer(self, kind="result"):
        invocation = self.callee.answers(message.Invocation)[-1].request
        error = message.Error(message.Invocation.MESSAGE_TYPE, invocation, "lab.error")
        self.callee.tell(message.Yield(invocation) if kind == "result" else error)


@pytest.mark.parametrize("kind", ["result", "error"])
@pytest.mark.parametrize("invoke", ["single", "roundrobin"])
def test_a_call_that_waits_is_made_when_the_callee_is_free(kind, invoke):
    queued = Queued(invoke)
    assert queued.invoked() == ["first"]
    queued.answer(kind)
    assert queued.invoked() == ["first", "second"]
    queued.answer()
    assert [answer.request for answer in queued.waiting.answers(message.Result)] == [queued.second]
    nothing_is_left(queued.routers)


def test_a_call_that_waits_is_made_when_the_caller_before_it_leaves():
    queued = Queued()
    leave(queued.routers, queued.busy)
    assert queued.invoked() == ["first", "second"]
    queued.answer()
    nothing_is_left(queued.routers)


@pytest.mark.parametrize("how", ["leaves", "cancels"])
def test_a_call_that_waits_goes_with_its_caller(how):
    queued = Queued()
    if how == "leaves":
        leave(queued.routers, queued.waiting)
    else:
        queued.waiting.tell(message.Cancel(queued.second, "kill"))
        assert [error.error for error in queued.waiting.answers(message.Error)] == [CANCELED]
    queued.answer()
    assert queued.invoked() == ["first"]
    nothing_is_left(queued.routers)


@pytest.mark.parametrize("how", ["leaves", "unregisters"])
def test_a_call_that_waits_is_answered_when_its_callee_goes(how):
    queued = Queued()
    if how == "leaves":
        leave(queued.routers, queued.callee)
    else:
        queued.callee.say(message.Unregister, queued.callee.answers(message.Registered)[0].registration)
        queued.answer()
    assert [error.request for error in queued.waiting.answers(message.Error)] == [queued.second]
    nothing_is_left(queued.routers)


def test_a_call_that_waits_with_a_time_limit_is_given_up():
    queued = Queued()
    third = queued.waiting.say(message.Call, PROCEDURE, args=["third"], timeout=5)
    queued.routers.flow(6.0)
    assert [(error.request, error.error) for error in queued.waiting.answers(message.Error)] == [(third, CANCELED)]
    queued.answer()
    queued.answer()
    assert queued.invoked() == ["first", "second"]
    nothing_is_left(queued.routers)


# -- a request id that is used again ----------------------------------------------------------------------------------


@pytest.mark.parametrize("procedure", [PROCEDURE, "open.nobody"])
def test_a_request_id_that_is_in_flight_is_refused(place, procedure):
    called = Called(place)
    other = called.routers.client(called.routers.two)
    in_flight = other.say(message.Call, PROCEDURE)
    wire, session_id = called.caller._transport, called.caller._session_id
    called.caller.tell(message.Call(called.request, procedure, args=["again"]))
    (abort,) = called.caller.answers(message.Abort)
    assert abort.reason == "wamp.error.protocol_violation" and str(called.request) in abort.message
    assert called.caller.sent[-1] is abort and not wire.isOpen()
    assert session_id not in called.routers.two._session_id_to_session
    invocations = called.callee.answers(message.Invocation)
    assert len(invocations) == 2  # the one that is refused is not among them
    called.callee.tell(message.Yield(invocations[1].request))
    assert [result.request for result in other.answers(message.Result)] == [in_flight]
    nothing_is_left(called.routers)


def test_a_request_id_that_waits_in_a_queue_is_refused():
    queued = Queued()
    queued.waiting.tell(message.Call(queued.second, PROCEDURE))
    assert len(queued.waiting.answers(message.Abort)) == 1
    queued.answer()
    assert queued.invoked() == ["first"]
    nothing_is_left(queued.routers)


def test_a_request_id_that_is_in_flight_is_refused_although_it_is_authorized_late(routers):
    from twisted.internet.defer import Deferred

    prepare(routers)
    callee = routers.client(routers.two)
    callee.say(message.Register, PROCEDURE)
    answers = [Deferred(), Deferred()]
    later = iter(answers)
    routers.two._roles["anonymous"].authorize = lambda session, uri, action, options: next(later)
    caller = routers.client(routers.two)
    for _ in answers:
        caller.tell(message.Call(7, PROCEDURE))
    for answer in answers:
        answer.callback({"allow": True, "disclose": False, "cache": False})
    routers.flow()
    assert len(callee.answers(message.Invocation)) == 1
    assert len(caller.answers(message.Abort)) == 1
    nothing_is_left(routers)


def test_an_error_of_another_session_ends_no_call(place):
    called = Called(place)
    other = called.routers.client(called.routers.one if place.across else called.routers.two)
    with pytest.raises(ProtocolError):
        other.tell(message.Error(message.Invocation.MESSAGE_TYPE, called.invocation.request, "lab.error"))
    assert not called.answers
    called.result(5)
    assert [result.args for result in called.answers] == [[5]]
    nothing_is_left(called.routers)


def test_a_request_id_that_a_link_uses_again_ends_the_link(routers):
    called = Called(SimpleNamespace(routers=prepare(routers), across=True))
    again = message.Invocation(
        next(iter(routers.end._remote._callers)),
        1,
        forward_for=[{"session": called.caller._session_id, "authid": "a", "authrole": "anonymous"}],
    )
    with pytest.raises(Exception, match="in flight"):
        routers.end.forward(again)
    routers.cut()
    nothing_is_left(routers)


def test_what_a_link_held_goes_with_it_and_is_had_again(routers):
    """A client that uses a request id again, and a link that is lost: the procedures of the other router come back."""
    called = Called(SimpleNamespace(routers=prepare(routers), across=True))
    called.caller.tell(message.Call(called.request, PROCEDURE))
    routers.cut()
    assert not routers.two._dealer._registration_map._observations_exact
    routers.link()
    caller = routers.client(routers.two)
    caller.say(message.Call, PROCEDURE)
    called.callee.tell(message.Yield(called.callee.answers(message.Invocation)[-1].request))
    assert len(caller.answers(message.Result)) == 1


# -- a session that ends, whatever goes wrong with it -----------------------------------------------------------------


class Broken:
    """A connection that raises, whatever is sent."""

    transport_details = None

    def __init__(self, error):
        self._error = error

    def send(self, msg):
        raise self._error

    def isOpen(self):
        return True

    def close(self):
        raise self._error

    abort = close


def with_service(routers):
    for router in (routers.one, routers.two):
        agent = RouterServiceAgent(ComponentConfig(realm="realm1", extra={}), router)
        router._realm.session = agent
        RouterSessionFactory(router._factory).add(agent, router, "service", "trusted")
    routers.flow()
    return prepare(routers)


@pytest.mark.parametrize("error", [TransportLost(), Disconnected("gone"), RuntimeError("a bug")], ids=repr)
def test_a_caller_that_cannot_be_told_holds_nothing_up(routers, error):
    prepare(routers)
    callee = routers.client(routers.two)
    for procedure in (PROCEDURE, "open.other"):
        callee.say(message.Register, procedure)
    callee.say(message.Subscribe, "open.topic")
    callers = [routers.client(routers.two) for _ in range(3)]
    for caller in callers:
        caller.say(message.Call, PROCEDURE)
    callers[1]._transport = Broken(error)
    leave(routers, callee)
    for caller in (callers[0], callers[2]):
        assert [answer.error for answer in caller.answers(message.Error)] == [CANCELED]
    nothing_is_left(routers)


@pytest.mark.parametrize("missing", ["_invocations", "_invocations_by_call", "_caller_to_invocations"])
def test_a_map_that_lacks_an_entry_holds_nothing_up(routers, missing):
    prepare(routers)
    callee, caller = routers.client(routers.two), routers.client(routers.two)
    for procedure in (PROCEDURE, "open.other"):
        callee.say(message.Register, procedure)
    for _ in range(2):
        caller.say(message.Call, PROCEDURE)
    getattr(routers.two._dealer, missing).clear()
    leave(routers, callee)
    leave(routers, caller)
    nothing_is_left(routers)


@pytest.mark.parametrize("part", ["broker", "dealer", "links", "store", "service"])
def test_a_part_that_fails_leaves_the_rest_done(routers, part, monkeypatch):
    with_service(routers)
    router = routers.two
    told = routers.client(router)
    told.say(message.Subscribe, "wamp.session.on_leave")
    client = routers.client(router)
    client._service_session = router._realm.session
    client._stats_enabled = False
    client.say(message.Register, PROCEDURE)
    client.say(message.Subscribe, "open.topic")

    def fail(*args, **kwargs):
        raise RuntimeError("a bug")

    if part == "broker":
        monkeypatch.setattr(router._broker, "detach", fail)
    elif part == "dealer":
        monkeypatch.setattr(router._dealer, "detach", fail)
    elif part == "links":
        monkeypatch.setattr(router.links, "peer_left", fail)
    elif part == "store":
        router._store = SimpleNamespace(store_session_left=fail)
    else:
        client._transport = SimpleNamespace(_serializer=SimpleNamespace(stats=fail), is_open=True)
    session_id = client._session_id
    with suppress(RuntimeError):  # Autobahn's connection drops it
        client.onClose(False)
    routers.flow()
    nothing_is_left(routers)
    assert [event.args for event in told.answers(message.Event)] == [[session_id]]


def test_a_subscriber_that_is_about_to_go_does_not_keep_an_event_from_the_others(routers):
    prepare(routers)
    subscribers = [routers.client(routers.two) for _ in range(8)]
    for subscriber in subscribers:
        subscriber.say(message.Subscribe, "open.topic")
    for subscriber in subscribers[::2]:
        subscriber._transport = Broken(TransportLost())
    routers.client(routers.two).say(message.Publish, "open.topic", args=[1])
    assert all(len(s.answers(message.Event)) == 1 for s in subscribers[1::2])


def test_who_leaves_is_told_of_with_its_id(routers):
    with_service(routers)
    told, client = routers.client(routers.two), routers.client(routers.two)
    topics = [f"wamp.{what}" for what in ("registration.on_unregister", "registration.on_delete")]
    topics += [f"wamp.{what}" for what in ("subscription.on_unsubscribe", "subscription.on_delete")]
    for topic in topics:
        told.say(message.Subscribe, topic)
    client.say(message.Register, PROCEDURE)
    client.say(message.Subscribe, "open.topic")
    ids = {client.answers(message.Registered)[0].registration, client.answers(message.Subscribed)[0].subscription}
    session_id = client._session_id
    leave(routers, client)
    events = [event.args for event in told.answers(message.Event)]
    assert len(events) == 4 and {args[0] for args in events} == {session_id} and {args[1] for args in events} == ids


def test_a_session_that_joins_again_on_its_connection_is_another_one(routers):
    """WAMP allows a session after another on one connection: nothing of the former is the latter's."""
    prepare(routers)
    client = routers.client(routers.two)
    for number in range(300):
        client.say(message.Subscribe, f"open.topic{number}")
    client.onMessage(message.Goodbye())
    client._session_id = 17
    client.join()
    client.sent.clear()
    routers.client(routers.two).say(message.Publish, "open.topic250")
    assert not client.answers(message.Event)
    routers.flow()
    assert not routers.two._broker._session_to_subscriptions[client]
    client.say(message.Subscribe, "open.topic250")
    routers.client(routers.two).say(message.Publish, "open.topic250")
    assert len(client.answers(message.Event)) == 1


# -- force_reregister -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("broken", [False, True])
@pytest.mark.parametrize("heir_has_it", [False, True])
@pytest.mark.parametrize("places", ["here", "across", "both"])
def test_a_shared_procedure_that_is_taken_over_is_taken_from_all(routers, places, heir_has_it, broken):
    with_service(routers)
    at = {"here": [routers.two] * 5, "across": [routers.one] * 5, "both": [routers.one, routers.two] * 2}[places]
    callees = [routers.client(router) for router in at]
    heir = routers.client(routers.two)
    for callee in [*callees, *[heir] * heir_has_it]:
        callee.say(message.Register, PROCEDURE, invoke="roundrobin")
    if broken:
        callees[1]._transport = Broken(TransportLost())
    heir.say(message.Register, PROCEDURE, invoke="roundrobin", force_reregister=True)
    routers.flow(1.0)
    assert len(heir.answers(message.Registered)) == 1 + heir_has_it
    for number, callee in enumerate(callees):
        if not (broken and number == 1):
            assert [m.request for m in callee.answers(message.Unregistered)] == [0]
        assert not callee._router._dealer._session_to_registrations[callee]
    caller = routers.client(routers.two)
    for _ in range(6):
        caller.say(message.Call, PROCEDURE)
    assert len(heir.answers(message.Invocation)) == 6
    leave(routers, heir)
    assert not routers.two._dealer._registration_map.get_observation(PROCEDURE)
    assert routers.one._dealer._registration_map.get_observation(PROCEDURE) is None
