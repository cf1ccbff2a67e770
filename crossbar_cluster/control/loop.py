"""A loop that cannot die: runs when something changed, again soon after a failure, and never without need.

Owns the *when* of one reconciler; what is done is the reconciler's. Triggered by `mark` and by what a pass says about
the next one.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from random import uniform
from typing import Any

from twisted.application.internet import backoffPolicy
from twisted.internet.defer import Deferred

from crossbar_cluster.core.budget import Budget, Rate
from crossbar_cluster.core.metrics import METRICS, PASS_DURATION, PASSES

RETRY_AT_MOST_S = 5.0
#: Marks that wait for quiet are acted on after this time, quiet or not.
COALESCE_AT_MOST_S = 1.0
#: So many passes in a row may change something before the loop slows down: more is a step that has no effect.
CHANGES_AT_ONCE = 6
#: Passes of a loop, whoever marks it: so many at once, and so many a second.
PASSES_AT_MOST = Rate(2.0, 60)
_BACKOFF = backoffPolicy(initialDelay=0.05, maxDelay=RETRY_AT_MOST_S / 1.2, factor=1.7, jitter=lambda: 0.0)


def _delay_s(fruitless: int) -> float:
    """How long to wait after so many passes without success: more each time, and not all loops in step."""
    return float(_BACKOFF(fruitless - 1)) * uniform(0.8, 1.2) if fruitless else 0.0


class State(Enum):
    """How a pass ended."""

    CONVERGED = "converged"  #: observed is what is desired
    CHANGED = "changed"  #: nearer than before: look again
    WAITING = "waiting"  #: for something that is expected to come by itself
    FAILED = "failed"  #: tried, and refused


@dataclass(frozen=True)
class Outcome:
    """What came of a pass."""

    state: State
    reason: str = ""
    again_s: float | None = None
    #: seconds until the next pass; `math.inf`: not before a mark. None: at once after a change, after a growing delay
    #: while waiting or failed, and not before a mark when converged


CONVERGED = Outcome(State.CONVERGED)
CHANGED = Outcome(State.CHANGED)


class ReconcileLoop:
    """Runs ``reconcile`` one pass at a time, never two at once.

    :param reconcile: one pass. What it raises counts as `State.FAILED` and goes to ``failed``.
    :param reactor: an ``IReactorTime``.
    :param failed: told of each exception. Its own exceptions are dropped: a log that fails must not end the loop.
    :param kind: of what is reconciled, for metrics.
    """

    def __init__(
        self,
        reconcile: Callable[[], Awaitable[Outcome]],
        reactor: Any,
        failed: Callable[[Exception], None],
        kind: str = "",
    ) -> None:
        self._kind = kind
        self._reconcile = reconcile
        self._reactor = reactor
        self._failed = failed
        self._marks = 0
        self._answered = 0  #: marks that a pass which began after them has ended for
        self._first_mark_s: float | None = None  #: when the first mark came that no pass has begun after
        self._fruitless = 0
        self._changes = 0
        self._busy = False
        self._next: Any = None
        self._budget = Budget(PASSES_AT_MOST, reactor.seconds())
        self.running = False
        self.passes = 0
        self.began_s = reactor.seconds()  #: when the last pass has begun, in the reactor's time

    @property
    def up_to_date(self) -> bool:
        """Whether the last pass began after the last mark, and has ended."""
        return self._answered == self._marks and not self._busy

    def start(self) -> None:
        """Start with a first pass, soon."""
        self.running = True
        self.mark()

    def stop(self) -> None:
        """No further pass; one under way runs to its end."""
        self.running = False
        self._cancel()

    def mark(self, quiet_s: float = 0.0, *, is_news: bool = True) -> None:
        """Something may have changed: look now, or right after the pass under way.

        :param quiet_s: wait until there was no mark for that long, so that a burst of them is one pass.
        :param is_news: whether what failed before may succeed now. If not, the delay before a retry stands.
        """
        if not is_news and self._fruitless and self._next is not None and self._next.active():
            return
        self._marks += 1
        self._fruitless = self._changes = 0
        now = self._reactor.seconds()
        if self._first_mark_s is None:
            self._first_mark_s = now
        if self.running and not self._busy:
            self._after(min(quiet_s, max(0.0, self._first_mark_s + COALESCE_AT_MOST_S - now)))

    def _after(self, delay_s: float) -> None:
        self._cancel()
        if delay_s != math.inf:
            delay_s = max(delay_s, self._budget.wait_s(self._reactor.seconds()))
            self._next = self._reactor.callLater(delay_s, self._pass)

    def _cancel(self) -> None:
        if self._next is not None and self._next.active():
            self._next.cancel()
        self._next = None

    def _pass(self) -> None:
        self._busy = True
        self._budget.take(self._reactor.seconds())
        self.passes += 1
        self.began_s = self._reactor.seconds()
        self._first_mark_s = None
        marks = self._marks
        Deferred.fromCoroutine(self._guarded()).addBoth(self._passed, marks)

    async def _guarded(self) -> Outcome:
        try:
            return await self._reconcile()
        except Exception as e:
            with suppress(Exception):
                self._failed(e)
            return Outcome(State.FAILED, repr(e))

    def _passed(self, outcome: Any, marks: int) -> None:
        self._busy = False
        self._answered = marks
        if not isinstance(outcome, Outcome):  # a pass that was cancelled
            outcome = Outcome(State.FAILED)
        METRICS.count(PASSES, self._kind, outcome.state.value)
        METRICS.observe(PASS_DURATION, self._reactor.seconds() - self.began_s, self._kind)
        if not self.running:
            return
        self._count(outcome.state)
        if self._marks != marks:
            # Race: a mark during the pass may tell of something the pass had already looked at. The counter cannot
            # lose it: it is read before the pass and compared here, in the reactor's one thread.
            self._after(0.0)
        elif outcome.again_s is not None:
            self._after(outcome.again_s)
        elif outcome.state is State.CONVERGED:
            self._after(math.inf)
        else:
            self._after(_delay_s(self._fruitless))

    def _count(self, state: State) -> None:
        """Count passes without success, from which the delay before the next one grows."""
        if state is State.CONVERGED:
            self._fruitless = self._changes = 0
        elif state is State.CHANGED:
            self._changes += 1
            self._fruitless = self._changes // CHANGES_AT_ONCE
        else:
            self._fruitless += 1
