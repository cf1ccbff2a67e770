"""How much somebody may ask for in a while: a rate, and so much at once. Plain arithmetic; time is an argument."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass


@dataclass(frozen=True)
class Rate:
    """So many a second for as long as one likes, and so many at once."""

    per_s: float
    at_once: int


class Budget:
    """What is left of a rate: full at first, and filled again while nothing is taken."""

    __slots__ = ("_at_s", "_left", "_rate")

    def __init__(self, rate: Rate, now_s: float) -> None:
        self._rate = rate
        self._left = float(rate.at_once)
        self._at_s = now_s

    def take(self, now_s: float, number: int = 1) -> bool:
        """Whether there are so many left; then they are taken."""
        self._refill(now_s)
        if self._left < number:
            return False
        self._left -= number
        return True

    def wait_s(self, now_s: float) -> float:
        """After how many seconds there is one to be taken; 0: now."""
        self._refill(now_s)
        return max(0.0, (1.0 - self._left) / self._rate.per_s)

    def is_full(self, now_s: float) -> bool:
        """Whether it is as if nothing had ever been taken."""
        self._refill(now_s)
        return self._left >= self._rate.at_once

    def _refill(self, now_s: float) -> None:
        if now_s > self._at_s:
            self._left = min(float(self._rate.at_once), self._left + (now_s - self._at_s) * self._rate.per_s)
            self._at_s = now_s


class Budgets:
    """A budget for each of many. Whose is full again is forgotten, once there are many.

    :param rates: by what it is that they ask for.
    :param at_most: budgets that are kept. Beyond it the one that has not been asked for for the longest time goes.
    """

    def __init__(self, rates: dict[str, Rate], at_most: int = 10_000) -> None:
        self._rates = rates
        self._at_most = at_most
        self._budgets: dict[tuple[Hashable, str], Budget] = {}

    def __len__(self) -> int:
        return len(self._budgets)

    def take(self, who: Hashable, what: str, now_s: float, number: int = 1) -> bool:
        """Whether there are so many left of theirs; then they are taken."""
        key = (who, what)
        budget = self._budgets.pop(key, None)
        if budget is None:
            budget = Budget(self._rates[what], now_s)
            self._make_room(now_s)
        self._budgets[key] = budget  # last: it is the one that was asked for most recently
        return budget.take(now_s, number)

    def tidy(self, now_s: float) -> None:
        """Forget those that are full."""
        self._budgets = {key: budget for key, budget in self._budgets.items() if not budget.is_full(now_s)}

    def _make_room(self, now_s: float) -> None:
        # two for each that is added, so that those which are full again go sooner or later, at a constant cost
        for key in list(_first(self._budgets, 2)):
            if self._budgets[key].is_full(now_s) or len(self._budgets) >= self._at_most:
                del self._budgets[key]


def _first(budgets: dict[tuple[Hashable, str], Budget], number: int) -> list[tuple[Hashable, str]]:
    return [key for key, _ in zip(budgets, range(number), strict=False)]
