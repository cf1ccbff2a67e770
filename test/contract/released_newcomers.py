"""Who connects and does not join, at the released ports: closed in time, and the oldest for the next one."""

from types import SimpleNamespace

import pytest
from autobahn.twisted import websocket  # noqa: F401  it makes Autobahn use Twisted
from autobahn.wamp.serializer import CBORSerializer
from crossbar.common.twisted.web import Site
from crossbar.webservice.base import Resource404
from twisted.internet.address import IPv4Address
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.web.resource import Resource
from txaio import make_logger

from crossbar.common.twisted.endpoint import MaxConnectionsFactory
from crossbar.router.protocol import WampRawSocketServerFactory, WampWebSocketServerFactory

RAWSOCKET_HELLO = bytes([0x7F, 0xF0 | CBORSerializer.RAWSOCKET_SERIALIZER_ID, 0, 0])


class Session:
    """That of a router or proxy."""

    _session_id = _authid = None

    def onOpen(self, transport):
        pass

    def onMessage(self, message):
        pass

    def onClose(self, was_clean):
        pass


class Port:
    """A listening port, as the release makes it."""

    def __init__(self, factory, clock, kind="inner", worker_type="router"):
        from crossbar_cluster.node.newcomers import guard_transport

        config = {"endpoint": {"portrange": [1, 2]} if kind == "inner" else {}}
        personality = SimpleNamespace(NAME="master" if kind == "master" else "standalone")
        worker = SimpleNamespace(WORKER_TYPE=worker_type, personality=personality, _reactor=clock)
        guard_transport((factory, None), SimpleNamespace(worker=worker, config=config, log=make_logger()))
        self.factory = MaxConnectionsFactory(factory, 50000, "port", clock, None)
        self.factory.doStart()

    @property
    def newcomers(self):
        return len(self.factory._guard)

    def connect(self):
        return Connection(self.factory)


class Connection:
    def __init__(self, factory):
        self.transport = StringTransport(peerAddress=IPv4Address("TCP", "127.0.0.1", 1))
        self.protocol = self.transport.protocol = factory.buildProtocol(self.transport.getPeer())
        self.protocol.makeConnection(self.transport)

    def send(self, data):
        self.protocol.dataReceived(data)
        return self

    @property
    def session(self):
        return self.protocol.wrappedProtocol._session

    @property
    def closed(self):
        return self.transport.disconnected


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def few(monkeypatch):
    from crossbar_cluster.node import newcomers

    monkeypatch.setitem(newcomers.MOST, "inner", 3)


def over_rawsocket():
    return WampRawSocketServerFactory(Session, {"type": "rawsocket"})


def over_websocket():
    return WampWebSocketServerFactory(Session, ".", {"type": "websocket"}, None)


@pytest.mark.parametrize(
    "said",
    [b"", RAWSOCKET_HELLO[:2], RAWSOCKET_HELLO, RAWSOCKET_HELLO + b"\0\0\0\5"],
    ids=["nothing", "half a handshake", "no HELLO", "half a HELLO"],
)
def test_a_router_waits_15_s_for_a_session(clock, said):
    port = Port(over_rawsocket(), clock)
    connection = port.connect().send(said)
    clock.advance(14.9)
    assert not connection.closed
    clock.advance(0.2)
    assert connection.closed
    assert port.newcomers == 0
    assert not clock.getDelayedCalls()


@pytest.mark.parametrize("said", [b"", b"GET /ws HTTP/1.1\r\n"], ids=["nothing", "half a handshake"])
def test_a_proxy_waits_30_s(clock, said):
    connection = Port(over_websocket(), clock, "client", "proxy").connect().send(said)
    clock.advance(29.9)
    assert not connection.closed
    clock.advance(0.2)
    assert connection.closed


@pytest.mark.parametrize("joined", ["_session_id", "_client"])
def test_who_has_a_session_or_waits_for_a_router_stays(clock, joined):
    port = Port(over_rawsocket(), clock)
    connection = port.connect().send(RAWSOCKET_HELLO)
    setattr(connection.session, joined, 1)
    clock.advance(3600)
    assert not connection.closed
    assert port.newcomers == 0


