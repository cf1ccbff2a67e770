"""A loop that cannot die: runs when something changed, again soon after a failure, and now and then anyway.

Owns the *when* of one reconciler; what is done is the reconciler's. Triggered by `mark` and by the sweep.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from enum import Enum
from random import random
from typing import Any

from twisted.application.internet import backoffPolicy
from twisted.internet.defer import Deferred

SWEEP_S = 10.0
RETRY_AT_MOST_S = 5.0
_RETRY = backoffPolicy(initialDelay=0.05, maxDelay=RETRY_AT_MOST_S, factor=1.7, jitter=lambda: random() * 0.02)


class Outcome(Enum):
    """How a pass ended."""

    CONVERGED = "converged"  #: observed is what is desired
    PROGRESSED = "progressed"  #: not there yet, but nearer than before
    WAITING = "waiting"  #: not there, and nothing could be done now


class ReconcileLoop:
    """Runs ``reconcile`` one pass at a time, never two at once.

    :param reconcile: one pass. What it raises counts as `Outcome.WAITING` and goes to ``failed``.
    :param reactor: an ``IReactorTime``.
    :param failed: told of each exception. Its own exceptions are dropped: a log that fails must not end the loop.
    :param sweep_s: seconds after which a converged reconciler looks again although nothing was marked.
    """

    def __init__(
        self,
        reconcile: Callable[[], Awaitable[Outcome]],
        reactor: Any,
        failed: Callable[[Exception], None],
        sweep_s: float = SWEEP_S,
    ) -> None:
        self._reconcile = reconcile
        self._reactor = reactor
        self._failed = failed
        self._sweep_s = sweep_s
        self._marks = 0
        self._fruitless = 0
        self._progressed = 0
        self._busy = False
        self._next: Any = None
        self.running = False

    def start(self) -> None:
        """Start with a first pass, soon."""
        self.running = True
        self.mark()

    def stop(self) -> None:
        """No further pass; one under way runs to its end."""
        self.running = False
        self._cancel()

    def mark(self) -> None:
        """Something may have changed: look now, or right after the pass under way."""
        self._marks += 1
        self._fruitless = self._progressed = 0
        if self.running and not self._busy:
            self._after(0.0)

    def progressed(self) -> None:
        """A part of an earlier pass has got on: look soon. Unlike a mark it does not make failures forgotten."""
        self._marks += 1
        self._progressed += 1
        self._fruitless = self._progressed // 5
        if self.running and not self._busy:
            self._after(_RETRY(self._fruitless))

    def _after(self, delay_s: float) -> None:
        self._cancel()
        self._next = self._reactor.callLater(delay_s, self._pass)

    def _cancel(self) -> None:
        if self._next is not None and self._next.active():
            self._next.cancel()
        self._next = None

    def _pass(self) -> None:
        self._busy = True
        marks = self._marks
        Deferred.fromCoroutine(self._guarded()).addBoth(self._passed, marks)

    async def _guarded(self) -> Outcome:
        try:
            return await self._reconcile()
        except Exception as e:
            with suppress(Exception):
                self._failed(e)
            return Outcome.WAITING

    def _passed(self, outcome: object, marks: int) -> None:
        self._busy = False
        if not self.running:
            return
        if self._marks != marks:
            # Race: a mark during the pass may tell of something the pass had already looked at. The counter cannot
            # lose it: it is read before the pass and compared here, in the reactor's one thread.
            self._after(0.0)
        elif outcome is Outcome.CONVERGED:
            self._fruitless = self._progressed = 0
            self._after(self._sweep_s)
        elif outcome is Outcome.PROGRESSED:
            # the next pass soon; but progress without end is a step that has no effect, and slows down as well
            self._progressed += 1
            self._fruitless = self._progressed // 5
            self._after(_RETRY(self._fruitless))
        else:
            self._fruitless += 1
            self._after(_RETRY(self._fruitless))
