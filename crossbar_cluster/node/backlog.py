"""What a connection has been given and has not taken yet, and what is done when that grows.

`guard_backlog` is for everybody who sends on a connection whose other end may not read: a proxy to its clients and to
their routers, a router to the sessions of proxies, a router over its links.

    guard_backlog(protocol.transport, limit_bytes, lambda unsent: close_it())

Call it once, when the session is joined; it ends with the connection. Nothing is done for each message: Twisted's
transport tells its producer when more than 64 KiB wait, and again with each further write, and when all has gone.
``too_far_behind`` is called once, from within a write: it may close the connection, not raise. ``limit_bytes`` is to
be no smaller than the largest message: one alone always goes. With ``most_bytes`` whoever is over the limit, and reads,
is closed only beyond that; who has taken nothing for `LOOK_S` is closed.
"""

from __future__ import annotations

import array
import fcntl
import socket
import struct
import termios
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from crossbar_cluster.node.memory import give_back_soon

#: Memory that is given back to the operating system.
LARGE_BYTES = 4 * 2**20
#: Where Linux has ``tcpi_bytes_acked`` in what it tells of a TCP connection (linux/tcp.h, struct tcp_info).
_ACKED_AT = 120
#: Who is too far behind is closed, and gone by then.
DROPPED_WITHIN_S = 4.0
#: Who is told to go is gone by then, however much of what it is being sent it has yet to take.
LEAVE_WITHIN_S = 30.0
#: Who is over its limit has taken something within that, or is closed.
LOOK_S = 2.0
#: Between looks, as it is written to, at what it has taken.
GLANCE_S = 1.0


class Backlog:
    """That of one connection: a streaming producer of its transport (Twisted's IPushProducer).

    :param tcp: Twisted's TCP transport, below TLS.
    :param too_far_behind: gets the number of bytes that wait.
    :param most_bytes: beyond this it is too far behind even if it reads; None: beyond the limit.
    :param filled: more has been written than goes at once; until ``drained`` it is better not to write more.
    """

    __slots__ = (
        "_acked",
        "_drained",
        "_filled",
        "_is_filled",
        "_is_large",
        "_is_over",
        "_limit_bytes",
        "_look",
        "_looked_s",
        "_most_bytes",
        "_tcp",
        "_too_far_behind",
        "_took_s",
    )

    def __init__(
        self,
        tcp: Any,
        limit_bytes: int,
        too_far_behind: Callable[[int], object],
        filled: Callable[[], object] | None = None,
        drained: Callable[[], object] | None = None,
        *,
        most_bytes: int | None = None,
    ) -> None:
        self._tcp = tcp
        self._limit_bytes = limit_bytes
        self._most_bytes = max(limit_bytes, most_bytes or 0)
        self._look: Any = None
        self._acked, self._took_s = 0, 0.0  #: of it, when it was seen to have taken something last
        self._looked_s = -GLANCE_S
        self._too_far_behind = too_far_behind
        self._filled = filled
        self._drained = drained
        self._is_filled = False
        self._is_over = False
        self._is_large = False

    def pauseProducing(self) -> None:
        """More waits than goes at once. Called with each write."""
        if not self._is_filled:
            self._is_filled = True
            self._took_s = self._tcp.reactor.seconds()
            if self._filled is not None:
                self._filled()
        unsent = unsent_bytes(self._tcp)
        self._is_large = self._is_large or unsent > LARGE_BYTES
        if self._is_over:
            return
        if unsent > self._most_bytes:
            self._over(unsent)
        elif self._most_bytes > self._limit_bytes:
            self._may_read(unsent)

    def _may_read(self, unsent: int) -> None:
        """Below ``most_bytes``: whoever reads may have more than the limit."""
        now_s = self._tcp.reactor.seconds()
        is_over_limit = unsent > self._limit_bytes
        if now_s - self._looked_s >= GLANCE_S or (is_over_limit and self._look is None):
            self._looked_s = now_s
            if (acked := acked_bytes(self._tcp)) > self._acked:
                self._acked, self._took_s = acked, now_s
        if is_over_limit and self._look is None:
            wait_s = self._took_s + LOOK_S - now_s
            if wait_s <= 0:
                self._over(unsent)
            else:
                self._look = self._tcp.reactor.callLater(wait_s, self._look_at_it)

    def _look_at_it(self) -> None:
        self._look = None
        unsent = unsent_bytes(self._tcp)
        if not self._is_over and self._tcp.connected and unsent > self._limit_bytes:
            self._may_read(unsent)

    def _over(self, unsent: int) -> None:
        self._is_over = True
        # Autobahn ends a producer's registration by itself before it drops a connection
        self._tcp.reactor.callLater(DROPPED_WITHIN_S, give_back_soon, self._tcp.reactor)
        self._too_far_behind(unsent)

    def resumeProducing(self) -> None:
        """All has gone."""
        if self._tcp.disconnecting:  # it waits for its producer to be done
            self._tcp.unregisterProducer()
        self._drain()

    def stopProducing(self) -> None:
        """The connection has ended."""
        self._drain()

    def _drain(self) -> None:
        if self._look is not None:
            self._look.cancel()
            self._look = None
        if self._is_filled:
            self._is_filled = False
            if self._is_large:
                self._is_large = False
                give_back_soon(self._tcp.reactor)
            if self._drained is not None:
                self._drained()


