"""The loop that runs a reconciler: it never ends, never overlaps, and loses no mark."""

import math
from collections.abc import Callable

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from crossbar_cluster.control.loop import CHANGED, CONVERGED, Outcome, ReconcileLoop, State

WAITING = Outcome(State.WAITING)
FAILED = Outcome(State.FAILED, "refused")


class Passes:
    """A reconciler whose passes end when the test says so, or at once with ``outcome``."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.count = 0
        self.outcome: Outcome | Exception | None = CONVERGED
        self.pending: Deferred[Outcome] | None = None
        self.errors: list[Exception] = []
        self.during: Callable[[], None] = lambda: None
        self.loop = ReconcileLoop(self.reconcile, self.clock, self.errors.append)

    async def reconcile(self) -> Outcome:
        self.count += 1
        self.during()
        if isinstance(self.outcome, Exception):
            raise self.outcome
        if self.outcome is None:
            self.pending = Deferred()
            return await self.pending
        return self.outcome

    def passes_in(self, seconds: float) -> int:
        before = self.count
        for _ in range(int(seconds * 100)):
            self.clock.advance(0.01)
        return self.count - before


@pytest.fixture
def passes() -> Passes:
    return Passes()


def test_the_first_pass_comes_with_the_start(passes: Passes) -> None:
    passes.loop.start()
    assert passes.count == 0, "not within the caller"
    passes.clock.advance(0)
    assert passes.count == 1


@pytest.mark.parametrize("outcome", [CONVERGED, Outcome(State.WAITING, "its node is away", math.inf)])
def test_without_a_mark_nothing_is_done_again(passes: Passes, outcome: Outcome) -> None:
    passes.outcome = outcome
    passes.loop.start()
    passes.clock.advance(0)
    assert passes.passes_in(1000) == 0
    assert not passes.clock.getDelayedCalls(), "it costs nothing while nothing changes"
    passes.loop.mark()
    assert passes.passes_in(1) == 1


def test_a_pass_can_say_when_the_next_one_is_due(passes: Passes) -> None:
    passes.outcome = Outcome(State.CONVERGED, again_s=60.0)
    passes.loop.start()
    assert passes.passes_in(301) == 6


def test_a_burst_of_marks_is_one_pass_when_it_is_over(passes: Passes) -> None:
    passes.loop.start()
    passes.clock.advance(0)
    for _ in range(5):
        passes.loop.mark(quiet_s=0.1)
        assert passes.passes_in(0.05) == 0
    assert passes.passes_in(0.2) == 1


def test_a_burst_without_end_is_not_waited_for(passes: Passes) -> None:
    passes.loop.start()
    passes.clock.advance(0)
    for _ in range(30):  # 1.5 s
        passes.loop.mark(quiet_s=0.1)
        passes.clock.advance(0.05)
    assert passes.count == 2


def test_a_mark_that_does_not_wait_overtakes_one_that_does(passes: Passes) -> None:
    passes.loop.start()
    passes.clock.advance(0)
    passes.loop.mark(quiet_s=0.5)
    passes.loop.mark()
    passes.clock.advance(0)
    assert passes.count == 2


def test_whether_the_last_pass_knew_of_the_last_mark(passes: Passes) -> None:
    passes.outcome = None
    passes.loop.start()
    passes.clock.advance(0)
    assert not passes.loop.up_to_date, "a pass is under way"
    passes.loop.mark()
    assert passes.pending is not None
    passes.pending.callback(CONVERGED)
    assert not passes.loop.up_to_date, "the mark came after the pass had begun"
    passes.clock.advance(0)
    passes.pending.callback(CONVERGED)
    assert passes.loop.up_to_date


def test_a_mark_acts_at_once(passes: Passes) -> None:
    passes.loop.start()
    passes.clock.advance(0)
    passes.loop.mark()
    passes.clock.advance(0)
    assert passes.count == 2


def test_marks_that_come_together_make_one_pass(passes: Passes) -> None:
    passes.loop.start()
    for _ in range(50):
        passes.loop.mark()
    passes.clock.advance(0)
    assert passes.count == 1


@pytest.mark.parametrize("outcome", [WAITING, FAILED, ValueError("anything"), KeyError()])
def test_failures_slow_down_and_never_stop(passes: Passes, outcome: Outcome | Exception) -> None:
    passes.outcome = outcome
    passes.loop.start()
    assert passes.passes_in(1) >= 4, "a node on its way up is looked for often"
    assert 1 <= passes.passes_in(100) <= 40, "a node that stays away is looked for now and then"
    assert passes.passes_in(1000) >= 90
    assert len(passes.errors) == (passes.count if isinstance(outcome, Exception) else 0)


def test_progress_is_followed_up_soon(passes: Passes) -> None:
    passes.outcome = CHANGED
    passes.loop.start()
    assert passes.passes_in(0.1) >= 5


def test_progress_without_end_slows_down_too(passes: Passes) -> None:
    passes.outcome = CHANGED
    passes.loop.start()
    passes.passes_in(200)
    assert passes.passes_in(100) <= 40


def test_a_mark_ends_a_long_wait(passes: Passes) -> None:
    passes.outcome = WAITING
    passes.loop.start()
    passes.passes_in(200)
    passes.loop.mark()
    assert passes.passes_in(1) >= 4


def test_passes_never_overlap_and_a_mark_during_one_is_not_lost(passes: Passes) -> None:
    passes.outcome = None
    passes.loop.start()
    passes.clock.advance(0)
    for _ in range(3):
        passes.loop.mark()
        assert passes.passes_in(60) == 0
    assert passes.pending is not None
    passes.pending.callback(CONVERGED)
    passes.clock.advance(0)
    assert passes.count == 2


def test_a_mark_at_the_very_beginning_of_a_pass_is_not_lost(passes: Passes) -> None:
    def mark_once() -> None:
        passes.during = lambda: None
        passes.loop.mark()

    passes.during = mark_once
    passes.loop.start()
    passes.clock.advance(0)
    passes.clock.advance(0)
    assert passes.count == 2


def test_a_log_that_fails_does_not_end_the_loop(passes: Passes) -> None:
    def broken(error: Exception) -> None:
        raise OSError("disk full")

    passes.outcome = ValueError("anything")
    passes.loop = ReconcileLoop(passes.reconcile, passes.clock, broken)
    passes.loop.start()
    assert passes.passes_in(100) > 5


def test_a_stopped_loop_is_silent_even_when_marked_or_busy(passes: Passes) -> None:
    passes.outcome = None
    passes.loop.start()
    passes.clock.advance(0)
    passes.loop.stop()
    passes.loop.mark()
    assert passes.pending is not None
    passes.pending.callback(WAITING)
    assert passes.passes_in(100) == 0
    assert not passes.clock.getDelayedCalls()
