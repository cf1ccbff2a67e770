"""The released protocols, handling what has arrived in turns: all of it, in order, and nobody at others' cost."""

import random
import sys
from types import SimpleNamespace

import pytest
from autobahn.twisted import websocket  # noqa: F401  it makes Autobahn use Twisted
from autobahn.wamp.message import Publish, Welcome
from autobahn.wamp.role import RoleBrokerFeatures, RoleDealerFeatures
from autobahn.wamp.serializer import CBORSerializer, JsonSerializer
from twisted.internet.address import IPv4Address
from twisted.internet.defer import succeed
from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from txaio import make_logger

from crossbar.router.protocol import WampRawSocketServerFactory, WampWebSocketServerFactory
from crossbar_cluster.core.limits import DEFAULTS
from crossbar_cluster.core.metrics import LIMITS_MET, Metrics
from crossbar_cluster.node import connecting, pacing
from crossbar_cluster.node.backend_session import BackendSession
from crossbar_cluster.node.handshake import Handshake, Principal, ProxyNode
from crossbar_cluster.node.pacing import SLICE_S, TURN_S, Lane

TURN = 0.001
EACH_S = 0.0005  # what a message takes
PER_SLICE, PER_TURN = round(SLICE_S / EACH_S), round(TURN_S / EACH_S)
UPGRADE = (
    b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: wamp.2.cbor\r\n\r\n"
)
RAWSOCKET_HELLO = bytes([0x7F, 0xF0 | CBORSerializer.RAWSOCKET_SERIALIZER_ID, 0, 0])


class Time:
    """Which passes as messages are handled."""

    now_s = 0.0

    def __call__(self):
        return self.now_s


class Session:
    """That of a router or proxy."""

    _session_id = _authid = _authrole = None

    def __init__(self, time):
        self.time = time
        self.got = []
        self.when_got = lambda number: None
        self.closed_after = None  # so many messages

    def onOpen(self, transport):
        self.reading_at_open = transport.reading

    def onMessage(self, message):
        self.time.now_s += EACH_S
        self.got.append(message.request)
        self.when_got(message.request)

    def onClose(self, was_clean):
        self.closed_after = len(self.got)


class Connection:
    def __init__(self, is_websocket, time, subprotocol="cbor"):
        self.session = Session(time)
        if is_websocket:
            factory = WampWebSocketServerFactory(lambda: self.session, ".", {"type": "websocket"}, None)
        else:
            factory = WampRawSocketServerFactory(lambda: self.session, {"type": "rawsocket"})
        self.is_websocket = is_websocket
        self.transport = StringTransport(peerAddress=IPv4Address("TCP", "127.0.0.1", 1))
        self.protocol = factory.buildProtocol(None)
        self.protocol.makeConnection(self.transport)
        upgrade = UPGRADE.replace(b"2.cbor", f"2.{subprotocol}".encode())
        self.protocol.dataReceived(upgrade if is_websocket else RAWSOCKET_HELLO)

    def frames(self, *numbers):
        """PUBLISH messages with these numbers."""
        payloads = [CBORSerializer().serialize(Publish(number, "a.b"))[0] for number in numbers]
        if self.is_websocket:
            return b"".join(bytes([0x82, 0x80 | len(p)]) + bytes(4) + p for p in payloads)
        return b"".join(len(p).to_bytes(4, "big") + p for p in payloads)

    def send(self, *numbers):
        self.protocol.dataReceived(self.frames(*numbers))
        return self

    @property
    def got(self):
        return self.session.got

    @property
    def is_read(self):
        return self.transport.producerState == "producing"


class Loop(Clock):
    """What is to be done at once is done in the next turn, as by the reactor."""

    def callLater(self, delay_s, *call):
        return super().callLater(max(delay_s, TURN), *call)


@pytest.fixture
def clock():
    return Loop()


@pytest.fixture
def time(monkeypatch, clock):
    time = Time()
    monkeypatch.setattr(pacing, "perf_counter", time)
    monkeypatch.setattr(pacing, "_lane", Lane(clock, make_logger()))
    return time


