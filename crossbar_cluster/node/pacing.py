"""Nobody who sends much is read at the cost of others: a turn of the event loop is bounded.

The release handles all that a read has brought in one go: of small messages that is a quarter of a second's work, for
each connection that is ready. Here whoever has sent more than `SLICE_S` of work at once waits for the rest in a `Lane`,
and is not read meanwhile. A lane has `TURN_S` in each turn of the loop, for all in it, one after the other; who sends
little is served at once, and so is everything that is no client's: looks, links, the uplink, pings, timers.

`PacedWebSocket` and `PacedRawSocket` are mixed into the release's server protocols (`crossbar/router/protocol.py`), of
proxies as of routers and masters, and by `paced` into a proxy's end of a client's connection to its router, and into
the end of a link that has dialled. What has been sent may also be held back for another reason, such as a router that
does not read: see `Reading.hold`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from functools import cache, partial
from time import perf_counter
from typing import Any, Protocol

from autobahn.websocket.protocol import WebSocketProtocol
from twisted.internet.error import ConnectionAborted

from crossbar_cluster.core.batches import pieces
from crossbar_cluster.core.metrics import LIMITS_MET, METRICS
from crossbar_cluster.core.router import RLINK_ROLE
from crossbar_cluster.node.backlog import Leaving, acked_bytes, forget_unsent, tcp_of, untaken_bytes

#: Of work for one connection, before others have their turn, seconds.
SLICE_S = 0.002
#: Of work for all in the lane in one turn of the loop.
TURN_S = 0.01
#: Who was in the lane so lately does not get a slice outside of it, while others wait there.
HEAVY_S = 1.0
#: Outside of the lane messages are counted no more often.
READS = 32
#: Of a batch of messages, which come in one, at once.
BATCH_BYTES = 1024
#: Of one message of whoever has no session: no HELLO is larger, and decoding takes time that nobody has asked for.
BEFORE_JOINING_BYTES = 128 * 1024

MESSAGE_TOO_BIG = 1009  # RFC 6455, section 7.4.1

# Why a connection is not read now.
LANE = 1  #: others have their turn
RATE = 2  #: more than messages_per_s
ROUTER = 4  #: its router reads more slowly


class Paced(Protocol):
    """A protocol whose connection is read in turns."""

    transport: Any
    _session: Any

    def handle(self, until_s: float) -> bool:
        """Handle what has arrived, until a time (of `perf_counter`). :returns: whether something is left."""

    def count(self) -> int:
        """Messages so far."""


class Reading:
    """One connection, as far as it is read."""

    __slots__ = (
        "_counted", "_counted_s", "_ended", "_heavy_until_s", "_lane", "_protocol", "_rate", "_reads", "_tokens",
        "held",
    )  # fmt: skip

    def __init__(self, protocol: Paced, lane: Lane) -> None:
        self._protocol: Paced | None = protocol  #: None: it has ended
        self._ended: Callable[[], None] | None = None  #: it has, and this waits for what had been received of it
        self._lane = lane
        self.held = 0  #: reasons why nothing more of it is to be handled now; 0: there is none
        self._heavy_until_s = 0.0
        self._reads = 0  #: since messages were counted
        self._rate = 0  #: none: it is no client's
        self._tokens = 0.0
        self._counted, self._counted_s = 0, 0.0

    def limit(self, messages_per_s: int) -> None:
        """More messages than that are read later."""
        if self._protocol is not None:
            self._rate, self._tokens = messages_per_s, float(messages_per_s)
            self._counted, self._counted_s = self._protocol.count(), perf_counter()

    def arrived(self) -> None:
        """Something has been read."""
        if self.held or self._protocol is None:
            return
        now_s = perf_counter()
        if now_s < self._heavy_until_s and self._lane.is_busy:
            self._enter_lane(now_s)
        elif self._protocol.handle(now_s + SLICE_S) and not self.held:
            self._enter_lane(perf_counter())
        self._reads += 1
        if self._reads >= READS:
            self._account()

    def _enter_lane(self, now_s: float) -> None:
        self._heavy_until_s = now_s + HEAVY_S
        self.hold(LANE)
        self._lane.enter(self)

    def serve(self, until_s: float) -> bool:
        """Its turn in the lane. :returns: whether it is to have another one."""
        self.held &= ~LANE
        if self._protocol is None or self.held:
            return False
        is_link = getattr(self._protocol._session, "_authrole", None) == RLINK_ROLE  # it speaks for many clients
        now_s = perf_counter()
        more = self._protocol.handle(until_s if is_link else min(until_s, now_s + SLICE_S))
        self._account()
        if self.held or self._protocol is None:
            return False
        if more:
            self.held |= LANE
            self._heavy_until_s = now_s + HEAVY_S
            return True
        if self._ended is not None:
            self._close(self._ended)
        else:
            self._protocol.transport.resumeProducing()
        return False

    def hold(self, why: int = ROUTER) -> None:
        """Read no more of it until that is released."""
        if self._ended is not None:
            return
        if not self.held and self._protocol is not None:
            self._protocol.transport.pauseProducing()
        self.held |= why

    def release(self, why: int = ROUTER) -> None:
        """That reason is gone."""
        if self.held & why:
            self.held &= ~why
            if not self.held and self._protocol is not None:
                self._enter_lane(perf_counter())  # something may be left of what has arrived

    def end(self, ended: Callable[[], None], *, is_aborted: bool) -> None:
        """The connection has ended: what has been received of it, and waits, is a read's worth, and handled in turns.

        :param ended: called after that.
        :param is_aborted: by us: nothing more of it is handled.
        """
        if is_aborted or not self.held:
            self._close(ended)
            return
        is_in_lane, self.held = self.held & LANE, LANE
        self._ended = ended
        if not is_in_lane:
            self._lane.enter(self)

    def _close(self, ended: Callable[[], None]) -> None:
        self._protocol = self._ended = None
        ended()

    def abort(self) -> None:
        """End the connection."""
        if self._ended is not None:
            self._close(self._ended)
        elif self._protocol is not None:
            self._protocol.transport.abortConnection()

    def _account(self) -> None:
        self._reads = 0
        if self._protocol is None or not self._rate:
            return
        handled, now_s = self._protocol.count(), perf_counter()
        earned = (now_s - self._counted_s) * self._rate
        self._tokens = min(self._rate, self._tokens + earned) - (handled - self._counted)
        self._counted, self._counted_s = handled, now_s
        if self._tokens < 0 and not self.held & RATE and self._ended is None:
            METRICS.count(LIMITS_MET, "messages_per_s")
            self.hold(RATE)
            self._lane.later(-self._tokens / self._rate, self.release, RATE)


class Lane:
    """Those whose work is done a slice at a time.

    :param reactor: for `callLater`.
    """

    def __init__(self, reactor: Any, log: Any) -> None:
        self._reactor = reactor
        self._log = log
        self._waiting: deque[Reading] = deque()
        self._timer: Any = None

    @property
    def is_busy(self) -> bool:
        """Whether somebody is in it."""
        return bool(self._waiting)

    def enter(self, reading: Reading) -> None:
        """It has something left to be handled."""
        self._waiting.append(reading)
        self._go_on()

    def later(self, delay_s: float, do: Callable[..., None], *args: Any) -> None:
        self._reactor.callLater(delay_s, do, *args)

    def _go_on(self) -> None:
        if self._timer is None and self._waiting:
            self._timer = self._reactor.callLater(0, self._turn)

    def _turn(self) -> None:
        self._timer = None
        until_s = perf_counter() + TURN_S
        while self._waiting and perf_counter() < until_s:
            reading = self._waiting.popleft()
            try:
                more = reading.serve(until_s)
            except Exception:
                self._log.failure("What a connection has sent cannot be handled: it is closed")
                reading.abort()
                continue
            if more:
                self._waiting.append(reading)
        self._go_on()


_lane: Lane | None = None  # of this process


def the_lane() -> Lane:
    """The one of this process."""
    global _lane
    if _lane is None:
        from twisted.internet import reactor
        from txaio import make_logger

        _lane = Lane(reactor, make_logger())
    return _lane


class PacedWebSocket:
    """For the release's server protocol of WebSocket."""

    reading: Reading | None = None
    _acked_bytes, _received_bytes = 0, 0  #: when a ping was sent, or was late last
    _batch: Iterator[bytes] | None = None  #: what is left of one that is being handled
    _batch_is_binary = False
    _leaving: Leaving | None = None  #: we have told it to go

    def consumeData(self: Any) -> None:
        if self.reading is None:
            if self.state not in (WebSocketProtocol.STATE_OPEN, WebSocketProtocol.STATE_CLOSING):
                super().consumeData()  # type: ignore[misc]
                return
            self.reading = Reading(self, the_lane())
        self.reading.arrived()

    def handle(self: Any, until_s: float) -> bool:
        reading, process = self.reading, self.processData
        while self.state != WebSocketProtocol.STATE_CLOSED:
            if self._batch is not None:
                if not self._next_of_batch() and not self.data:
                    return False
            elif not process() and self._batch is None:
                return False
            elif self.current_frame is not None:
                continue  # the rest of the frame is there, or a part of it
            if reading.held or perf_counter() >= until_s:
                return True
        return False

    def count(self: Any) -> int:
        return self.trafficStats.incomingWebSocketMessages  # type: ignore[no-any-return]

    @property
    def message_bytes(self: Any) -> int:
        """The size of the message, or batch, that is being handled; of one that was compressed, when it is not."""
        return self.message_data_total_length  # type: ignore[no-any-return]

    def _next_of_batch(self: Any) -> bool:
        """Handle a piece of a batch. :returns: whether there was one."""
        piece = next(self._batch, None)
        if piece is None:
            self._batch = None
            return False
        super().onMessage(piece, self._batch_is_binary)  # type: ignore[misc]
        return True

    def onMessage(self: Any, payload: bytes, isBinary: bool) -> None:
        if len(payload) > BEFORE_JOINING_BYTES and _is_without_session(self):
            self.sendCloseFrame(MESSAGE_TOO_BIG, b"no HELLO is as large as that", False)
            return
        if len(payload) > BATCH_BYTES and getattr(self._serializer._serializer, "_batched", False):
            self._batch = pieces(payload, binary=isBinary, most_bytes=BATCH_BYTES)
            self._batch_is_binary = isBinary
            return
        super().onMessage(payload, isBinary)  # type: ignore[misc]

    def _sendAutoPing(self: Any) -> None:
        self._acked_bytes = acked_bytes(tcp_of(self.transport))
        self._received_bytes = self.trafficStats.incomingOctetsWireLevel
        super()._sendAutoPing()  # type: ignore[misc]

    def onAutoPingTimeout(self: Any) -> None:
        """Not answered in time. It may be us who do not read, or it may still be reading what came before the ping, or
        be sending one large message: there is no answer within one."""
        tcp = tcp_of(self.transport)
        acked, received = acked_bytes(tcp), self.trafficStats.incomingOctetsWireLevel
        is_reading = acked > self._acked_bytes and untaken_bytes(tcp) > 0
        is_sending = received > self._received_bytes
        if is_reading or is_sending or (self.reading is not None and self.reading.held):
            self._acked_bytes, self._received_bytes = acked, received
            self.autoPingTimeoutCall = self.factory._batched_timer.call_later(
                self.autoPingTimeout, self.onAutoPingTimeout
            )
            return
        super().onAutoPingTimeout()  # type: ignore[misc]

    def sendCloseFrame(
        self: Any, code: int | None = None, reasonUtf8: bytes | None = None, isReply: bool = False
    ) -> None:
        if self._leaving is None and not isReply and (tcp := tcp_of(self.transport)) is not None:
            self._leaving = Leaving(tcp)
        super().sendCloseFrame(code, reasonUtf8, isReply)  # type: ignore[misc]

    def onCloseHandshakeTimeout(self: Any) -> None:
        """It has not answered our close in time. It may still be reading what came before."""
        if self._leaving is not None and self._leaving.takes_more():
            self.closeHandshakeTimeoutCall = self.factory._batched_timer.call_later(
                self.closeHandshakeTimeout, self.onCloseHandshakeTimeout
            )
            return
        super().onCloseHandshakeTimeout()  # type: ignore[misc]

    def connectionLost(self: Any, reason: Any) -> None:
        _end(self, partial(super().connectionLost, reason), reason)  # type: ignore[misc]


