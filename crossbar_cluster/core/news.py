"""What somebody has been told: a problem once, and again only if it went away meanwhile; or anything now and then."""

from __future__ import annotations

from collections.abc import Hashable, Iterable

#: Things that `Seldom` remembers. Whoever can think of more makes the oldest be told again.
REMEMBERED_AT_MOST = 1000


class News:
    """Filters problems down to those that are news."""

    def __init__(self) -> None:
        self._told: set[Hashable] = set()

    def of(self, problems: Iterable[str]) -> list[str]:
        """Those of ``problems``, the ones there are now, that have not been told."""
        now = set(problems)
        news = sorted(now - self._told)
        self._told = set(now)
        return news


class Seldom:
    """Lets the same thing be told at most once in a while.

    :param each_s: how long a while is.
    :param at_most: things that are remembered.
    """

    def __init__(self, each_s: float, at_most: int = REMEMBERED_AT_MOST) -> None:
        self._each_s = each_s
        self._at_most = at_most
        self._told_s: dict[Hashable, float] = {}  #: in the order in which they were told

    def __len__(self) -> int:
        return len(self._told_s)

    def due(self, what: Hashable, now_s: float) -> bool:
        """Whether it is to be told now; then it counts as told."""
        self.tidy(now_s)
        if what in self._told_s:
            return False
        if len(self._told_s) >= self._at_most:
            del self._told_s[next(iter(self._told_s))]
        self._told_s[what] = now_s
        return True

    def tidy(self, now_s: float) -> None:
        """Forget what may be told again. (`due` does as well: for those who are not asked any more.)"""
        while self._told_s:
            oldest = next(iter(self._told_s))
            if now_s - self._told_s[oldest] < self._each_s:
                return
            del self._told_s[oldest]

    def forget(self) -> bool:
        """Begin anew. :returns: whether anything had been told."""
        told = bool(self._told_s)
        self._told_s.clear()
        return told
