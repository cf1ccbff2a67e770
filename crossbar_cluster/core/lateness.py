"""How late an event loop has been, from ticks that are due at a fixed pace. Pure; time is an argument.

A tick that comes late says that nothing else could be done for so long: no timer, no answer, no connection.
"""

from __future__ import annotations

from collections import deque

#: Less is what any busy loop has.
WORTH_KEEPING_S = 0.05


class Lateness:
    """:param each_s: the pace of the ticks. :param keep: how many times that it was late are remembered at most."""

    def __init__(self, each_s: float, keep: int = 256) -> None:
        self.each_s = each_s
        self._due_s: float | None = None
        self._late: deque[tuple[float, float]] = deque(maxlen=keep)  #: until when, and by how much

    def ticked(self, now_s: float) -> float:
        """:returns: how late the tick was."""
        late_s = self.overdue_s(now_s)
        self._due_s = now_s + self.each_s
        if late_s >= WORTH_KEEPING_S:
            self._late.append((now_s, late_s))
        return late_s

    def overdue_s(self, now_s: float) -> float:
        """How late the tick that is due now is; 0: it is not, or there are none."""
        return max(0.0, now_s - self._due_s) if self._due_s is not None else 0.0

    def late_s(self, now_s: float, within_s: float) -> float:
        """The greatest lateness of which a part lies within the last ``within_s``."""
        past = (late_s for until_s, late_s in self._late if until_s >= now_s - within_s)
        return max(self.overdue_s(now_s), *past, 0.0)
