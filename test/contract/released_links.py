"""Links between two released routers."""

from types import SimpleNamespace

import pytest
from autobahn.twisted.wamp import ApplicationSession
from autobahn.wamp import message
from autobahn.wamp.types import ComponentConfig
from twisted.internet.defer import Deferred, succeed

from crossbar.router.session import RouterSessionFactory
from crossbar_cluster.core.proxy import RouterLife
from crossbar_cluster.links import link as links_link
from crossbar_cluster.links.link import Dialler, Link, LinkEnd, Target
from crossbar_cluster.node.handshake import ProxyNode
from crossbar_cluster.node.watchdog import loop_of

from .linked_routers import ALL, CALLEE_THAT_CANNOT_CANCEL, MOST, Realm, Routers, Session  # before Autobahn's sessions


@pytest.fixture
def routers():
    linked = Routers().link()
    yield linked
    assert not linked.failed, "the link was aborted"


@pytest.fixture
def called(routers):
    """A caller on the second router and a callee on the first, with a call of it that is not answered yet."""
    return call(routers, routers.client(routers.one))


def call(routers, callee, *args, **kwargs):
    callee.say(message.Register, "open.procedure")
    caller = routers.client(routers.two)
    request = caller.say(message.Call, "open.procedure", *args, **kwargs)
    return SimpleNamespace(caller=caller, callee=callee, request=request)


def answer(called, *args):
    (invocation,) = called.callee.answers(message.Invocation)
    called.callee.tell(message.Yield(invocation.request, args=list(args)))


def test_a_call_is_answered_across_and_leaves_nothing(routers, called):
    answer(called, 5)
    (result,) = called.caller.answers(message.Result)
    assert (result.request, result.args, result.callee) == (called.request, [5], called.callee._session_id)
    (invocation,) = called.callee.answers(message.Invocation)
    assert (invocation.caller, invocation.forward_for) == (called.caller._session_id, None)
    routers.dealers_are_empty()


def test_a_link_ends_although_a_question_over_it_was_given_up(routers):
    routers.hangs = True
    answers = []
    routers.one.links.ask("wamp.session.list").addCallback(answers.append)
    routers.flow(5.0)
    assert answers == [[]]
    routers.cut()
    assert routers.end.over.called
    assert not routers.end._calls


class Component(ApplicationSession):
    """Runs embedded in a router: the release has no INTERRUPT for it."""

    def onJoin(self, details):
        self.begun = []
        return self.register(lambda: self.begun.append(Deferred()) or self.begun[-1], "open.procedure")


@pytest.fixture
def embedded(routers):
    component = Component(ComponentConfig(realm="realm1"))
    RouterSessionFactory(routers.one._factory).add(component, routers.one, "component1", "anonymous")
    routers.flow()
    caller = routers.client(routers.two)
    return SimpleNamespace(callee=component, caller=caller, request=caller.say(message.Call, "open.procedure"))


@pytest.mark.parametrize("mode", ["kill", "killnowait"])
def test_a_call_to_a_component_can_be_given_up(routers, embedded, mode):
    assert embedded.callee.begun
    embedded.caller.tell(message.Cancel(embedded.request, mode))
    assert [e.error for e in embedded.caller.answers(message.Error)] == ["wamp.error.canceled"]
    embedded.callee.begun[0].callback(None)
    routers.flow()
    assert len(embedded.caller.sent) == 1
    routers.dealers_are_empty()


def test_a_link_ends_although_a_component_is_being_called_over_it(routers, embedded):
    assert embedded.callee.begun
    routers.cut()
    assert routers.end.over.called