def guard_backlog(
    transport: Any,
    limit_bytes: int,
    too_far_behind: Callable[[int], object],
    filled: Callable[[], object] | None = None,
    drained: Callable[[], object] | None = None,
    *,
    most_bytes: int | None = None,
) -> None:
    """Watch what a connection has not taken yet: see `Backlog` and the module.

    :param transport: Twisted's, of the protocol; one that is no TCP connection (HTTP long-polling) is left alone.
    """
    tcp = tcp_of(transport)
    if tcp is None:
        return
    if tcp.producer is not None:  # HTTP's, which has handed the connection over to WebSocket
        tcp.unregisterProducer()
    tcp.registerProducer(Backlog(tcp, limit_bytes, too_far_behind, filled, drained, most_bytes=most_bytes), True)


def tcp_of(transport: Any) -> Any:
    """The TCP transport below TLS; None: there is none."""
    while hasattr(transport, "transport"):
        transport = transport.transport
    return transport if hasattr(transport, "dataBuffer") else None


def forget_unsent(transport: Any) -> None:
    """The connection has ended: free at once what nobody gets any more, and not when the garbage collector comes to it.

    :param transport: of its protocol.
    """
    tcp = tcp_of(transport)
    if tcp is not None and not tcp.connected:
        tcp.dataBuffer, tcp.offset, tcp._tempDataBuffer, tcp._tempDataLen = b"", 0, [], 0


def unsent_bytes(tcp: Any) -> int:
    """How much of what has been written to a TCP transport the kernel has not taken yet."""
    return int(len(tcp.dataBuffer) - tcp.offset + tcp._tempDataLen)


def untaken_bytes(tcp: Any) -> int:
    """How much of it the other end has not acknowledged yet."""
    in_kernel = array.array("i", [0])
    with suppress(OSError, AttributeError, ValueError):  # not a socket, or it has ended
        fcntl.ioctl(tcp.fileno(), termios.TIOCOUTQ, in_kernel)
    return unsent_bytes(tcp) + in_kernel[0]


class Leaving:
    """Whether who has been told to go still takes what it is being sent: then it has more time, but not for ever.

    :param tcp: Twisted's TCP transport; made before the last word is written.
    """

    __slots__ = ("_acked", "_tcp", "_until_s", "_waited")

    def __init__(self, tcp: Any) -> None:
        self._tcp = tcp
        self._until_s = tcp.reactor.seconds() + LEAVE_WITHIN_S
        self._acked, self._waited = acked_bytes(tcp), untaken_bytes(tcp) > 0

    def takes_more(self) -> bool:
        """:returns: whether something waited for it at the last look, and it has taken some of that since."""
        waited, before = self._waited, self._acked
        self._acked, self._waited = acked_bytes(self._tcp), untaken_bytes(self._tcp) > 0
        return waited and self._acked > before and bool(self._tcp.reactor.seconds() < self._until_s)


def acked_bytes(tcp: Any) -> int:
    """How much the other end has acknowledged since the connection began; 0: it cannot be told."""
    with suppress(OSError, AttributeError, struct.error):  # not a TCP socket, or it has ended
        told = tcp.getHandle().getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _ACKED_AT + 8)
        return int(struct.unpack_from("=Q", told, _ACKED_AT)[0])
    return 0
