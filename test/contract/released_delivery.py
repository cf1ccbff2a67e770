"""What becomes of messages between a client and its router that one of their connections cannot carry.

On Autobahn's own transports, with nothing below them.
"""

from types import SimpleNamespace

import pytest
from autobahn.twisted.rawsocket import WampRawSocketClientFactory, WampRawSocketServerFactory
from autobahn.twisted.websocket import WampWebSocketServerFactory
from autobahn.wamp.message import (
    Call,
    Cancel,
    Error,
    Event,
    Invocation,
    Publish,
    Published,
    Register,
    Registered,
    Result,
    Subscribe,
    Subscribed,
    Unsubscribe,
    Unsubscribed,
    Yield,
)
from autobahn.wamp.serializer import CBORSerializer, JsonSerializer
from twisted.internet.address import IPv4Address
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from crossbar_cluster.proxy.attach import DROPPED_EACH_S, AttachedClient
from crossbar_cluster.proxy.frontend import CallsInFlight, lose

SURROGATE = "\ud800"  # JSON can say it, CBOR cannot
UNSAID_IN_JSON = {b"bytes": "as a key"}
INVALID, TOO_LARGE = "wamp.error.invalid_argument", "wamp.error.payload_size_exceeded"


class Log:
    def __init__(self):
        self.lines = []

    def info(self, text, **values):
        self.lines.append(text.format(**values))

    warn = info


class Handler:
    """The session of a connection."""

    _authid = _session_id = None

    def onOpen(self, transport):
        self.transport = transport

    def onClose(self, was_clean):
        self.transport = None


class Wire:
    """One of Autobahn's connections, and the messages that leave it."""

    def __init__(self, factory, serializer, header_bytes):
        self._serializer = serializer
        self._header_bytes = header_bytes
        self._written = StringTransport(peerAddress=IPv4Address("TCP", "127.0.0.1", 1))
        self.protocol = factory.buildProtocol(None)
        self.protocol.makeConnection(self._written)

    def receive(self, data):
        self.protocol.dataReceived(data)
        self._written.clear()
        return self

    @property
    def sent(self):
        """The messages since it was last asked."""
        data, messages = self._written.value(), []
        self._written.clear()
        while data:
            header, length = self._header_bytes(data)
            messages += self._serializer.unserialize(data[header : header + length])
            data = data[header + length :]
        return messages

    @property
    def written_bytes(self):
        return len(self._written.value())

    @property
    def closed(self):
        """Code and reason of a WebSocket's close frame."""
        data = self._written.value()
        assert data[0] & 0x0F == 8
        return int.from_bytes(data[2:4], "big"), data[4 : 2 + data[1]].decode()

    @property
    def is_open(self):
        return self.protocol.isOpen() and not self._written.disconnecting and not self._written.disconnected


def rawsocket_frame(data):
    return 4, int.from_bytes(data[:4], "big")


def websocket_frame(data):
    length = data[1]
    return (2, length) if length < 126 else (4, int.from_bytes(data[2:4], "big"))


def to_router(max_exponent=15):
    """:param max_exponent: of the largest message that the router takes: 2 ** (9 + this) bytes."""
    factory = WampRawSocketClientFactory(Handler, CBORSerializer())
    return Wire(factory, CBORSerializer(), rawsocket_frame).receive(bytes([0x7F, max_exponent << 4 | 3, 0, 0]))


def websocket(max_bytes=0):
    factory = WampWebSocketServerFactory(Handler, serializers=[JsonSerializer()])
    factory.setProtocolOptions(maxMessagePayloadSize=max_bytes)
    return Wire(factory, JsonSerializer(), websocket_frame).receive(
        b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Protocol: wamp.2.json\r\n\r\n"
    )


def rawsocket(max_exponent=15):
    factory = WampRawSocketServerFactory(Handler, [JsonSerializer()])
    return Wire(factory, JsonSerializer(), rawsocket_frame).receive(bytes([0x7F, max_exponent << 4 | 1, 0, 0]))


class Attached:
    """A client with a session."""

    def __init__(self, client, router):
        self.client, self.router, self.clock = client, router, Clock()
        session = SimpleNamespace(transport=router.protocol)
        self.log = Log()
        frontend = SimpleNamespace(
            _backend_session=session, transport=client.protocol, log=self.log, _realm="realm1", _session_id=7
        )
        self._attached = AttachedClient(frontend, None, self.clock)
        self.says, self.is_told = self._attached.send, self._attached.forward

    @property
    def is_busy(self):
        return self._attached.is_busy

    def goes_on(self):
        """Both connections stand, and other messages are passed on."""
        assert self.client.is_open and self.router.is_open
        self.says(Call(100, "test.call", args=["ä"]))
        assert [type(message) for message in self.router.sent] == [Call]
        self.is_told(Result(100, args=["ä"]))
        assert [type(message) for message in self.client.sent] == [Result]


