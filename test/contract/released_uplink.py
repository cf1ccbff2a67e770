"""When and where a node connects to its master. On the released classes, without a network."""

import itertools
from types import SimpleNamespace

import pytest
from autobahn.twisted.wamp import ApplicationRunner
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectError, ConnectionDone, ConnectionRefusedError
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from crossbar_cluster.node.uplink import Backoff, Uplink, can_wait, tell_joined, uplink_in_place_of

FILE, ENV = "ws://10.0.0.1:9000/ws", "ws://10.0.0.2:9000/ws"


class Reactor(Clock):
    """A clock that also takes system event triggers."""

    def __init__(self):
        super().__init__()
        self.triggers = []

    def addSystemEventTrigger(self, phase, event, function, *args):
        self.triggers.append((phase, event, function))


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


# -- when and where the uplink connects -------------------------------------------------------------------------------


@pytest.mark.parametrize("end", [min, max])
def test_delays_grow_from_half_a_second_and_never_exceed_five(end):
    backoff = Backoff(vary=lambda low, high: end(low, high))
    delays = [backoff.next_s() for _ in range(100)]
    assert 0.4 <= delays[0] <= 0.6
    assert delays == sorted(delays)
    assert delays[1] == pytest.approx(delays[0] * 1.5)
    assert 3.3 < delays[-1] <= 5.0
    backoff.reset()
    assert backoff.next_s() == delays[0]


class Addresses:
    """Stands in for the endpoints of the uplink: which one was tried when."""

    def __init__(self, uplink, reactor):
        self.tried, self.connecting = [], []
        for address in uplink.addresses:
            address.endpoint = SimpleNamespace(connect=lambda factory, url=address.url: self.connect(url, factory))
        self._reactor = reactor

    def connect(self, url, factory):
        self.tried.append((self._reactor.seconds(), url))
        self.connecting.append(Deferred())
        self.factory = factory
        return self.connecting[-1]

    def refuse(self):
        self.connecting[-1].errback(ConnectionRefusedError())

    def accept(self, uplink):
        """Connect, as to somebody who never says anything. :returns: its transport and protocol."""
        uplink.address.factory = SimpleNamespace(buildProtocol=lambda addr: Protocol())
        protocol, transport = self.factory.buildProtocol(None), StringTransport()
        protocol.makeConnection(transport)
        self.connecting[-1].callback(protocol)
        return transport, protocol


def made(*urls):
    reactor, log = Reactor(), Log()
    uplink = Uplink(urls, "ab" * 32, reactor, log=log)
    addresses = Addresses(uplink, reactor)
    uplink.run(lambda config: None, start_reactor=False, auto_reconnect=True)
    return uplink, addresses, reactor, log


def test_a_master_that_is_away_is_tried_at_least_every_five_seconds_and_told_of_once_a_minute():
    _, addresses, reactor, log = made(ENV)
    for _ in range(400):
        if not addresses.connecting[-1].called:
            addresses.refuse()
        reactor.advance(0.25)
    times = [at for at, _ in addresses.tried]
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert times[0] == 0 and times[-1] > 90
    assert max(gaps) <= 5.25 and gaps[0] <= 0.75
    assert len(log.lines) == 2 and all("does not answer (Connection was refused" in line for line in log.lines)


def test_why_a_master_does_not_answer_is_one_line_whatever_it_is():
    """While a Kubernetes Service has no endpoint, the failure has another failure in it, with its traceback."""
    _, addresses, reactor, log = made(ENV)
    try:
        raise OSError(113, "No route to host")
    except OSError:
        inner = Failure()
    addresses.connecting[-1].errback(ConnectError(string=inner))
    reactor.advance(0.25)
    [line] = log.lines
    assert "does not answer ([Errno 113] No route to host)" in line and "\n" not in line