@pytest.fixture(params=[True, False], ids=["websocket", "rawsocket"])
def connect(request, time):
    return lambda: Connection(request.param, time)


def turn(clock):
    clock.advance(TURN)


def test_much_at_once_is_handled_in_turns_and_not_read_meanwhile(connect, clock):
    numbers = list(range(1, 101))
    flood = connect().send(*numbers)
    assert len(flood.got) == PER_SLICE
    assert not flood.is_read
    turn(clock)
    assert len(flood.got) == PER_SLICE + PER_TURN
    for _ in range(5):
        turn(clock)
    assert flood.got == numbers
    assert flood.is_read
    assert not clock.getDelayedCalls()


@pytest.mark.parametrize("serializer", [CBORSerializer(batched=True), JsonSerializer(batched=True)])
def test_messages_that_come_in_one_are_handled_in_turns_as_well(time, clock, serializer):
    """By subprotocols for batches."""
    flood = Connection(True, time, serializer.SERIALIZER_ID)
    numbers = list(range(1, 1001))
    batch = b"".join(serializer.serialize(Publish(number, "a.b"))[0] for number in numbers)
    opcode = 2 if serializer._serializer.BINARY else 1
    flood.protocol.dataReceived(bytes([0x80 | opcode, 0xFE]) + len(batch).to_bytes(2, "big") + bytes(4) + batch)
    per_piece = 1024 // 15
    assert 0 < len(flood.got) <= 2 * per_piece
    assert not flood.is_read
    turn(clock)
    assert len(flood.got) < 5 * per_piece
    last = serializer.serialize(Publish(1001, "a.b"))[0]
    flood.protocol.dataReceived(bytes([0x80 | opcode, 0x80 | len(last)]) + bytes(4) + last)  # it waits for its turn
    for _ in range(100):
        turn(clock)
    assert flood.got == [*numbers, 1001]


def test_who_sends_little_is_served_at_once_and_those_who_send_much_share_a_turn(connect, clock):
    floods = [connect().send(*range(1, 101)) for _ in range(10)]
    had = sum(len(flood.got) for flood in floods)
    turn(clock)
    assert sum(len(flood.got) for flood in floods) - had <= PER_TURN + PER_SLICE
    assert connect().send(1, 2).got == [1, 2]
    for _ in range(12):
        turn(clock)
    got = [len(flood.got) for flood in floods]
    assert max(got) - min(got) <= PER_SLICE, "each as much as the others"


def test_who_has_just_sent_much_waits_with_the_next_as_well_while_others_do(connect, clock):
    first, second = connect().send(*range(1, 11)), connect().send(*range(1, 101))
    turn(clock)
    assert first.is_read and len(first.got) == 10
    first.send(*range(11, 21))
    assert len(first.got) == 10, "no slice outside of the lane"
    for _ in range(20):
        turn(clock)
    assert first.got == list(range(1, 21)) and len(second.got) == 100


def test_it_is_known_how_large_the_message_is_that_is_handled(connect, clock):
    connection, sizes = connect(), []
    connection.session.when_got = lambda number: sizes.append(
        (connection.protocol.count(), connection.protocol.message_bytes)
    )
    connection.send(1, 100_000)
    clock.advance(1.0)
    expected = [len(CBORSerializer().serialize(Publish(number, "a.b"))[0]) for number in (1, 100_000)]
    assert sizes == [(1, expected[0]), (2, expected[1])]


def test_a_link_has_a_whole_turn(time, clock):
    link = Connection(False, time)
    link.session._authrole = "rlink"
    link.send(*range(1, 101))
    other = Connection(False, time).send(*range(1, 101))
    had = len(link.got)
    turn(clock)
    assert len(link.got) - had == PER_TURN
    assert len(other.got) == PER_SLICE


