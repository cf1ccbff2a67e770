"""One client's attempts to get a session: a backend that makes no progress does not hold up the next one.

An attempt whose connection does not stand after a second has a rival; whoever lets the client in first wins, and all
others are dropped. One that stands has been accepted by its router, which may have many to let in: it is waited for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic

from twisted.internet.defer import Deferred

from crossbar_cluster.node.handshake import NotJoined, Refused
from crossbar_cluster.proxy.dialling import S

#: How long an attempt may take to connect before the next backend is tried beside it.
RIVAL_AFTER_S = 1.0


class Race(Generic[S]):
    """:param begin: begins an attempt on the next backend; None: there is none left, or no time.
    :param over: told of each attempt's end, with why it failed, or None.
    :param within_s: how long each of them may take from now on.
    :param clock: an IReactorTime.
    """

    def __init__(
        self,
        begin: Callable[[], S | None],
        over: Callable[[S, NotJoined | None], None],
        within_s: Callable[[], float],
        clock: Any,
    ) -> None:
        self.refused: Refused | None = None  #: the last refusal
        self.failed = False  #: another reason than a refusal has ended an attempt
        self._begin = begin
        self._over = over
        self._within_s = within_s
        self._clock = clock
        self._running: dict[S, list[Any]] = {}  #: attempts, and their timers
        self._won: Deferred[tuple[S, Any] | None] = Deferred(lambda _: self._drop_all())

    def run(self) -> Deferred[tuple[S, Any] | None]:
        """:returns: fires with the session and what its `joined` has fired with; None: there is no backend left.

        Fails with whatever keeps an attempt from beginning.
        """
        self._next()
        return self._won

    def _next(self) -> None:
        try:
            session = self._begin()
        except Exception:  # a bug, or a configuration without sense: whoever waits is told, from whatever timer it is
            self._drop_all()
            self._won.errback()  # with what has just been raised
            return
        if session is None:
            if not self._running and not self._won.called:
                self._won.callback(None)
            return
        give_up = self._clock.callLater(self._within_s(), session.give_up)
        rival = self._clock.callLater(RIVAL_AFTER_S, self._slow, session)
        self._running[session] = [give_up, rival]
        session.joined.addCallbacks(self._joined, self._not_joined, callbackArgs=(session,), errbackArgs=(session,))

    def _slow(self, session: S) -> None:
        if session.transport is None:
            self._next()

    def _joined(self, welcome: Any, session: S) -> None:
        if session not in self._running:  # it has been dropped, and came in all the same
            session.leave()
            return
        self._end(session, None)
        self._drop_all()
        self._won.callback((session, welcome))

    def _not_joined(self, failure: Any, session: S) -> None:
        if session not in self._running:
            return
        error = failure.value
        if not isinstance(error, NotJoined):
            self._end(session, None)
            self._drop_all()
            self._won.errback(failure)
            return
        if isinstance(error, Refused):
            self.refused = error
        else:
            self.failed = True
        self._end(session, error)
        self._next()

    def _end(self, session: S, why: NotJoined | None) -> None:
        for timer in self._running.pop(session):
            if timer.active():
                timer.cancel()
        self._over(session, why)

    def _drop_all(self) -> None:
        for session in list(self._running):
            self._end(session, None)
            session.disconnect()