class PacedRawSocket:
    """For the release's server protocol of RawSocket."""

    reading: Reading | None = None
    _until_s = 0.0
    _received = 0
    message_bytes = 0  #: of the message that is being handled
    _arrived = b""  #: and not looked at yet

    def _on_handshake_complete(self: Any) -> None:
        self.reading = Reading(self, the_lane())
        super()._on_handshake_complete()  # type: ignore[misc]

    def dataReceived(self: Any, data: bytes) -> None:
        if not self._handshake_complete:
            self._until_s = perf_counter() + SLICE_S
            super().dataReceived(data)  # type: ignore[misc]
            return
        self._arrived = data
        self.reading.arrived()
        if self._arrived:  # it waits
            self.paused = True
            data, self._arrived = self._arrived, b""
            super().dataReceived(data)  # type: ignore[misc]

    def handle(self: Any, until_s: float) -> bool:
        self._until_s, self.paused = until_s, False
        data, self._arrived = self._arrived, b""
        super().dataReceived(data)  # type: ignore[misc]
        return self.paused  # type: ignore[no-any-return]

    def count(self) -> int:
        return self._received

    def stringReceived(self: Any, payload: bytes) -> None:
        self._received += 1
        if len(payload) > BEFORE_JOINING_BYTES and _is_without_session(self):
            self.transport.abortConnection()
            return
        self.message_bytes = len(payload)
        super().stringReceived(payload)  # type: ignore[misc]
        if perf_counter() >= self._until_s or (self.reading is not None and self.reading.held):
            self.paused = True

    def connectionLost(self: Any, reason: Any) -> None:
        _end(self, partial(super().connectionLost, reason), reason)  # type: ignore[misc]


def _end(protocol: Any, ended: Callable[[], None], reason: Any) -> None:
    forget_unsent(protocol.transport)
    if protocol.reading is None:
        ended()
    else:
        protocol.reading.end(ended, is_aborted=reason.check(ConnectionAborted) is not None)


def _is_without_session(protocol: Any) -> bool:
    """Whether nobody has joined there. On a proxy's own connection to a router: whether its WELCOME has not come."""
    return getattr(protocol._session, "_session_id", None) is None


def paced(factory: Any) -> Any:
    """Let connections to routers handle in turns what they receive.

    :param factory: Autobahn's, of a connection for one client, or of a link. One of WebSocket is left alone.
    """
    from autobahn.twisted.rawsocket import WampRawSocketClientProtocol  # not in a process that uses asyncio

    if factory.protocol is WampRawSocketClientProtocol:
        factory.protocol = _paced_client(WampRawSocketClientProtocol)
    return factory


@cache
def _paced_client(released: type) -> type:
    return type("PacedRawSocketClient", (PacedRawSocket, released), {})
