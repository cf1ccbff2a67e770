"""A web service's limits and liveness: what the released factory, checks and protocols make of them."""

from types import SimpleNamespace

import pytest
from autobahn.twisted import websocket  # noqa: F401  it makes Autobahn use Twisted
from twisted.internet.address import IPv4Address
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from crossbar.common import checkconfig
from crossbar.common.checkconfig import InvalidConfigException
from crossbar.master.cluster.webcluster import WebClusterManager
from crossbar.router.protocol import WampWebSocketServerFactory
from crossbar_cluster.core.limits import ClientLimits
from crossbar_cluster.core.metrics import LIMITS_MET, METRICS
from crossbar_cluster.node import backlog, pacing
from crossbar_cluster.proxy.frontend import drop_within, limits_of


def service(**config):
    return WampWebSocketServerFactory(lambda: None, ".", {"type": "websocket", **config}, None)


def test_whoever_vanishes_or_does_not_go_is_noticed_by_default():
    factory = service()
    assert (factory.autoPingInterval, factory.autoPingTimeout, factory.closeHandshakeTimeout) == (10, 15, 2)
    assert factory.autoPingRestartOnAnyTraffic


def test_an_operators_own_option_wins():
    options = {"auto_ping_interval": 60000, "close_handshake_timeout": 0}
    config = {"options": options}
    factory = service(**config)
    assert (factory.autoPingInterval, factory.autoPingTimeout, factory.closeHandshakeTimeout) == (60, 15, 0)
    assert options == {"auto_ping_interval": 60000, "close_handshake_timeout": 0}, "it is not changed"


def test_limits_of_a_web_service():
    factory = service(limits={"leave_within_s": 5, "calls": 7})
    assert factory.closeHandshakeTimeout == 5
    limits = limits_of(factory.buildProtocol(None) or SimpleNamespace(factory=factory))
    assert limits == ClientLimits.from_config({"leave_within_s": 5, "calls": 7})
    assert limits_of(SimpleNamespace()) == ClientLimits()


@pytest.mark.parametrize(
    "check", [checkconfig.check_web_path_service_websocket, WebClusterManager._WEB_SERVICE_CHECKERS["websocket"]]
)
def test_they_are_checked_by_masters(check):
    config = {"type": "websocket", "limits": {"calls": 7}}
    check(None, config)
    assert config["limits"] == {"calls": 7}, "it is not changed"
    with pytest.raises(InvalidConfigException, match="there is no 'call'"):
        check(None, {"type": "websocket", "limits": {"call": 7}})
    with pytest.raises(InvalidConfigException):
        check(None, {"type": "websocket", "limit": {}})


class Tcp:
    """A TCP transport of Twisted's that never gets rid of what has been written to it."""

    dataBuffer, offset, _tempDataLen = b"", 0, 0
    connected, aborted = True, False

    def __init__(self):
        self.reactor = Clock()

    def abortConnection(self):
        self.aborted = True


def times_met():
    return dict(METRICS._counts.get(LIMITS_MET, {})).get(("leave_within_s",), 0)


def test_who_does_not_go_is_reset():
    tcp, met = Tcp(), times_met()
    drop_within(SimpleNamespace(transport=SimpleNamespace(transport=tcp)), 2.0)  # over TLS
    tcp.reactor.advance(1.9)
    assert not tcp.aborted
    tcp.reactor.advance(0.2)
    assert tcp.aborted and times_met() == met + 1


@pytest.fixture
def taking(monkeypatch):
    """What the kernel tells of who is told to go: acknowledged bytes, and those that are not."""
    told = SimpleNamespace(acked=1000, untaken=0)
    monkeypatch.setattr(backlog, "acked_bytes", lambda tcp: told.acked)
    monkeypatch.setattr(backlog, "untaken_bytes", lambda tcp: told.untaken)
    return told


def test_but_not_while_it_takes_what_it_is_being_sent(taking):
    tcp, met = Tcp(), times_met()
    taking.untaken = 900
    drop_within(SimpleNamespace(transport=tcp), 2.0)
    for taking.acked, taking.untaken in ((1400, 500), (1900, 0)):
        tcp.reactor.advance(2.0)
        assert not tcp.aborted
    taking.acked += 16  # it answers nothing
    tcp.reactor.advance(2.0)
    assert tcp.aborted and times_met() == met + 1
    assert not tcp.reactor.getDelayedCalls()


def test_nor_for_ever(taking):
    tcp = Tcp()
    taking.untaken = 10**9
    drop_within(SimpleNamespace(transport=tcp), 2.0)
    for _ in range(14):
        taking.acked += 1
        tcp.reactor.advance(2.0)
        assert not tcp.aborted
    taking.acked += 1
    tcp.reactor.advance(2.0)
    assert tcp.aborted


def test_nor_if_all_that_it_takes_is_our_close(taking):
    tcp = Tcp()
    drop_within(SimpleNamespace(transport=tcp), 2.0)
    taking.acked += 16
    tcp.reactor.advance(2.0)
    assert tcp.aborted