def test_the_environments_address_is_tried_in_turn_until_something_has_joined():
    uplink, addresses, reactor, log = made(FILE, ENV)
    for _ in range(4):
        addresses.refuse()
        reactor.advance(5)
    assert [url for _, url in addresses.tried] == [FILE, ENV, FILE, ENV, FILE]
    turned = log.matching("from CROSSBAR_FABRIC_URL")
    assert len(turned) == 1
    assert turned[0].startswith(f"The master at {FILE} does not answer") and f"trying {ENV}" in turned[0]

    addresses.refuse()
    reactor.advance(5)
    tell_joined(uplink)
    addresses.refuse()  # the connection ends, after it has joined
    reactor.advance(5)
    assert [url for _, url in addresses.tried][-2:] == [ENV, ENV], "it was there a moment ago"
    assert addresses.tried[-1][0] - addresses.tried[-2][0] <= 5
    addresses.refuse()
    reactor.advance(5)
    assert addresses.tried[-1][1] == FILE


def test_who_accepts_the_connection_and_never_lets_the_node_in_does_not_hold_it():
    uplink, addresses, reactor, log = made(FILE, ENV)
    transport, protocol = addresses.accept(uplink)
    reactor.advance(14.9)
    assert not transport.disconnecting and not log.lines
    reactor.advance(0.2)
    assert transport.disconnecting
    protocol.connectionLost(Failure(ConnectionDone()))
    assert "does not answer (it did not let this node in within 15 s)" in log.lines[0] and FILE in log.lines[0]
    reactor.advance(5)
    assert [url for _, url in addresses.tried] == [FILE, ENV]

    transport, protocol = addresses.accept(uplink)
    tell_joined(uplink)
    reactor.advance(60)
    assert not transport.disconnecting, "who has let the node in has all the time that it likes"
    protocol.connectionLost(Failure(ConnectionDone()))
    reactor.advance(5)
    transport, protocol = addresses.accept(uplink)
    protocol.connectionLost(Failure(ConnectionDone()))
    assert not reactor.getDelayedCalls()[1:], "only the next attempt is waited for"


def test_an_unpaired_node_is_told_of_with_its_key_and_what_to_do():
    uplink, addresses, reactor, log = made(ENV)
    assert can_wait(uplink, "fabric.auth-failed.node-unpaired", "This node is unpaired.")
    addresses.refuse()
    assert len(log.lines) == 1 and "ab" * 32 in log.lines[0] and "crossbar-cluster pair " in log.lines[0]
    reactor.advance(5)
    assert len(addresses.tried) == 2
    assert not can_wait(uplink, "wamp.close.normal", None)


def test_stop_ends_it():
    uplink, addresses, reactor, _ = made(ENV)
    addresses.refuse()
    uplink.stop()
    reactor.advance(60)
    assert len(addresses.tried) == 1


def test_a_node_that_ends_says_goodbye_and_does_not_come_back():
    uplink, addresses, reactor, _ = made(ENV)
    left = Deferred()
    uplink._session = SimpleNamespace(is_attached=lambda: True, leave=lambda: left)
    [(phase, event, goodbye)] = reactor.triggers
    assert (phase, event) == ("before", "shutdown")
    ended = goodbye()
    assert not ended.called, "the reactor waits for the GOODBYE"
    left.callback(None)
    assert ended.called
    reactor.advance(60)
    assert len(addresses.tried) == 1


def test_the_released_node_is_given_an_uplink_and_other_users_of_the_runner_are_not(monkeypatch):
    from crossbar.edge.node.node import FabricNode
    from crossbar.worker import rlink

    assert rlink.ApplicationRunner is ApplicationRunner
    monkeypatch.setenv("CROSSBAR_FABRIC_URL", ENV)
    node = FabricNode.__new__(FabricNode)
    node._reactor = Reactor()
    node._node_secmod = {1: SimpleNamespace(public_key=lambda binary: "ab" * 32)}
    node._manager_runner = None
    assert node._manager_runner is None
    node._manager_runner = ApplicationRunner(FILE)
    assert isinstance(node._manager_runner, Uplink)
    assert node._manager_runner.urls == (FILE, ENV)
    node._manager_runner = ApplicationRunner(ENV)
    assert node._manager_runner.urls == (ENV,)
    rawsocket = ApplicationRunner("rs://10.0.0.1:9000")
    assert uplink_in_place_of(rawsocket, node) is rawsocket