@pytest.fixture(params=[websocket, rawsocket])
def attached(request):
    return Attached(request.param(), to_router())


REQUESTS = (
    Call(1, "test.call", args=[SURROGATE]),
    Publish(1, "test.topic", args=[SURROGATE], acknowledge=True),
    Register(1, f"test.{SURROGATE}"),
    Subscribe(1, f"test.{SURROGATE}"),
)


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda message: type(message).__name__)
def test_a_request_that_the_router_cannot_be_told_is_answered(attached, request_):
    attached.says(request_)
    [answer] = attached.client.sent
    assert (type(answer), answer.request_type, answer.request) == (Error, request_.MESSAGE_TYPE, 1)
    assert answer.error == INVALID
    assert "surrogates not allowed" in answer.args[0]
    assert not attached.router.sent
    assert not attached.log.lines, "the client knows"
    attached.goes_on()


def test_a_request_that_is_too_large_for_the_router_is_answered():
    attached = Attached(websocket(), to_router(max_exponent=0))
    attached.says(Call(1, "test.call", args=["x" * 600]))
    [answer] = attached.client.sent
    assert (answer.request, answer.error) == (1, TOO_LARGE)
    assert "512" in answer.args[0]
    attached.goes_on()


def test_what_needs_no_answer_is_dropped_with_a_line_now_and_then(attached):
    for _ in range(100):
        attached.says(Publish(1, "test.topic", args=[SURROGATE]))
    assert not attached.client.sent and not attached.router.sent
    [line] = attached.log.lines
    assert "PUBLISH to the router" in line and "surrogates not allowed" in line and "realm1" in line
    attached.clock.advance(DROPPED_EACH_S)
    attached.says(Publish(2, "test.topic", args=[SURROGATE]))
    assert len(attached.log.lines) == 2
    attached.goes_on()


def test_whoever_waits_for_a_yield_that_cannot_be_passed_on_is_told(attached):
    attached.says(Yield(5, args=[SURROGATE]))
    attached.says(Error(Invocation.MESSAGE_TYPE, 6, "test.error", args=[SURROGATE]))
    answers = attached.router.sent
    assert [(a.request_type, a.request, a.error) for a in answers] == [
        (Invocation.MESSAGE_TYPE, 5, INVALID),
        (Invocation.MESSAGE_TYPE, 6, "test.error"),
    ]
    assert all("surrogates not allowed" in answer.args[0] for answer in answers)
    attached.goes_on()


def test_a_result_that_the_client_cannot_be_told_becomes_an_error(attached):
    attached.says(Call(1, "test.call"))
    attached.says(Call(2, "test.call"))
    attached.is_told(Result(1, args=[UNSAID_IN_JSON]))
    attached.is_told(Error(Call.MESSAGE_TYPE, 2, "test.error", args=[UNSAID_IN_JSON]))
    answers = attached.client.sent
    assert [(a.request_type, a.request, a.error) for a in answers] == [
        (Call.MESSAGE_TYPE, 1, INVALID),
        (Call.MESSAGE_TYPE, 2, "test.error"),
    ]
    assert all("bytes" in answer.args[0] for answer in answers)
    assert [type(message) for message in attached.router.sent] == [Call, Call]
    attached.goes_on()


@pytest.mark.parametrize("client", [lambda: websocket(max_bytes=512), lambda: rawsocket(max_exponent=0)])
def test_a_result_that_is_too_large_for_the_client_becomes_an_error(client):
    attached = Attached(client(), to_router())
    attached.says(Call(1, "test.call"))
    assert attached.router.sent
    attached.is_told(Result(1, args=["x" * 600]))
    [answer] = attached.client.sent
    assert (answer.request, answer.error) == (1, TOO_LARGE)
    attached.goes_on()


def test_a_call_with_an_unsayable_progress_is_over(attached):
    """For a client that has been told of its end, any further result breaks the protocol."""
    attached.says(Call(1, "test.call", receive_progress=True))
    attached.is_told(Result(1, args=[1], progress=True))
    attached.is_told(Result(1, args=[UNSAID_IN_JSON], progress=True))
    attached.is_told(Result(1, args=[3], progress=True))
    attached.is_told(Error(Call.MESSAGE_TYPE, 1, "wamp.error.canceled"))
    assert [type(message) for message in attached.client.sent] == [Result, Error]
    called, cancelled = attached.router.sent
    assert (type(called), type(cancelled), cancelled.request) == (Call, Cancel, 1)
    attached.goes_on()


