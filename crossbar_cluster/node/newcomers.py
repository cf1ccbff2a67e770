"""The connections of a listening port that have no session yet: closed when they take too long, or are too many.

One `NewcomersGuard` for each port. The release's factory of the port tells it of each connection and its end
(`crossbar/common/twisted/endpoint.py`); what has become of one in between is looked up when that matters, and not told
for each message. Connections are closed by a reset: nothing is owed to whoever has not said who it is.
"""

from __future__ import annotations

import resource
from typing import Any

from autobahn.websocket.protocol import WebSocketProtocol
from twisted.internet.protocol import connectionDone
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory

from crossbar_cluster.core.limits import JOIN_WITHIN_S
from crossbar_cluster.core.metrics import METRICS, NEWCOMERS_CLOSED
from crossbar_cluster.core.newcomers import Newcomers, Standing
from crossbar_cluster.core.news import Seldom
from crossbar_cluster.node.pacing import PacedRawSocket, PacedWebSocket

#: Without a session, at a port at once. At a router's inner port each client of each proxy has a connection of its own:
#: when a router is back, all of them come at the same moment, and nobody is to be turned away half-way.
MOST = {"client": 2000, "inner": 10_000, "master": 2000}
#: And no larger share of the descriptors that the process may have.
DESCRIPTORS_SHARE = 0.25
#: A node's handshake takes a few round trips.
NODE_WITHIN_S = 15.0
TOLD_EACH_S = 60.0
_SHAKING_HANDS = (WebSocketProtocol.STATE_CONNECTING, WebSocketProtocol.STATE_PROXY_CONNECTING)


class NewcomersGuard:
    """Those of one port.

    :param kind: of the port: ``client``, ``inner``, ``master`` or ``health``.
    :param most: how many there may be at once, unless descriptors are scarce.
    :param counts: whether its worker exposes what is closed.
    """

    def __init__(self, kind: str, most: int, within_s: float, reactor: Any, log: Any, *, counts: bool = True) -> None:
        self._kind = kind
        self._counts = counts
        self._told = Seldom(TOLD_EACH_S)
        self._within_s = within_s
        self._reactor = reactor
        self._log = log
        most = min(most, max(1, int(DESCRIPTORS_SHARE * resource.getrlimit(resource.RLIMIT_NOFILE)[0])))
        self._newcomers: Newcomers[Any] = Newcomers(most, within_s, standing_of)
        self._timer: Any = None

    def __len__(self) -> int:
        return len(self._newcomers)

    def came(self, connection: Any) -> None:
        """A connection has been accepted, or has no session any more. :param connection: the outermost protocol."""
        oldest = self._newcomers.came(connection, self._reactor.seconds())
        if oldest is not None:
            self._close(oldest, "too_many")
        if self._timer is None:
            self._wait()

    def left(self, connection: Any) -> None:
        """A connection has ended."""
        self._newcomers.left(connection)

    def _wait(self) -> None:
        next_s = self._newcomers.next_s
        if next_s is not None:
            self._timer = self._reactor.callLater(max(0.0, next_s - self._reactor.seconds()), self._close_late)

    def _close_late(self) -> None:
        self._timer = None
        for connection in self._newcomers.late(self._reactor.seconds()):
            self._close(connection, "too_late")
        self._wait()

    def _close(self, connection: Any, why: str) -> None:
        if self._counts:
            METRICS.count(NEWCOMERS_CLOSED, self._kind, why)
        if self._told.due(why, self._reactor.seconds()):
            what = f"that had no session {self._within_s:g} s after it came"
            self._log.warn(
                "A connection from {peer} to this {kind} port is closed, {why}. See metric {metric} for how many more",
                peer=connection.transport.getPeer(),
                kind=self._kind,
                why=what if why == "too_late" else "the oldest of too many that have no session",
                metric=NEWCOMERS_CLOSED.name,
            )
        connection.transport.abortConnection()


