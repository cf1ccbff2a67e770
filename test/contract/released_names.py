"""How this process looks up names: the name server may fail or hang, time and threads are in the test's hands."""

import socket

import pytest
from twisted.internet.address import IPv4Address
from twisted.internet.task import Clock

from crossbar_cluster.node.names import ANSWER_WITHIN_S, PATIENCE_S, REMEMBER, TELL_EACH_S, Names


class Log:
    def __init__(self):
        self.lines = []

    def warn(self, text, **values):
        self.lines.append(text.format(**values))


class Threads:
    """Look-ups under way: the test says when they come back."""

    def __init__(self):
        self.hanging = []

    def callInThreadWithCallback(self, done, look_up, *args, **kwargs):
        self.hanging.append((done, args))

    def answers(self, *addresses, which=0):
        done, _ = self.hanging.pop(which)
        done(True, [(socket.AF_INET, address) for address in addresses])

    def fails(self, which=0):
        from twisted.python.failure import Failure

        done, _ = self.hanging.pop(which)
        done(False, Failure(socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")))


class Receiver:
    def __init__(self):
        self.found, self.resolution, self.over = [], None, False

    def resolutionBegan(self, resolution):
        self.resolution = resolution

    def addressResolved(self, address):
        assert isinstance(address, IPv4Address) and address.port == 8080
        self.found.append(address.host)

    def resolutionComplete(self):
        assert not self.over
        self.over = True


class Reactor(Clock):
    def callFromThread(self, function, *args, **kwargs):
        function(*args, **kwargs)


@pytest.fixture
def names():
    names = Names(Reactor(), Threads(), Log())
    names.clock, names.threads, names.lines = names._reactor, names._pool, names._log.lines
    return names


def ask(names, name="router1"):
    receiver = Receiver()
    names.resolveHostName(receiver, name, 8080)
    return receiver


def is_clean(names):
    return not names._asking and not names._hanging and not names.clock.getDelayedCalls()


def test_it_finds_what_the_name_server_says(names):
    asked = ask(names)
    names.threads.answers("10.0.0.1", "10.0.0.2")
    assert asked.found == ["10.0.0.1", "10.0.0.2"] and asked.over
    asked = ask(names)
    names.threads.answers("10.0.0.3")
    assert asked.found == ["10.0.0.3"], "it is asked each time"
    assert is_clean(names)


def test_one_look_up_serves_all_who_ask_for_the_name(names):
    asked = [ask(names) for _ in range(50)]
    assert len(names.threads.hanging) == 1
    ask(names, "router2")
    assert len(names.threads.hanging) == 2, "another name is not held up"
    names.threads.answers("10.0.0.1")
    assert all(one.found == ["10.0.0.1"] for one in asked)


def test_a_name_server_that_fails_is_told_of_and_what_it_said_last_holds(names):
    ask(names)
    names.threads.answers("10.0.0.1")
    for _ in range(10):
        asked = ask(names)
        names.threads.fails()
        assert asked.found == ["10.0.0.1"] and asked.over
    (line,) = names.lines
    assert "router1" in line and "10.0.0.1" in line and "name server" in line
    names.clock.advance(TELL_EACH_S)
    ask(names)
    names.threads.fails()
    assert len(names.lines) == 2
    assert is_clean(names)


def test_one_that_hangs_is_not_waited_for(names):
    ask(names)
    names.threads.answers("10.0.0.1")
    asked = ask(names)
    names.clock.advance(PATIENCE_S)
    assert asked.found == ["10.0.0.1"] and asked.over
    for _ in range(100):
        later = ask(names)
        assert later.found == ["10.0.0.1"] and later.over, "nor by anybody else"
    assert len(names.threads.hanging) == 1, "the look-up that hangs is the only one"
    names.threads.answers("10.0.0.9")
    asked = ask(names)
    names.threads.fails()
    assert asked.found == ["10.0.0.9"], "what it has said in the end is not lost"
    assert is_clean(names)


def test_a_name_that_was_never_known_has_an_end(names):
    asked = ask(names)
    names.clock.advance(ANSWER_WITHIN_S)
    assert asked.over and asked.found == []
    assert "never known" in names.lines[0]
    asked = ask(names)
    names.threads.fails()
    assert asked.over and asked.found == []
    assert is_clean(names)


def test_who_asks_no_more_hears_no_more(names):
    asked = ask(names)
    asked.resolution.cancel()
    names.threads.answers("10.0.0.1")
    assert not asked.found and not asked.over
    assert is_clean(names)


def test_what_is_remembered_is_bounded(names):
    for number in range(2 * REMEMBER):
        ask(names, f"router{number}")
        names.threads.answers("10.0.0.1")
    assert len(names._known) == REMEMBER
    for number in range(3 * REMEMBER):
        ask(names, f"other{number}")
        names.threads.fails()
    assert len(names._told) <= REMEMBER + 1


def test_connections_by_name_are_made_with_it():
    """Also names with an underscore, which docker-compose hands out."""
    from twisted.internet import reactor

    from crossbar_cluster.node.names import install_names

    names = install_names(reactor, Log())
    assert reactor.nameResolver is names
    looked_up = []
    names._look_up = lambda name, family: looked_up.append(name) or [(socket.AF_INET, "127.0.0.1")]
    found = []

    def end(result):
        found.append(result)
        reactor.stop()

    reactor.callWhenRunning(lambda: reactor.resolve("router_realm1").addBoth(end))
    late = reactor.callLater(10, reactor.stop)
    reactor.run()
    if late.active():
        late.cancel()
    assert found == ["127.0.0.1"]
    assert looked_up == ["router_realm1"]
