"""What somebody has been told: a problem once, and again only if it went away meanwhile; or anything now and then."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable


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
    """

    def __init__(self, each_s: float) -> None:
        self._each_s = each_s
        self._told_s: dict[Hashable, float] = {}

    def due(self, what: Hashable, now_s: float) -> bool:
        """Whether it is to be told now; then it counts as told."""
        if now_s - self._told_s.get(what, -math.inf) < self._each_s:
            return False
        self._told_s[what] = now_s
        return True

    def __len__(self) -> int:
        return len(self._told_s)

    def forget(self) -> bool:
        """Begin anew. :returns: whether anything had been told."""
        told = bool(self._told_s)
        self._told_s.clear()
        return told