def standing_of(connection: Any) -> Standing:
    """What has become of a connection. :param connection: the outermost of its protocols."""
    protocol = connection
    while isinstance(protocol, ProtocolWrapper):
        protocol = protocol.wrappedProtocol
    protocol = getattr(protocol, "_proto", protocol)  # a port for several protocols, once it knows which
    if (channel := getattr(protocol, "_channel", None)) is not None:
        return _standing_of_http(channel)
    if isinstance(protocol, PacedWebSocket | PacedRawSocket):  # WAMP
        return _standing_of_session(getattr(protocol, "_session", None))
    if hasattr(protocol, "_wamp_session"):  # MQTT
        return _standing_of_session(protocol._wamp_session)
    # of something else, such as a WebSocket that is passed on: beyond its handshake it is none of ours
    is_shaking_hands = protocol is None or getattr(protocol, "state", None) in _SHAKING_HANDS
    return Standing.UNPROVEN if is_shaking_hands else Standing.PROVEN


def _standing_of_session(session: Any) -> Standing:
    # a frontend session of a proxy that has authenticated its client waits for a router: the pool sees to that
    if getattr(session, "_session_id", None) is not None or getattr(session, "_client", None) is not None:
        return Standing.PROVEN
    return Standing.JOINING if getattr(session, "_pending_auth", None) is not None else Standing.UNPROVEN


def _standing_of_http(channel: Any) -> Standing:
    if getattr(channel, "_handlingRequest", False) or getattr(channel, "streams", None):  # HTTP/1.1; HTTP/2
        return Standing.BUSY
    is_between_requests = getattr(channel, "_HTTPChannel__first_line", False) and not channel._buffer
    is_sending_a_body = getattr(channel, "_transferDecoder", None) is not None  # for as long as it does not pause
    return Standing.IDLE if is_between_requests or is_sending_a_body else Standing.UNPROVEN


class GuardedConnection(ProtocolWrapper):
    """A connection of a port that has no factory of the release's. Its protocol sees the transport itself."""

    factory: Any

    def makeConnection(self, transport: Any) -> None:
        super().makeConnection(transport)  # type: ignore[no-untyped-call]
        self.factory.guard.came(self)

    def connectionLost(self, reason: Any = connectionDone) -> None:
        self.factory.guard.left(self)
        super().connectionLost(reason)  # type: ignore[no-untyped-call]


class GuardedFactory(WrappingFactory):
    """Puts a guard before a factory."""

    noisy = False
    protocol = GuardedConnection

    def __init__(self, wrapped: Any, guard: NewcomersGuard) -> None:
        super().__init__(wrapped)  # type: ignore[no-untyped-call]
        self.guard = guard


def guard_transport(created: tuple[Any, Any], transport: Any) -> tuple[Any, Any]:
    """Guard the listening port that is about to be opened for a transport.

    :param created: its factory, and its root web service.
    :param transport: the release's ``RouterTransport``.
    """
    factory, worker = created[0], transport.worker
    kind = _kind_of(worker, transport.config)
    within_s = JOIN_WITHIN_S if kind == "client" else NODE_WITHIN_S
    factory.newcomers = NewcomersGuard(kind, MOST[kind], within_s, worker._reactor, transport.log)
    site = getattr(factory, "_web_factory", factory)
    if getattr(site, "timeOut", within_s) is None:  # between the requests of an HTTP client; not said by the operator
        site.timeOut = within_s
    return created


def _kind_of(worker: Any, config: Any) -> str:
    if worker.WORKER_TYPE != "proxy" and "portrange" in config.get("endpoint", {}):
        return "inner"
    return "master" if worker.personality.NAME == "master" else "client"


def guard_of(factory: Any) -> NewcomersGuard | None:
    """The guard of a listening port's factory, which others may have been put around; None: it has none."""
    while isinstance(factory, WrappingFactory):
        factory = factory.wrappedFactory
    return getattr(factory, "newcomers", None)


def connection_of(transport: Any) -> Any:
    """The outermost protocol of an accepted connection. :param transport: that an inner protocol of it has."""
    while hasattr(transport, "transport"):  # TLS
        transport = transport.transport
    return getattr(transport, "protocol", None)