class DialledLink(Connection):
    """The end of a link that has dialled."""

    def __init__(self, time):
        proxy = ProxyNode("router2", SimpleNamespace(public="aa" * 32))
        handshake = Handshake(proxy, Principal("realm1", "x", "rlink"), None, None, linked_worker="worker1")
        self.session = BackendSession(
            SimpleNamespace(heard_s=0.0), handshake, SimpleNamespace(forward=self.took), Clock()
        )
        self.time, self.taken, self.is_websocket = time, [], False
        self.transport = StringTransport()
        endpoint = SimpleNamespace(connect=self.connected)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(connecting, "TCP4ClientEndpoint", lambda *args, **kwargs: endpoint)
            connecting.connect(self.session, None, "127.0.0.1", 1, 1.0)
        self.protocol.dataReceived(bytes([0x7F, 0xF0 | CBORSerializer.RAWSOCKET_SERIALIZER_ID, 0, 0]))
        roles = {"broker": RoleBrokerFeatures(), "dealer": RoleDealerFeatures()}
        payload, _ = CBORSerializer().serialize(Welcome(7, roles, realm="realm1"))
        self.protocol.dataReceived(len(payload).to_bytes(4, "big") + payload)

    def connected(self, factory):
        self.protocol = factory.buildProtocol(None)
        self.protocol.makeConnection(self.transport)
        return succeed(self.protocol)

    def took(self, message):
        self.time.now_s += EACH_S
        self.taken.append(message.request)

    @property
    def got(self):
        return self.taken


def test_the_end_of_a_link_that_has_dialled_is_read_in_turns_as_well_and_has_a_whole_one(time, clock):
    link = DialledLink(time)
    link.send(*range(1, 101))
    assert len(link.got) == PER_SLICE and not link.is_read
    other = Connection(False, time).send(*range(1, 101))
    had = len(link.got)
    turn(clock)
    assert len(link.got) - had == PER_TURN
    assert len(other.got) == PER_SLICE
    for _ in range(20):
        turn(clock)
    assert link.got == list(range(1, 101)) and link.is_read


def test_what_is_held_back_is_handled_once_that_is_over(connect, clock):
    connection = connect()
    connection.session.when_got = lambda number: number == 2 and connection.protocol.reading.hold()
    connection.send(1, 2, 3, 4)
    assert connection.got == [1, 2] and not connection.is_read
    connection.send(5)  # TLS has it already
    clock.advance(60)
    assert connection.got == [1, 2]
    connection.protocol.reading.release()
    turn(clock)
    assert connection.got == [1, 2, 3, 4, 5] and connection.is_read


def test_more_than_messages_per_s_is_read_later(connect, clock, time):
    connection = connect().send(1)
    connection.protocol.reading.limit(10)
    connection.send(*range(2, 41))
    for _ in range(100):
        time.now_s += 0.1
        clock.advance(0.1)
        if len(connection.got) < 40:
            assert not connection.is_read
    assert connection.got == list(range(1, 41)) and connection.is_read


def test_messages_are_limited_of_clients_only(connect, clock, time, monkeypatch):
    """A router serves many of them on a link, and a proxy's end of a connection to a router is no client."""
    monkeypatch.setattr(pacing, "METRICS", Metrics())
    other, client = connect(), connect().send(1)
    client.protocol.reading.limit(10)
    client.send(*range(2, 41))
    numbers = list(range(DEFAULTS.messages_per_s + 1000))
    monkeypatch.setattr(sys.modules[__name__], "EACH_S", 1e-6)
    other.send(*numbers)
    for _ in range(60):
        turn(clock)
    assert other.got == numbers and other.is_read
    assert not client.is_read
    assert pacing.METRICS.counted(LIMITS_MET) == {"messages_per_s": 1}


def test_a_rawsocket_is_read_in_turns_as_soon_as_it_stands(time):
    """Its first message may come with the handshake."""
    connection = Connection(False, time)
    assert connection.session.reading_at_open is not None


def test_what_has_been_received_of_a_connection_that_ends_is_handled_and_then_its_end(connect, clock):
    numbers = list(range(1, 101))
    flood = connect().send(*numbers)
    flood.protocol.connectionLost(Failure(ConnectionDone()))
    assert flood.session.closed_after is None and len(flood.got) == PER_SLICE, "in turns, as before"
    for _ in range(6):
        turn(clock)
    assert flood.got == numbers and flood.session.closed_after == 100
    assert not clock.getDelayedCalls()


