"""Clients that wait for something to change: each for what it needs, and for a limited time.

Ends a wait when what it is about has changed, and leaves all others asleep: with thousands that wait, waking everybody
at each look costs more than letting them in.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Any

from twisted.internet.defer import Deferred


class Waiting:
    """:param clock: an IReactorTime."""

    def __init__(self, clock: Any) -> None:
        self._clock = clock
        self._waiting: dict[Hashable, dict[Deferred[None], None]] = {}  #: what for, and who, in the order they came

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    def change(self, of: Hashable, within_s: float) -> Deferred[None]:
        """Fires when it has changed, or after ``within_s``."""
        changed: Deferred[None] = Deferred(lambda _: None)
        timer = self._clock.callLater(within_s, changed.callback, None)
        self._waiting.setdefault(of, {})[changed] = None

        def over(result: Any) -> Any:
            if timer.active():
                timer.cancel()
            waiting = self._waiting.get(of, {})
            waiting.pop(changed, None)
            if not waiting:
                self._waiting.pop(of, None)
            return result

        return changed.addBoth(over)

    def wake(self, of: Iterable[Hashable]) -> None:
        """These have changed."""
        for what in of:
            for changed in list(self._waiting.pop(what, ())):
                if not changed.called:  # it may have left while others were woken
                    changed.callback(None)

    def wake_all(self) -> None:
        self.wake(list(self._waiting))
