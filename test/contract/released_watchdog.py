"""A process that knows when its own event loop was late, and what was running."""

import threading

from twisted.internet.task import Clock

from crossbar_cluster.core.metrics import LOOP_LATE, METRICS
from crossbar_cluster.node.watchdog import (
    OBSERVE_EACH_S,
    TELL_EACH_S,
    TICK_S,
    UNSEEN,
    WORTH_TELLING_S,
    _Observer,
    loop_of,
)


class Log:
    def __init__(self):
        self.lines = []

    def warn(self, text, **values):
        self.lines.append(text.format(**values))


def watched():
    clock, log = Clock(), Log()
    loop_of(clock).watch(log, observe=False)
    return clock, loop_of(clock), log


def turns(clock, seconds):
    clock.pump([TICK_S] * round(seconds / TICK_S))


def test_a_loop_that_turns_is_not_late_and_says_nothing():
    clock, loop, log = watched()
    turns(clock, 100)
    assert loop.late_s(100) == 0.0 and not log.lines
    assert loop_of(Clock()).late_s(10) == 0.0, "one that nobody watches never was"


def test_a_late_one_says_so_at_most_once_a_minute():
    clock, loop, log = watched()
    for _ in range(20):
        clock.advance(TICK_S + 3.0)
        turns(clock, 1.0)
    assert loop.late_s(1.5) == 3.0
    assert len(log.lines) == 2, "in 85 s"
    assert "3.0 s" in log.lines[0] and UNSEEN in log.lines[0]
    turns(clock, TELL_EACH_S)
    assert loop.late_s(TELL_EACH_S - 5) == 0.0
    clock.advance(TICK_S + WORTH_TELLING_S / 2)
    assert len(log.lines) == 2, "less is what any busy loop has"


def test_it_is_counted():
    clock, _, _ = watched()

    def late_by_more_than_2_5_s():
        [[_, counts]] = METRICS.collect()[LOOP_LATE.name]
        return sum(counts[LOOP_LATE.buckets.index(2.5) + 1 : -1])

    before = late_by_more_than_2_5_s()
    clock.advance(4.0)
    assert late_by_more_than_2_5_s() == before + 1


def test_what_runs_while_it_is_late_is_seen_once_each_time():
    entered, leave, now = threading.Event(), threading.Event(), [0.0]

    def something_that_takes_long():
        entered.set()
        leave.wait(10)

    thread = threading.Thread(target=something_that_takes_long)
    thread.start()
    entered.wait(10)
    observer = _Observer(thread.ident, clock=lambda: now[0])
    try:
        now[0] = 1.0
        observer.look()
        assert observer.turned() == "", "not late yet"
        now[0] += TICK_S + WORTH_TELLING_S + OBSERVE_EACH_S
        observer.look()
        seen = observer._seen
        assert "something_that_takes_long" in seen
        observer.look()
        assert observer._seen is seen, "once each time"
        assert observer.turned() == seen
        assert observer.turned() == ""
    finally:
        leave.set()
        thread.join()


def test_the_thread_ends_with_the_process():
    assert _Observer(0).daemon
