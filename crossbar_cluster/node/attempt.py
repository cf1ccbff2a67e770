"""A connection to a backend that is being made, and can be dropped at every stage of that."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionClosed

from crossbar_cluster.node.handshake import NotJoined, Unreachable
from crossbar_cluster.node.keepalive import JOINED, keep_alive
from crossbar_cluster.node.trouble import Trouble, trouble_of

_RESET = (errno.ECONNRESET, errno.ECONNABORTED, errno.EPIPE)


class OwnFault(Unreachable):
    """No connection came about, for a reason of this process or its host: nothing is known of the other end."""

    def __init__(self, trouble: Trouble) -> None:
        super().__init__(trouble.what)
        self.trouble = trouble


class TurnedAway(Unreachable):
    """Whoever answers has closed or reset the connection without a word: it is there, and may have no room.

    Nobody listens where a process has ended: connections to it are refused, not reset.
    """


class Attempt:
    """:param failed: told why no connection came about."""

    def __init__(self, failed: Callable[[NotJoined], None]) -> None:
        self._failed = failed
        self._connecting: Deferred[Any] | None = None
        self._protocol: Any = None
        self._dropped = False

    def begin(self, connecting: Deferred[Any]) -> None:
        """:param connecting: fires with the protocol when the connection stands, before it can carry messages."""
        self._connecting = connecting
        connecting.addCallbacks(self._made, self._not_made)

    def _made(self, protocol: Any) -> None:
        self._protocol = protocol
        keep_alive(protocol.transport)
        protocol.is_closed.addCallback(self._closed)  # what ends before it can carry messages tells no session
        if self._dropped:
            protocol.abort()

    def _closed(self, result: Any) -> Any:
        self._failed(TurnedAway("the connection was closed"))
        return result

    def _not_made(self, failure: Any) -> None:
        if isinstance(failure.value, NotJoined):
            self._failed(failure.value)
        elif (trouble := trouble_of(failure.value)) is not None:
            self._failed(OwnFault(trouble))
        elif failure.check(ConnectionClosed) or getattr(failure.value, "osError", None) in _RESET:
            self._failed(TurnedAway(failure.getErrorMessage() or failure.type.__name__))
        else:
            self._failed(Unreachable(failure.getErrorMessage() or failure.type.__name__))

    def joined(self) -> None:
        """A session for a client has come about: whether the router is gone is noticed by looks."""
        if self._protocol is not None:
            keep_alive(self._protocol.transport, JOINED)

    def drop(self) -> None:
        """End it, now or as soon as it stands."""
        self._dropped = True
        if self._protocol is not None:
            self._protocol.abort()
        elif self._connecting is not None:
            self._connecting.cancel()
