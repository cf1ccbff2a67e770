"""Looks at one backend: at once when something is said of it, every few seconds while it is up, soon while it is not.

One look is one short connection on which the router worker has to prove who it is, so it serves all clients of the
backend: none of them has to find out by itself that it hangs.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from random import uniform
from typing import Any

from twisted.internet.defer import Deferred

from crossbar_cluster.core.backends import Backend

EVERY_S = 3.0  #: with `core.backends.LOST_AFTER` looks of `WITHIN_S`, a silent backend is given up within 9 s
WITHIN_S = 2.5
JITTER_S = 0.2


class Watch:
    """:param look: one look; it never fails. :param clock: an IReactorTime."""

    def __init__(self, backend: Backend, look: Callable[[Backend], Awaitable[None]], clock: Any) -> None:
        self._backend = backend
        self._look = look
        self._clock = clock
        self._timer: Any = None
        self._looking: Deferred[None] | None = None
        self._busy = False
        self._again = False
        self._forced = False
        self._stopped = False

    def now(self, *, force: bool = False) -> None:
        """Look now; while one look is under way, once more after it.

        :param force: also at one that has just been heard of: whether it can be reached anew is another question.
        """
        self._forced |= force
        if self._busy:
            self._again = True
            return
        self._cancel_timer()
        self._busy = True  # before it begins: it may be over at once
        self._looking = Deferred.fromCoroutine(self._one())
        self._looking.addBoth(self._over)

    def stop(self) -> None:
        """Look no more."""
        self._stopped = True
        self._cancel_timer()
        if self._looking is not None:
            self._looking.cancel()

    async def _one(self) -> None:
        backend = self._backend
        forced, self._forced = self._forced, False
        if forced or not backend.is_up or backend.is_failing or self._unheard_s >= EVERY_S:
            await self._look(backend)

    def _over(self, _: Any) -> None:
        self._busy = False
        if self._stopped:
            return
        if self._again:
            self._again = False
            pause_s = 0.0
        elif self._backend.is_up and not self._backend.is_failing:
            pause_s = max(EVERY_S - self._unheard_s, JITTER_S) + uniform(0.0, JITTER_S)
        else:
            pause_s = self._backend.retry_s * uniform(0.9, 1.0)
        self._timer = self._clock.callLater(pause_s, self._on_time)

    @property
    def _unheard_s(self) -> float:
        return float(self._clock.seconds() - self._backend.heard_s)

    def _on_time(self) -> None:
        self._timer = None
        self.now()

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
