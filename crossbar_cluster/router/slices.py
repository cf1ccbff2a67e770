"""Work that is in proportion to what clients have, done in slices: between two of them the reactor has its turn.

One `Slices` belongs to each router. So a client that has a hundred thousand subscriptions, and leaves, holds nobody up:
other clients are answered meanwhile, pings of links and looks of proxies among them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from time import perf_counter
from typing import Any

#: How long a slice may take, and how many items there are in it at most.
SLICE_S = 0.004
SLICE_ITEMS = 100
#: Small things that wait for their turn. Where more come than are done, the oldest are done at once.
MOST_CALLS = 10_000

Job = Iterator[Any]  # does a small part of its work each time it is advanced


class Slices:
    """:param reactor: of the process. :param failed: told of an exception of something that was done."""

    def __init__(self, reactor: Any, failed: Callable[[Exception], None]) -> None:
        self._reactor = reactor
        self._failed = failed
        self._jobs: deque[Job] = deque()  # in turn
        self._calls: deque[tuple[Callable[..., Any], tuple[Any, ...]]] = deque()
        self._next: Any = None

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits."""
        return not self._jobs and not self._calls

    def run(self, job: Job) -> None:
        """Do a job: its first slice at once, unless others wait."""
        self._jobs.append(job)
        if self._next is None:
            self._slice(calls=False)  # what has happened is told when whoever has made it happen is done

    def finish(self, job: Job) -> None:
        """Do all that is left of a job now."""
        if job in self._jobs:
            self._jobs.remove(job)
        while self._advance(job):
            pass

    def callLater(self, delay_s: float, call: Callable[..., Any], *args: Any) -> None:
        """Call it soon, after all that has been given before.

        Named as a reactor has it: the release's broker and dealer take this for theirs, and have no other use for one
        than the meta events of what has changed.
        """
        self._calls.append((call, args))
        while len(self._calls) > MOST_CALLS:
            self._call()
        self._go_on()

    def _go_on(self) -> None:
        if self._next is None and not self.is_idle:
            self._next = self._reactor.callLater(0, self._turn)

    def _turn(self) -> None:
        self._next = None
        self._slice(calls=True)

    def _slice(self, calls: bool) -> None:
        until_s = perf_counter() + SLICE_S
        for _ in range(SLICE_ITEMS):
            if calls and self._calls:
                self._call()
            if self._jobs and self._advance(job := self._jobs.popleft()):
                self._jobs.append(job)
            if self.is_idle or perf_counter() >= until_s:
                break
        self._go_on()

    def _call(self) -> None:
        call, args = self._calls.popleft()
        try:
            call(*args)
        except Exception as e:
            self._failed(e)

    def _advance(self, job: Job) -> bool:
        """:returns: whether there is more of it."""
        try:
            next(job)
        except StopIteration:
            return False
        except Exception as e:  # it is over: whoever writes one sees to what can fail in it
            self._failed(e)
            return False
        return True