def test_an_event_that_the_client_cannot_be_told_is_dropped(attached):
    for publication in range(10):
        attached.is_told(Event(1, publication, args=[UNSAID_IN_JSON]))
    assert not attached.client.sent and not attached.router.sent
    [line] = attached.log.lines
    assert "EVENT to the client" in line and "bytes" in line
    attached.goes_on()


def test_a_caller_is_told_that_the_callee_cannot_be_told(attached):
    attached.is_told(Invocation(5, 1, args=[UNSAID_IN_JSON]))
    assert not attached.client.sent
    [answer] = attached.router.sent
    assert (answer.request_type, answer.request, answer.error) == (Invocation.MESSAGE_TYPE, 5, INVALID)
    attached.goes_on()


def test_other_answers_are_passed_on(attached):
    attached.says(Unsubscribe(1, 2))
    attached.is_told(Error(Unsubscribe.MESSAGE_TYPE, 1, "wamp.error.no_such_subscription"))
    assert [type(message) for message in attached.client.sent] == [Error]


def test_nothing_is_said_to_a_client_that_has_gone(attached):
    attached.client.protocol._session = None
    attached.is_told(Event(1, 1, args=["x"]))
    attached.says(Call(1, "test.call", args=[SURROGATE]))
    assert not attached.client.sent


def test_nothing_is_said_to_a_client_whose_websocket_is_being_closed():
    """Its session is there until the client has answered the close frame."""
    attached = Attached(websocket(), to_router())
    attached.client.protocol.sendClose(1000)
    assert attached.client.closed[0] == 1000 and attached.client.protocol._session is not None
    said = attached.client.written_bytes
    attached.is_told(Event(1, 1, args=["x"]))
    attached.says(Call(1, "test.call", args=[SURROGATE]))
    assert attached.client.written_bytes == said


def test_what_a_client_says_while_its_router_is_being_lost_is_no_error(attached):
    attached.router.protocol._session = None
    attached.says(Call(1, "test.call"))
    assert not attached.client.sent


def test_the_reason_of_a_loss_is_cut_between_characters():
    """A client takes one that is no UTF-8 for a protocol error, and not for a loss (RFC 6455, section 5.5.1)."""
    for before in range(3):
        client = websocket()
        lose(client.protocol, CallsInFlight(), "x" * before + "€" * 60)
        code, reason = client.closed
        assert code == 1012
        assert 120 < len(reason.encode()) <= 123
        assert reason == ("x" * before + "€" * 60)[: len(reason)]


def test_the_end_of_a_client_whose_websocket_is_being_closed_is_no_error():
    """Raised there, it would keep the other clients of a lost router from being told."""
    client = websocket()
    calls = CallsInFlight()
    calls.sent(Call(1, "test.call"))
    client.protocol.sendClose(1000)
    said = client.written_bytes
    lose(client.protocol, calls, "gone")
    assert client.written_bytes == said


@pytest.mark.parametrize(
    ("asked", "answer"),
    [
        (Publish(1, "test.topic", acknowledge=True), Published(1, 7)),
        (Publish(1, "test.topic", acknowledge=True), Error(Publish.MESSAGE_TYPE, 1, INVALID)),
        (Register(1, "test.call"), Registered(1, 7)),
        (Subscribe(1, "test.topic"), Subscribed(1, 7)),
        (Unsubscribe(1, 7), Unsubscribed(1)),
        (Call(1, "test.call"), Result(1)),
    ],
)
def test_a_client_is_busy_until_it_has_its_answer(asked, answer):
    calls = CallsInFlight()
    calls.sent(Publish(2, "test.topic"))
    assert not calls.any, "no answer is due"
    calls.sent(asked)
    assert calls.any
    assert calls.answered(answer)
    assert not calls.any
    assert not calls.errors("gone"), "calls only are answered by an error"


def test_a_callee_that_cannot_be_told_of_a_call_is_not_busy_with_it(attached):
    attached.is_told(Invocation(5, 1, args=[UNSAID_IN_JSON]))
    assert not attached.is_busy
    attached.is_told(Invocation(6, 1))
    assert attached.is_busy
    attached.says(Yield(6, args=[SURROGATE]))
    assert not attached.is_busy, "the router has been told, in its place"
