"""Watches this process's own event loop: how late it was, what was running meanwhile, and who is to be told.

Whoever is about to blame somebody else for not answering in time asks here first (`loop_of(reactor).late_s(...)`): it
may be this process that did not listen. Begins with the process (`crossbar_cluster.node.process`), ends with it.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any
from weakref import WeakKeyDictionary

from crossbar_cluster.core.lateness import Lateness
from crossbar_cluster.core.metrics import LOOP_LATE, METRICS
from crossbar_cluster.core.news import Seldom

TICK_S = 0.25
#: A loop that is late by more is worth a line in the log, and a look at what it is doing.
WORTH_TELLING_S = 1.0
TELL_EACH_S = 60.0
#: How often the other thread looks whether the loop turns.
OBSERVE_EACH_S = 0.5
FRAMES = 6  #: innermost ones that are told
UNSEEN = "not seen: this process got no processor time, or was in code that lets no other thread run"


class Loop:
    """The event loop of a reactor.

    :param clock: an IReactorTime.
    """

    def __init__(self, clock: Any) -> None:
        self._clock = clock
        self._lateness = Lateness(TICK_S)
        self._told = Seldom(TELL_EACH_S)
        self._log: Any = None
        self._observer: _Observer | None = None

    def late_s(self, within_s: float) -> float:
        """The greatest lateness of this process's own loop within the last ``within_s``; now is part of it."""
        return self._lateness.late_s(self._clock.seconds(), within_s)

    def watch(self, log: Any, *, observe: bool = True) -> None:
        """Begin to watch, once.

        :param observe: have a thread look at what the loop does when it is late.
        """
        if self._log is not None:
            return
        self._log = log
        METRICS.begin(LOOP_LATE)
        if observe:
            self._observer = _Observer(threading.get_ident())
            self._observer.start()
        self._tick()

    def _tick(self) -> None:
        late_s = self._lateness.ticked(self._clock.seconds())
        METRICS.observe(LOOP_LATE, late_s)
        doing = self._observer.turned() if self._observer is not None else ""
        if late_s > WORTH_TELLING_S and self._told.due("late", self._clock.seconds()):
            self._log.warn(
                "This process did nothing else for {late:.1f} s: its event loop was held up. What was running: {doing}",
                late=late_s,
                doing=doing or UNSEEN,
            )
        self._clock.callLater(TICK_S, self._tick)


class _Observer(threading.Thread):
    """Sees what the loop's thread is doing when it has not turned for a while, once each time.

    :param of: the thread's identity.
    """

    def __init__(self, of: int, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(name="loop-watchdog", daemon=True)
        self._of = of
        self._clock = clock
        self._turned_s = clock()
        self._seen = ""

    def turned(self) -> str:
        """The loop has turned. :returns: what was seen since it has turned last."""
        seen, self._seen, self._turned_s = self._seen, "", self._clock()
        return seen

    def run(self) -> None:
        while True:
            time.sleep(OBSERVE_EACH_S)
            self.look()

    def look(self) -> None:
        """Take down what is running, if the loop is late and that has not been done yet."""
        if not self._seen and self._clock() - self._turned_s > TICK_S + WORTH_TELLING_S:
            frame = sys._current_frames().get(self._of)
            self._seen = _innermost(frame) if frame is not None else ""


def _innermost(frame: FrameType | None) -> str:
    """The innermost functions of a stack, for people: the one that runs comes first."""
    names: list[str] = []
    while frame is not None and len(names) < FRAMES:
        module = str(frame.f_globals.get("__name__", "?"))
        names.append(f"{module}.{frame.f_code.co_qualname}:{frame.f_lineno}")
        frame = frame.f_back
    return ", called by ".join(names)


_loops: WeakKeyDictionary[Any, Loop] = WeakKeyDictionary()


def loop_of(reactor: Any) -> Loop:
    """The loop of a reactor. One that nobody watches was never late."""
    loop = _loops.get(reactor)
    if loop is None:
        loop = _loops[reactor] = Loop(reactor)
    return loop