def test_the_oldest_gives_way(clock, few):
    port = Port(over_rawsocket(), clock)
    first, *others = [port.connect() for _ in range(3)]
    others[0].send(RAWSOCKET_HELLO).session._session_id = 1
    last = [port.connect(), port.connect()]
    assert first.closed
    assert not any(connection.closed for connection in [*others, *last])


def test_who_leaves_is_forgotten(clock):
    port = Port(over_rawsocket(), clock)
    port.connect().protocol.connectionLost(None)
    assert port.newcomers == 0
    clock.advance(60)


def test_never_more_than_a_quarter_of_the_descriptors(clock, monkeypatch):
    from crossbar_cluster.node import newcomers

    monkeypatch.setattr(newcomers.resource, "getrlimit", lambda which: (40, 40))
    port = Port(over_websocket(), clock, "client", "proxy")
    connections = [port.connect() for _ in range(12)]
    assert [connection.closed for connection in connections] == [True, True] + [False] * 10


class Slow(Resource):
    isLeaf = True

    def render_GET(self, request):
        self.request = request
        return 1  # NOT_DONE_YET


def test_http_is_closed_while_it_asks_and_not_while_it_is_answered(clock):
    slow = Slow()
    site = Site(slow)
    port = Port(site, clock, "client", "proxy")
    assert site.timeOut == 30, "also between requests"
    asking, asked = port.connect().send(b"GET / HT"), port.connect().send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    clock.advance(31)
    assert asking.closed
    assert not asked.closed
    clock.advance(3600)
    assert not asked.closed
    slow.request.finish()
    asked.send(b"GET")
    clock.advance(31)
    assert asked.closed


def test_an_operators_own_timeout_of_http_stays(clock):
    site = Site(Resource404(SimpleNamespace(get_template=lambda name: None), b""), client_timeout=7)
    Port(site, clock, "client", "proxy")
    assert site.timeOut == 7


@pytest.mark.parametrize("worker_type", ["proxy", "router"])
def test_what_speaks_no_wamp_stays_once_it_has_shaken_hands(clock, worker_type):
    """Such as a WebSocket that a web service passes on to another server."""
    from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol

    factory = WebSocketServerFactory("ws://127.0.0.1:1/ws", reactor=clock)
    factory.protocol = WebSocketServerProtocol
    port = Port(factory, clock, "client", worker_type)
    silent, passed_on = port.connect(), port.connect()
    passed_on.send(
        b"GET /ws HTTP/1.1\r\nHost: 127.0.0.1:1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
    assert b" 101 " in passed_on.transport.value()
    clock.advance(31)
    assert silent.closed and not passed_on.closed


def test_mqtt_clients_stay_once_they_have_joined(clock):
    from crossbar.bridge.mqtt.wamp import WampMQTTServerProtocol
    from twisted.internet.protocol import Factory

    class Mqtt(WampMQTTServerProtocol):
        def connectionMade(self, ignoreHandshake=False):
            self._wamp_session = SimpleNamespace(_session_id=None)

    port = Port(Factory.forProtocol(lambda: Mqtt(clock)), clock, "client", "proxy")
    silent, joined = port.connect(), port.connect()
    joined.protocol.wrappedProtocol._wamp_session._session_id = 1
    clock.advance(31)
    assert silent.closed and not joined.closed


def test_whoever_is_about_to_join_does_not_give_way_to_those_who_say_nothing(clock, few):
    """All clients of all proxies come at once when a router is back: to end those that came first ends them all."""
    port = Port(over_rawsocket(), clock)
    joining = [port.connect().send(RAWSOCKET_HELLO) for _ in range(2)]
    for connection in joining:
        connection.session._pending_auth = object()
    silent = [port.connect() for _ in range(4)]
    assert not any(connection.closed for connection in joining)
    assert [connection.closed for connection in silent] == [True, True, True, False]
    clock.advance(16)
    assert all(connection.closed for connection in joining), "but not for ever"
