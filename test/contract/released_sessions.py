"""Sessions of a proxy on its routers: how their connections begin and end, on the released classes."""

import socket
from types import SimpleNamespace

import pytest
from autobahn.twisted.rawsocket import WampRawSocketClientFactory
from autobahn.wamp.exception import TransportLost
from autobahn.wamp.message import Goodbye, Welcome, Yield
from autobahn.wamp.role import RoleBrokerFeatures, RoleDealerFeatures
from autobahn.wamp.serializer import CBORSerializer
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import CertificateOptions
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure

from crossbar_cluster.core.backends import Backend
from crossbar_cluster.node.keepalive import NODES, keep_alive

SERIALIZER = CBORSerializer()


class Log:
    def __init__(self):
        self.lines = []

    def warn(self, text, **values):
        self.lines.append(text.format(**values))

    def failure(self, text="", failure=None, **values):
        self.lines.append(f"{text.format(**values)}: {failure.value!r}")


class Network(StringTransport):
    """A TCP connection to a router that takes everything and says what the test says."""

    aborted = False

    def abortConnection(self):
        self.aborted = True
        super().abortConnection()

    def getHandle(self):
        return None


class Router:
    """Connects sessions as the pool does."""

    def __init__(self):
        self.network = Network()

    def connect(self, session):
        """Begin a connection. :returns: the Deferred of it."""
        self.connecting = Deferred()
        self._factory = WampRawSocketClientFactory(lambda: session, SERIALIZER)
        session.connect(self.connecting)
        return self.connecting

    def accept(self):
        """It stands."""
        self.protocol = self._factory.buildProtocol(None)
        self.protocol.makeConnection(self.network)
        self.connecting.callback(self.protocol)

    def greet(self):
        """Messages can be sent."""
        self.protocol.dataReceived(bytes([0x7F, 0xF3, 0, 0]))

    def says(self, message):
        payload, _ = SERIALIZER.serialize(message)
        self.protocol.dataReceived(len(payload).to_bytes(4, "big") + payload)

    def hangs_up(self):
        self.protocol.connectionLost(Failure(ConnectionDone()))

    @property
    def heard(self):
        """The messages since it was last asked."""
        data, messages = self.network.value(), []
        self.network.clear()
        if data[:1] == b"\x7f":
            data = data[4:]
        while data:
            length = int.from_bytes(data[:4], "big")
            messages += SERIALIZER.unserialize(data[4 : 4 + length])
            data = data[4 + length :]
        return messages


class Client:
    def __init__(self):
        self.ends = []

    def forward(self, message):
        raise AssertionError(message)

    def ended(self, session, why):
        self.ends.append(why)


def handshake():
    from crossbar_cluster.node.handshake import Handshake, Principal, ProxyNode

    proxy = ProxyNode("proxy1", SimpleNamespace(public="aa" * 32))
    return Handshake(proxy, Principal("realm1", "x", "anonymous"), None, None)


def welcome():
    return Welcome(7, {"broker": RoleBrokerFeatures(), "dealer": RoleDealerFeatures()}, realm="realm1")


class Joined:
    """A client's session that has joined."""

    def __init__(self):
        from crossbar_cluster.node.backend_session import BackendSession

        self.clock, self.client, self.router = Clock(), Client(), Router()
        self.session = BackendSession(Backend("a", {}), handshake(), self.client, self.clock)
        self.router.connect(self.session)
        self.router.accept()
        self.router.greet()
        self.router.says(welcome())
        assert self.session._session_id == 7
        assert self.router.heard


@pytest.fixture
def joined():
    return Joined()


def test_a_router_that_does_not_take_leave_is_left(joined):
    from crossbar_cluster.node.backend_session import LEAVE_WITHIN_S, READ_WITHIN_S

    joined.session.leave("wamp.close.normal")
    [goodbye] = joined.router.heard
    assert type(goodbye) is Goodbye
    joined.clock.advance(LEAVE_WITHIN_S - 0.1)
    assert not joined.router.network.disconnecting
    joined.clock.advance(0.1)
    assert joined.router.network.disconnecting, "closed when all is out"
    joined.clock.advance(READ_WITHIN_S - 0.1)
    assert not joined.router.network.aborted, "it may only be slow"
    joined.clock.advance(0.1)
    assert joined.router.network.aborted
    joined.router.hangs_up()
    assert joined.client.ends == [None], "its client has left by itself"


@pytest.mark.parametrize("first", ["goodbye", "end"])
def test_a_router_that_takes_leave_is_not_waited_for(joined, first):
    joined.session.leave()
    if first == "goodbye":
        joined.router.says(Goodbye())
        assert joined.router.network.disconnecting
    joined.router.hangs_up()
    assert joined.client.ends == [None]
    assert not joined.clock.getDelayedCalls()


def test_a_connection_that_does_not_close_is_closed(joined):
    """The router has taken leave, and reads no more."""
    from crossbar_cluster.node.backend_session import LEAVE_WITHIN_S, READ_WITHIN_S

    joined.session.leave()
    joined.router.says(Goodbye())
    joined.clock.advance(LEAVE_WITHIN_S)
    joined.clock.advance(READ_WITHIN_S)
    assert joined.router.network.aborted