@pytest.mark.parametrize("mode", ["skip", "kill", "killnowait"])
@pytest.mark.parametrize("roles", [ALL, CALLEE_THAT_CANNOT_CANCEL])
def test_a_call_that_is_given_up_is_answered_once_and_leaves_nothing(routers, mode, roles):
    called = call(routers, routers.client(routers.one, roles=roles))
    called.caller.tell(message.Cancel(called.request, mode))
    answer(called, "too late")
    errors = [(e.request, e.error) for e in called.caller.answers(message.Error)]
    skipped = mode == "skip"  # of which the release tells the caller nothing
    assert errors == ([] if skipped else [(called.request, "wamp.error.canceled")])
    assert len(called.caller.sent) == len(errors)
    routers.dealers_are_empty()


def test_a_call_whose_link_ends_while_it_is_authorized_is_not_made(routers):
    answer = Deferred()
    routers.one._roles["anonymous"].authorize = lambda session, uri, action, options: (
        answer if action == "call" else {"allow": True, "disclose": True, "cache": False}
    )
    called = call(routers, routers.client(routers.one))
    routers.cut()
    answer.callback({"allow": True, "disclose": False, "cache": False})
    routers.flow()
    assert not called.callee.answers(message.Invocation)
    assert [e.error for e in called.caller.answers(message.Error)] == ["wamp.error.canceled"]
    routers.dealers_are_empty()


def test_a_router_that_hangs_before_it_has_answered_everything_is_given_up():
    routers = Routers()
    routers.client(routers.one).say(message.Subscribe, "open.topic")
    routers.hangs = True
    routers.link()
    assert not routers.came_up
    routers.flow(9.0)
    assert routers.end.over.called


def test_a_router_that_was_late_itself_blames_no_other(routers):
    """Nothing of what the other one has sent meanwhile has been read."""
    loop_of(routers.clock).watch(SimpleNamespace(warn=lambda *args, **kwargs: None), observe=False)
    routers.flow(2.0)
    routers.clock.advance(6.0)  # nothing else is done meanwhile
    routers.flow()
    assert not routers.end.over.called
    assert routers.two.links.peers
    routers.hangs = True
    routers.flow(12.0)
    assert routers.end.over.called, "now it is silent"


def test_a_router_that_takes_long_to_show_everything_is_heard(routers):
    """Thousands of registrations take longer than a silence that is taken for the end."""
    other = Session(routers.two, next(routers.ids), "rlink", flow=routers.flow)
    other._pending_auth = routers.peer._pending_auth
    other.join()
    for number in range(12):
        other.say(message.Register, f"open.procedure{number}")
        routers.flow(1.0)
    (peer,) = routers.two.links.peers.values()
    assert peer.session is other and not peer.in_sync
    routers.flow(9.0)
    assert not routers.two.links.peers


@pytest.mark.parametrize("across", [False, True])
@pytest.mark.parametrize("what", ["call", "result", "error"])
@pytest.mark.parametrize("args", [["x" * MOST], ["\ud800"], [object()]], ids=["too much", "no text", "no value"])
def test_what_cannot_be_sent_fails_the_call(routers, across, what, args):
    callee = routers.client(routers.one if across else routers.two)
    called = call(routers, callee, args=args if what == "call" else None)
    for invocation in callee.answers(message.Invocation):
        if what == "result":
            callee.tell(message.Yield(invocation.request, args=args))
        else:
            callee.tell(message.Error(message.Invocation.MESSAGE_TYPE, invocation.request, "lab.error", args=args))
    (error,) = called.caller.sent
    assert (error.request, error.error) == (called.request, "wamp.error.invalid_argument")
    routers.dealers_are_empty()


@pytest.mark.parametrize("args", [["x" * MOST], ["\ud800"], [object()]], ids=["too much", "no text", "no value"])
def test_a_publication_that_cannot_be_sent_across_reaches_who_is_here(routers, args):
    routers.client(routers.one).say(message.Subscribe, "open.topic")
    here = routers.client(routers.two)
    here._transport.send = here.sent.append
    here.say(message.Subscribe, "open.topic")
    routers.client(routers.two).say(message.Publish, "open.topic", args=args)
    assert [event.args for event in here.answers(message.Event)] == [args]


