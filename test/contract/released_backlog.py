"""What a connection has not taken yet, on real sockets: bounded, told once, and its sender told when to wait."""

import socket
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
from twisted.internet import reactor
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock

from crossbar_cluster.node import backlog
from crossbar_cluster.node.backlog import forget_unsent, guard_backlog, tcp_of, unsent_bytes, untaken_bytes

LIMIT_BYTES = 2**20
PIECE = bytes(100_000)


class Accepted(Protocol):
    """A connection, and what is told of it."""

    def connectionMade(self):
        self.told = []
        self.factory.accepted.append(self)

    def guard(self, limit_bytes=LIMIT_BYTES):
        filled, drained = (lambda: self.told.append("filled")), (lambda: self.told.append("drained"))
        guard_backlog(self.transport, limit_bytes, self.told.append, filled, drained)

    def connectionLost(self, reason):
        self.told.append("lost")


def turn_until(condition):
    """Let the reactor, which does not run, do what is to be done."""
    for _ in range(500):
        if condition():
            return
        reactor.iterate(0.01)
    raise AssertionError("not within 5 s")


@pytest.fixture
def pair():
    """The accepted end of a connection whose other end takes little unless it is read, and that one."""
    factory = Factory.forProtocol(Accepted)
    factory.accepted = []
    port = reactor.listenTCP(0, factory, interface="127.0.0.1")
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        other.connect(("127.0.0.1", port.getHost().port))
        turn_until(lambda: factory.accepted)
        accepted = factory.accepted[0]
        accepted.transport.getHandle().setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        yield accepted, other
        accepted.transport.abortConnection()
        turn_until(lambda: "lost" in accepted.told)
    port.stopListening()


@contextmanager
def reading_of(other):
    other.setblocking(False)

    def read():
        try:
            return not other.recv(2**20)
        except BlockingIOError:
            return False

    yield read


def test_told_once_when_too_much_waits(pair):
    accepted, _ = pair
    accepted.guard()
    for _ in range(20):
        accepted.transport.write(PIECE)
    too_far = [told for told in accepted.told if isinstance(told, int)]
    assert accepted.told[0] == "filled" and len(too_far) == 1
    assert LIMIT_BYTES < too_far[0] <= LIMIT_BYTES + len(PIECE)
    assert unsent_bytes(accepted.transport) == 20 * len(PIECE)


@pytest.fixture
def guarded(monkeypatch):
    """A transport whose other end acknowledges what it is said to, and what it has been too far behind with."""
    told = SimpleNamespace(acked=0, too_far=[])
    monkeypatch.setattr(backlog, "acked_bytes", lambda tcp: told.acked)
    monkeypatch.setattr(backlog, "give_back_soon", lambda reactor: None)
    tcp = SimpleNamespace(dataBuffer=b"", offset=0, _tempDataLen=0, producer=None, connected=True, disconnecting=False)
    tcp.reactor = Clock()
    tcp.registerProducer = lambda producer, streaming: setattr(tcp, "producer", producer)
    guard_backlog(tcp, LIMIT_BYTES, told.too_far.append, most_bytes=2 * LIMIT_BYTES)

    def unsent(size):
        tcp._tempDataLen = size
        tcp.producer.pauseProducing()

    told.tcp, told.unsent = tcp, unsent
    return told


def test_who_goes_on_reading_may_have_more(guarded):
    for _ in range(3):
        guarded.unsent(LIMIT_BYTES + 1)
        guarded.acked += 1
        guarded.tcp.reactor.advance(5)
    assert guarded.too_far == []
    guarded.tcp.reactor.advance(5)
    assert guarded.too_far == [LIMIT_BYTES + 1], "it has taken nothing since"
    guarded.unsent(3 * LIMIT_BYTES)
    guarded.tcp.reactor.advance(60)
    assert len(guarded.too_far) == 1 and not guarded.tcp.reactor.getDelayedCalls()


def test_who_has_taken_nothing_for_long_is_closed_at_the_limit(guarded):
    guarded.acked = 1
    for _ in range(6):
        guarded.unsent(LIMIT_BYTES)
        guarded.tcp.reactor.advance(1)
    assert guarded.too_far == []
    guarded.unsent(LIMIT_BYTES + 1)
    assert guarded.too_far == [LIMIT_BYTES + 1]
    assert not [call for call in guarded.tcp.reactor.getDelayedCalls() if call.getTime() > 6 + backlog.DROPPED_WITHIN_S]


def test_but_not_without_end(guarded):
    guarded.unsent(2 * LIMIT_BYTES)
    assert guarded.too_far == []
    guarded.unsent(2 * LIMIT_BYTES + 1)
    assert guarded.too_far == [2 * LIMIT_BYTES + 1]
    guarded.tcp.reactor.advance(60)
    assert len(guarded.too_far) == 1