def test_and_what_was_held_back_for_its_router_or_will_be(connect, clock):
    connection = connect()
    reading = connection.send(0).protocol.reading
    connection.session.when_got = lambda number: number in (2, 4) and reading.hold()
    connection.send(1, 2, 3, 4, 5)
    connection.protocol.connectionLost(Failure(ConnectionDone()))
    turn(clock)
    assert connection.got == [0, 1, 2, 3, 4, 5] and connection.session.closed_after == 6
    assert not clock.getDelayedCalls()


def test_but_not_of_one_that_we_have_ended(connect, clock):
    flood = connect().send(*range(1, 101))
    flood.protocol.connectionLost(Failure(ConnectionAborted()))
    assert flood.session.closed_after == PER_SLICE
    turn(clock)
    turn(clock)
    assert len(flood.got) == PER_SLICE
    assert not clock.getDelayedCalls()


def test_the_end_is_told_if_what_waits_cannot_be_handled(connect, clock):
    flood = connect().send(*range(1, 101))
    flood.protocol.connectionLost(Failure(ConnectionDone()))

    def broken(until_s):
        raise ValueError("oops")

    flood.protocol.handle = broken
    turn(clock)
    assert flood.session.closed_after == PER_SLICE
    assert not clock.getDelayedCalls()


def test_what_cannot_be_handled_ends_that_connection_only(connect, clock, monkeypatch):
    one, other = connect().send(*range(1, 51)), connect().send(*range(1, 51))

    def broken(until_s):
        raise ValueError("oops")

    one.protocol.handle = broken
    for _ in range(6):
        turn(clock)
    assert one.transport.disconnected
    assert len(other.got) == 50


@pytest.mark.parametrize("seed", range(20))
def test_nothing_is_lost_or_comes_twice_however_it_is_cut_and_held(connect, clock, seed):
    chance, numbers = random.Random(seed), list(range(1, 300))
    connection = connect().send(0)
    data, held = connection.frames(*numbers), False
    while data:
        cut = chance.randint(1, 400)
        connection.protocol.dataReceived(data[:cut])
        data = data[cut:]
        match chance.randint(0, 4):
            case 0:
                connection.protocol.reading.hold()
                held = True
            case 1 if held:
                connection.protocol.reading.release()
                held = False
            case 2:
                turn(clock)
    connection.protocol.reading.release()
    for _ in range(50):
        turn(clock)
    assert connection.got == [0, *numbers]
    assert connection.is_read


# -- before there is a session ---------------------------------------------------------------------------------------


def large(connection, size_bytes):
    """A message of about that size, framed."""
    payload = CBORSerializer().serialize(Publish(1, "a.b", args=["x" * size_bytes]))[0]
    if connection.is_websocket:
        return bytes([0x82, 0x80 | 127]) + len(payload).to_bytes(8, "big") + bytes(4) + payload
    return len(payload).to_bytes(4, "big") + payload


@pytest.mark.parametrize("is_websocket", [True, False])
def test_a_message_that_is_larger_than_any_hello_is_not_even_read_of_whoever_has_no_session(is_websocket, time):
    """To decode it would take as long as a large message takes."""
    connection = Connection(is_websocket, time)
    decoded = []
    connection.protocol._serializer.unserialize = decoded.append
    connection.protocol.dataReceived(large(connection, pacing.BEFORE_JOINING_BYTES))
    assert not decoded and not connection.got
    if is_websocket:
        assert (
            bytes([0x88]) in connection.transport.value() and (1009).to_bytes(2, "big") in connection.transport.value()
        )
    else:
        assert connection.transport.disconnected


@pytest.mark.parametrize("is_websocket", [True, False])
def test_whoever_has_joined_may_say_as_much_as_the_service_takes(is_websocket, time, clock):
    connection = Connection(is_websocket, time)
    connection.session._session_id = 1
    connection.protocol.dataReceived(large(connection, 2 * pacing.BEFORE_JOINING_BYTES))
    clock.pump([TURN] * 3)
    assert connection.got == [1]
