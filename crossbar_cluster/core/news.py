"""What an operator has been told: a problem is told once, and again only if it went away meanwhile."""

from __future__ import annotations

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