@pytest.mark.parametrize("then", ["drained", "below the limit", "ended"])
def test_who_has_caught_up_meanwhile_or_gone_is_not_looked_at(guarded, then):
    guarded.unsent(LIMIT_BYTES + 1)
    match then:
        case "drained":
            guarded.tcp.producer.resumeProducing()
            assert not guarded.tcp.reactor.getDelayedCalls()
        case "below the limit":
            guarded.tcp._tempDataLen = LIMIT_BYTES
        case "ended":  # Autobahn ends a producer's registration by itself
            guarded.tcp.connected = False
    guarded.tcp.reactor.advance(5)
    assert guarded.too_far == [] and not guarded.tcp.reactor.getDelayedCalls()


def test_a_client_that_goes_on_reading_may_have_more(pair):
    from crossbar_cluster.proxy.attach import AttachedClient

    accepted, _ = pair
    client = SimpleNamespace(transport=accepted.transport)
    attached = AttachedClient(SimpleNamespace(transport=client), None, reactor)
    closed = []
    attached._does_not_read = closed.append
    attached._bound(None)
    for size, expected in ((20, 0), (10, 0), (10, 1)):
        accepted.transport.write(bytes(size * 2**20))
        assert len(closed) == expected


def test_one_message_below_the_limit_always_goes_and_its_sender_waits_meanwhile(pair):
    accepted, other = pair
    accepted.guard()
    accepted.transport.write(bytes(LIMIT_BYTES))
    assert accepted.told == ["filled"]
    with reading_of(other) as read:
        turn_until(lambda: read() or "drained" in accepted.told)
    assert accepted.told == ["filled", "drained"]
    accepted.transport.write(b"little")
    assert accepted.told == ["filled", "drained"]


def test_an_orderly_close_is_not_held_up(pair):
    """Twisted waits for a producer before it closes."""
    accepted, other = pair
    accepted.guard()
    accepted.transport.write(bytes(LIMIT_BYTES))
    accepted.transport.loseConnection()
    with reading_of(other) as read:
        turn_until(lambda: read() or "lost" in accepted.told)
    assert accepted.told == ["filled", "drained", "lost"]


def test_another_producer_that_is_left_over_is_replaced(pair):
    """HTTP's, which stays registered when WebSocket takes a connection over."""
    accepted, _ = pair
    accepted.transport.registerProducer(SimpleNamespace(stopProducing=lambda: None), True)
    accepted.guard(10)
    accepted.transport.write(PIECE)
    assert accepted.told == ["filled", len(PIECE)]


def test_memory_is_given_back_after_a_large_one(pair, monkeypatch):
    given_back = []
    monkeypatch.setattr(backlog, "give_back_soon", given_back.append)
    monkeypatch.setattr(backlog, "LARGE_BYTES", 10 * len(PIECE))
    accepted, other = pair
    accepted.guard(2**30)
    with reading_of(other) as read:
        for pieces in (2, 11):
            for _ in range(pieces):
                accepted.transport.write(PIECE)
            turn_until(lambda: read() or accepted.told[-1] == "drained")
            assert len(given_back) == (pieces == 11)


def test_what_the_kernel_holds_counts_as_untaken(pair):
    accepted, _ = pair
    assert untaken_bytes(accepted.transport) == 0
    accepted.transport.write(PIECE)
    turn_until(lambda: unsent_bytes(accepted.transport) < len(PIECE))
    assert untaken_bytes(accepted.transport) > unsent_bytes(accepted.transport)


def test_what_nobody_gets_any_more_is_freed_when_the_connection_ends(pair):
    accepted, _ = pair
    tcp = accepted.transport
    tcp.write(bytes(LIMIT_BYTES))
    forget_unsent(tcp)
    assert unsent_bytes(tcp) == LIMIT_BYTES, "it has not ended"
    tcp.abortConnection()
    turn_until(lambda: "lost" in accepted.told)
    forget_unsent(tcp)
    assert unsent_bytes(tcp) == 0


def test_what_is_no_tcp_connection_is_left_alone():
    assert tcp_of(SimpleNamespace()) is None
    guard_backlog(SimpleNamespace(), 1, None)


def test_a_client_is_not_read_while_its_router_has_not_taken_what_it_sent(pair):
    from crossbar_cluster.proxy.attach import AttachedClient

    router_end, router = pair
    reading = SimpleNamespace(told=[], limit=lambda messages_per_s: reading.told.append(messages_per_s))
    reading.hold, reading.release = (lambda: reading.told.append("held")), (lambda: reading.told.append("released"))
    client = SimpleNamespace(transport=SimpleNamespace(), reading=reading)
    session = SimpleNamespace(transport=router_end, too_far_behind=None)
    AttachedClient(SimpleNamespace(transport=client), None, reactor)._bound(session)
    router_end.transport.write(bytes(LIMIT_BYTES))
    assert reading.told == [20_000, "held"]
    with reading_of(router) as read:
        turn_until(lambda: read() or "released" in reading.told)
    assert reading.told == [20_000, "held", "released"]
