"""The client's side of a proxy: its calls in flight, and how a client is told that its session cannot go on.

What standard clients make of an end decides how it is told. Autobahn|JS takes any GOODBYE and any ABORT, whatever the
reason, for the end and never comes back; Autobahn|Python's Component comes back after an ABORT, but takes a clean close
of a connection whose session has not joined for the end. All of them come back when a joined session loses its
connection. So a lost backend is told by an error for each call in flight and by closing the connection, with a code
that says "come back"; a client that cannot be let in is told by an ABORT if it runs Autobahn|Python, else by dropping
its connection.
"""

from __future__ import annotations

from typing import Any

from autobahn.exception import Disconnected
from autobahn.wamp.exception import TransportLost
from autobahn.wamp.message import (
    Abort,
    Call,
    Error,
    Invocation,
    Publish,
    Published,
    Register,
    Registered,
    Result,
    Subscribe,
    Subscribed,
    Unregister,
    Unregistered,
    Unsubscribe,
    Unsubscribed,
    Yield,
)
from autobahn.websocket.protocol import WebSocketProtocol

from crossbar_cluster.core.limits import ClientLimits
from crossbar_cluster.core.metrics import LIMITS_MET, METRICS
from crossbar_cluster.node.backlog import Leaving, tcp_of

INVOCATION = Invocation.MESSAGE_TYPE
_OTHER_REQUESTS = frozenset({Register, Subscribe, Unregister, Unsubscribe})
_OTHER_ANSWERS = frozenset({Published, Registered, Subscribed, Unregistered, Unsubscribed})
CANCELED = "wamp.error.canceled"
_DEFAULTS = ClientLimits()
POLICY_VIOLATION = 1008  # the same: it has gone beyond what it may
SERVICE_RESTART = 1012  # RFC 6455, registry of close codes: the client may reconnect
_CLOSE_REASON_BYTES = 123  # RFC 6455, section 5.5: a control frame's payload has 125 bytes, of which the code takes 2


class CallsInFlight:
    """The calls of a client, and those to it, that no answer has come to yet; and what else it waits for."""

    def __init__(self) -> None:
        self._requests: set[int] = set()  #: calls
        self._others: set[int] = set()  #: other requests of the client, which has one series of numbers for all
        self._served: set[int] = set()  #: requests of the router

    @property
    def any(self) -> bool:
        """Whether there are some."""
        return bool(self._requests or self._served or self._others)

    def sent(self, message: Any) -> None:
        """A message of the client goes to its router."""
        kind = type(message)
        if kind is Call:
            self._requests.add(message.request)
        elif (kind is Yield and not message.progress) or (kind is Error and message.request_type == INVOCATION):
            self._served.discard(message.request)
        elif kind in _OTHER_REQUESTS or (kind is Publish and message.acknowledge):
            self._others.add(message.request)

    def answered(self, message: Any) -> bool:
        """A message for the client has come from its router.

        :returns: False if it belongs to a call that the client has been told is over: clients take that for a breach of
            the protocol.
        """
        kind = type(message)
        if kind is Invocation:
            self._served.add(message.request)
        if kind is not Result and (kind is not Error or message.request_type != Call.MESSAGE_TYPE):
            if self._others and (kind is Error or kind in _OTHER_ANSWERS):
                self._others.discard(message.request)
            return True
        in_flight = message.request in self._requests
        if kind is Error or not message.progress:
            self._requests.discard(message.request)
        return in_flight

    def end(self, request: int) -> None:
        """The client has been told that a call is over."""
        self._requests.discard(request)

    def errors(self, why: str) -> list[Error]:
        """An answer to each: there will be no other."""
        requests, self._requests = sorted(self._requests), set()
        return [Error(Call.MESSAGE_TYPE, request, CANCELED, args=[why]) for request in requests]


def lose(transport: Any, calls: CallsInFlight, why: str, code: int = SERVICE_RESTART) -> None:
    """End a joined client's connection because its router is lost, or for another reason.

    :param why: for people.
    :param code: of a WebSocket's close frame.
    """
    drop_within(transport, limits_of(transport).connection.leave_within_s)
    try:
        for error in calls.errors(why):
            transport.send(error)
        if isinstance(transport, WebSocketProtocol):
            transport.sendCloseFrame(code, _close_reason(why), False)
        else:
            transport.close()
    except (TransportLost, Disconnected):  # the client has gone as well, or is about to
        return


def drop_within(transport: Any, within_s: float) -> None:
    """Reset a connection that still stands then: whoever is told to go goes, whether it answers, and reads, or not.

    Who is still taking what it has been sent before is looked at again, each ``within_s``: see `Leaving`.
    """
    tcp = tcp_of(transport.transport) if hasattr(transport, "transport") else None
    if tcp is not None:
        tcp.reactor.callLater(within_s, _drop, tcp, Leaving(tcp), within_s)


def _drop(tcp: Any, leaving: Leaving, within_s: float) -> None:
    if not tcp.connected:
        return
    if leaving.takes_more():
        tcp.reactor.callLater(within_s, _drop, tcp, leaving, within_s)
        return
    METRICS.count(LIMITS_MET, "leave_within_s")
    tcp.abortConnection()


def limits_of(transport: Any) -> ClientLimits:
    """Those of the web service that a client has come to."""
    factory = getattr(transport, "factory", None)
    return getattr(factory, "client_limits", None) or _DEFAULTS


def _close_reason(why: str) -> bytes:
    """As much of it as there is room for, cut between characters: clients take half of one for a protocol error."""
    return why.encode()[:_CLOSE_REASON_BYTES].decode(errors="ignore").encode()


def turn_away(transport: Any, reason: str, why: str) -> None:
    """Answer a client that cannot be let in now, so that it comes back. :param why: for people."""
    drop_within(transport, limits_of(transport).connection.leave_within_s)
    try:
        if _comes_back_after_abort(transport):
            transport.send(Abort(reason, why))
        else:
            transport.transport.loseConnection()
    except (TransportLost, Disconnected):
        return


def _comes_back_after_abort(transport: Any) -> bool:
    if not isinstance(transport, WebSocketProtocol):
        return True  # RawSocket: Autobahn|Python speaks it, browsers cannot
    return str((transport.http_headers or {}).get("user-agent", "")).startswith("AutobahnPython")