def test_a_realm_that_stops_ends_all_that_is_on_it(routers):
    """A link that is left on it would go on being answered, and the realm that takes its place would have none."""
    client = routers.client(routers.two)
    here, linked = client._session_id, routers.peer._session_id
    wires = client._transport, routers.peer._transport
    component = Component(ComponentConfig(realm="realm1"))
    RouterSessionFactory(routers.two._factory).add(component, routers.two, "component1", "anonymous")
    assert set(routers.two._factory.stop_realm("realm1")) == {here, linked, component._session_id}
    assert not any(wire.isOpen() for wire in wires)
    assert routers.two._factory.start_realm(Realm()) is not routers.two


@pytest.mark.parametrize("across", [False, True])
def test_nobody_gives_a_call_up_in_the_name_of_another(routers, across):
    called = call(routers, routers.client(routers.one if across else routers.two))
    forged = [{"session": 1, "authid": "admin", "authrole": "admin"}]
    called.caller.tell(message.Cancel(called.request, "kill", forward_for=forged))
    assert [interrupt.forward_for for interrupt in called.callee.answers(message.Interrupt)] == [None]


def test_a_name_that_is_free_again_is_taken_soon(routers):
    """Who takes a name over on another router is heard of on one link, and on another one its former owner's end."""
    former, heir = routers.client(routers.two), routers.client(routers.one)
    former.say(message.Register, "open.procedure")
    heir.say(message.Register, "open.procedure")
    assert routers.end.mirror.refused
    former.say(message.Unregister, former.answers(message.Registered)[0].registration)
    routers.flow(0.5)
    assert not routers.end.mirror.refused
    caller = routers.client(routers.two)
    caller.say(message.Call, "open.procedure")
    assert heir.answers(message.Invocation)


def test_a_name_that_stays_taken_is_asked_for_ever_more_seldom(routers):
    asked = []
    for client in (routers.client(routers.two), routers.client(routers.one)):
        client.say(message.Register, "open.procedure")
    process = routers.two._dealer.processRegister
    routers.two._dealer.processRegister = lambda session, register: asked.append(1) or process(session, register)
    routers.flow(60.0)
    assert 10 <= len(asked) <= 20
    routers.client(routers.one).say(message.Register, "open.procedure", invoke="roundrobin")
    routers.cut()
    assert not [call for call in routers.clock.getDelayedCalls() if "LinkEnd" in str(call.func)]


def test_whose_subscription_is_removed_on_another_router_goes_on(routers):
    subscriber, publisher = routers.client(routers.one), routers.client(routers.two)
    subscriber.say(message.Subscribe, "open.topic")
    broker = routers.two._broker
    broker.removeSubscriber(broker._subscription_map.get_observation("open.topic"), routers.peer)
    routers.flow()
    publisher.say(message.Publish, "open.topic", args=[1])
    assert [event.args for event in subscriber.answers(message.Event)] == [[1]]


def test_a_session_that_cannot_be_begun_is_ended(routers, monkeypatch):
    """Else what it has come to hold stays held, and its messages go on arriving."""
    ended = []
    session = SimpleNamespace(
        joined=succeed(SimpleNamespace(authextra=None)),
        transport=None,
        lose=ended.append,
        disconnect=list,
        give_up=list,
    )
    monkeypatch.setattr(links_link, "BackendSession", lambda *args: session)
    monkeypatch.setattr(links_link, "connect", lambda *args: None)
    monkeypatch.setattr(LinkEnd, "begin", lambda end, session: 1 / 0)
    log = SimpleNamespace(failure=lambda *args, **kwargs: None, warn=lambda *args, **kwargs: None)
    dialler = Dialler(ProxyNode("node1", SimpleNamespace(public="aa")), "w1", routers.clock, log, list)
    link = Link(routers.one.links, Target("id", ("127.0.0.1", 1), RouterLife("node2", "w2", "bb", "1")), dialler)
    link.start()
    assert len(ended) == 1 and "ZeroDivisionError" in link.problem
    link.stop()
    assert len(ended) == 1