def test_what_a_client_has_sent_arrives_though_its_proxy_ends(joined):
    """An abort would throw away what is on its way out: the answer to a call, after which the client is not busy."""
    from crossbar_cluster.proxy.draining import ProxyDraining
    from crossbar_cluster.proxy.pool import BackendPool

    draining = ProxyDraining(SimpleNamespace(), object.__new__(BackendPool))
    joined.session.transport.send(Yield(3, args=["done"]))
    draining.dismiss(joined.session)
    assert [type(message) for message in joined.router.heard] == [Yield, Goodbye]
    assert not joined.router.network.aborted
    joined.router.says(Goodbye())
    assert joined.router.network.disconnecting, "closed when all is out"
    assert joined.client.ends == ["this proxy is about to end"]


def test_whatever_a_client_says_when_it_leaves_its_router_hears_of_it(joined):
    """JSON can say what CBOR cannot."""
    joined.session.leave("wamp.close.normal", "\ud800")
    [goodbye] = joined.router.heard
    assert goodbye.reason == "wamp.close.normal"


def tls_over(sock):
    """A client's TLS connection over a TCP socket."""

    class Below(StringTransport):
        def getHandle(self):
            return sock

    connection = TLSMemoryBIOFactory(CertificateOptions(), True, Factory.forProtocol(Protocol)).buildProtocol(None)
    connection.makeConnection(Below())
    return connection


@pytest.mark.parametrize("layers", [1, 2])
def test_what_keeps_a_tls_connection_alive_is_set_on_the_socket_below(layers):
    with socket.socket() as sock:
        transport = tls_over(sock)
        assert not isinstance(transport.getHandle(), socket.socket)
        keep_alive(transport if layers == 1 else SimpleNamespace(transport=transport))
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == NODES.idle_s


@pytest.fixture
def wire():
    """The near end of a TCP connection."""
    with (
        socket.create_server(("127.0.0.1", 0)) as port,
        socket.create_connection(port.getsockname()) as near,
        port.accept()[0],
    ):
        yield near


def unacknowledged_ms(sock):
    return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)


@pytest.mark.parametrize("kind", ["client", "service"])
def test_a_router_that_does_not_read_for_a_while_keeps_those_who_have_joined(wire, kind):
    """Looks notice that it is gone; before it has let a client in, nothing else does."""
    from crossbar_cluster.node.backend_session import BackendSession

    client = BackendSession(Backend("a", {}), handshake(), Client(), Clock()) if kind == "client" else None
    session, router = client or service_session(), Router()
    router.network.getHandle = lambda: wire
    router.connect(session)
    router.accept()
    router.greet()
    assert unacknowledged_ms(wire) == 8000
    router.says(welcome())
    assert unacknowledged_ms(wire) == 60000
    assert wire.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == NODES.idle_s


def test_a_link_is_ended_as_soon_as_before(wire):
    from crossbar_cluster.node.backend_session import BackendSession

    said = handshake()
    said.linked_worker = "worker1"
    session, router = BackendSession(Backend("a", {}), said, Client(), Clock()), Router()
    router.network.getHandle = lambda: wire
    router.connect(session)
    router.accept()
    router.greet()
    router.says(welcome())
    assert session._session_id == 7
    assert unacknowledged_ms(wire) == 8000


def test_what_is_no_tcp_connection_is_left_alone():
    keep_alive(StringTransport())
    keep_alive(None)


def service_session():
    from crossbar_cluster.proxy.service import ServiceSession

    pool = SimpleNamespace(ended=lambda session: None)
    session = ServiceSession(Backend("a", {}), handshake(), pool)
    session.joined.addErrback(lambda failure: None)
    return session


def test_a_service_session_that_is_disconnected_leaves_no_connection_behind():
    session, router = service_session(), Router()
    connecting = router.connect(session)
    session.disconnect()
    assert connecting.called, "it is not made at all"


@pytest.mark.parametrize("stage", ["accepted", "greeted"])
def test_a_service_session_is_disconnected_at_every_stage(stage):
    session, router = service_session(), Router()
    router.connect(session)
    router.accept()
    if stage == "greeted":
        router.greet()
    session.disconnect()
    assert router.network.aborted or router.network.disconnecting


@pytest.mark.parametrize("end", ["lost", "goodbye"])
def test_whoever_waits_for_a_service_session_is_told_of_its_end(end):
    """An HTTP request, or a client's HELLO, stands behind each of its calls."""
    session, router = service_session(), Router()
    router.connect(session)
    router.accept()
    router.greet()
    router.says(welcome())
    assert not session.is_busy
    failures = []
    session.call("test.call").addErrback(failures.append)
    assert session.is_busy, "a proxy that ends waits for it"
    if end == "goodbye":
        router.says(Goodbye("wamp.close.system_shutdown"))
    router.hangs_up()
    assert failures[0].check(TransportLost)
    assert not session.is_busy


def following_session(join):
    from crossbar_cluster.proxy.pool import BackendPool
    from crossbar_cluster.proxy.service import FollowingSession

    pool, log = object.__new__(BackendPool), Log()
    pool.join = join
    return FollowingSession(SimpleNamespace(log=log, _backend_pool=pool), "realm1", "anonymous"), log


def test_an_error_of_ours_is_told_in_the_log_and_to_whoever_asks():
    from autobahn.wamp.exception import ApplicationError

    async def join(principal, make):
        raise RuntimeError("a bug")

    session, log = following_session(join)
    answers = []
    session.call("test.call").addErrback(answers.append)
    assert answers[0].check(ApplicationError)
    assert answers[0].value.error == "wamp.error.unavailable"
    [line] = log.lines
    assert "realm1" in line and "a bug" in line


def test_nobody_needs_to_know_that_nobody_waits_any_more():
    session, log = following_session(lambda principal, make: Deferred())
    session.call("test.call").addErrback(lambda failure: None)
    session._making.cancel()
    assert not log.lines