def test_a_websocket_that_does_not_answer_our_close_is_left_to_take_what_it_is_being_sent(pinged, taking, monkeypatch):
    protocol, timers = pinged
    monkeypatch.setattr(pacing, "tcp_of", lambda transport: SimpleNamespace(reactor=Clock()))
    protocol.state = protocol.STATE_OPEN
    taking.untaken = 900
    protocol.sendClose(1000, "bye")
    for taking.acked in (1400, 1900):
        delay_s, timed_out = timers.pop()
        assert delay_s == 2
        timed_out()
        assert not protocol.transport.disconnected
    timers.pop()[1]()
    assert protocol.transport.disconnected and not timers


def test_who_has_gone_is_left_alone():
    tcp, met = Tcp(), times_met()
    drop_within(SimpleNamespace(transport=tcp), 2.0)
    tcp.connected = False
    tcp.reactor.advance(2.1)
    assert not tcp.aborted and times_met() == met
    drop_within(SimpleNamespace(), 2.0)  # long-polling


@pytest.fixture
def pinged():
    """A connection whose ping has not been answered in time, and the timers of pings."""
    factory = service()
    timers = []
    factory._batched_timer = SimpleNamespace(call_later=lambda delay_s, call: timers.append((delay_s, call)))
    protocol = factory.buildProtocol(None)
    protocol.makeConnection(StringTransport(peerAddress=IPv4Address("TCP", "127.0.0.1", 1)))
    protocol.transport.registerProducer(SimpleNamespace(), True)  # HTTP's
    return protocol, timers


def test_who_does_not_answer_a_ping_is_dropped(pinged):
    protocol, timers = pinged
    protocol.onAutoPingTimeout()
    assert protocol.transport.disconnected and not timers


def test_but_not_while_it_is_not_read(pinged):
    protocol, timers = pinged
    protocol.reading = SimpleNamespace(held=1, end=lambda: None)
    protocol.onAutoPingTimeout()
    assert not protocol.transport.disconnected
    protocol.reading.held = 0
    ((delay_s, again),) = timers
    assert delay_s == 15
    again()
    assert protocol.transport.disconnected


@pytest.fixture
def told(monkeypatch):
    """What the kernel tells of the connection of `pinged`: acknowledged bytes, and those that are not."""
    from crossbar_cluster.node import pacing

    told = SimpleNamespace(acked=1000, untaken=0)
    monkeypatch.setattr(pacing, "tcp_of", lambda transport: "tcp")
    monkeypatch.setattr(pacing, "acked_bytes", lambda tcp: told.acked)
    monkeypatch.setattr(pacing, "untaken_bytes", lambda tcp: told.untaken)
    monkeypatch.setattr(pacing, "forget_unsent", lambda transport: None)
    return told


def test_nor_while_it_reads_what_was_sent_before_the_ping(pinged, told):
    protocol, _ = pinged
    protocol._sendAutoPing()
    for told.acked, told.untaken in ((1400, 900), (1900, 500)):
        protocol.onAutoPingTimeout()
        assert not protocol.transport.disconnected
    protocol.onAutoPingTimeout()
    assert protocol.transport.disconnected, "it has taken nothing since"


def test_nor_while_it_sends_one_large_message(pinged, told):
    """Within which it cannot answer."""
    protocol, timers = pinged
    protocol.factory._factory = lambda: SimpleNamespace(onOpen=lambda transport: None, onClose=lambda was_clean: None)
    protocol.dataReceived(
        b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: wamp.2.cbor\r\n\r\n"
    )
    assert protocol.state == protocol.STATE_OPEN
    protocol.dataReceived(bytes([0x82, 0xFE, 0xFF, 0xFF, 0, 0, 0, 0]) + b"begins")
    protocol._sendAutoPing()
    timers.clear()
    for _ in range(3):
        protocol.dataReceived(b"more")
        protocol.onAutoPingTimeout()
        assert not protocol.transport.disconnected
    assert len(timers) == 3
    protocol.onAutoPingTimeout()
    assert protocol.transport.disconnected, "it has sent nothing since"


def test_who_has_vanished_gets_no_more_time_for_a_ping_that_nobody_acknowledges(pinged, told):
    protocol, _ = pinged
    protocol._sendAutoPing()
    told.untaken = 16
    protocol.onAutoPingTimeout()
    assert protocol.transport.disconnected


def test_the_kernel_tells_what_has_been_acknowledged():
    import socket

    from crossbar_cluster.node.backlog import acked_bytes

    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        accepted, _ = server.accept()
        before = acked_bytes(SimpleNamespace(getHandle=lambda: client))
        client.sendall(b"x" * 5000)
        assert len(accepted.recv(5000, socket.MSG_WAITALL)) == 5000
        assert acked_bytes(SimpleNamespace(getHandle=lambda: client)) == before + 5000
        accepted.close()
    assert acked_bytes(None) == 0
