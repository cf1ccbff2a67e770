"""What becomes of many clients that are to stay joined: who is, who was lost and for how long, and who was refused.

Plain bookkeeping for the command ``crossbar-cluster clients``, which tells it what happens, and when (monotonic
seconds). It makes no difference here what a client is; they are numbered from 0.

Words: a client *is lost* when its session ends, and *is back* when it has joined again. Each attempt to join that
leads nowhere is one of two things: the proxy *was away* (nobody answers there: that is what the other proxies are
for), or the join *failed* (somebody does answer, and does not let the client in).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

#: Losses are told together once nobody has been lost, and everybody has been back, for this long.
QUIET_S = 0.3
#: Clients that are not back after this long are told of while they are away, and then each time as much later.
STILL_AWAY_S = 5.0


@dataclass(frozen=True)
class Where:
    """What a client is on: the URL that it has joined at, and the name of the router node (empty: it is not told)."""

    url: str
    router: str = ""

    def __str__(self) -> str:
        return f"{self.url} ({self.router})" if self.router else self.url


@dataclass
class Episode:
    """A time in which clients are away, from the first loss until all are back."""

    lost: Counter[tuple[Where, str]] = field(default_factory=Counter)  #: by where they were, and why
    back_s: list[float] = field(default_factory=list)  #: how long each of those that are back was away
    last: float = 0.0  #: monotonic seconds: when anybody was lost, or back, for the last time
    told: float = 0.0  #: when it was last told of


class Tally:
    """The clients, by what is known of them.

    :param count: how many there are.
    :param now: monotonic seconds, as everywhere in this class.
    """

    def __init__(self, count: int, now: float) -> None:
        self.count = count
        self.began = now
        self.joins = 0
        self.losses = 0
        self.failures: Counter[tuple[str, str]] = Counter()  #: failed joins, by URL and reason
        self.away: Counter[str] = Counter()  #: attempts that found nobody, by URL
        self.answered = 0  #: calls
        self.unanswered = 0
        self.slowest_s: float | None = None  #: the longest time from a loss to the next join
        self.given_up: dict[int, str] = {}  #: clients that do not try any more, and why
        self._on: dict[int, Where] = {}
        self._used: set[str] = set()
        self._lost_at: dict[int, float] = {}
        self._all_joined = False
        self._beginning_told = now
        self._episode: Episode | None = None
        self._untold: Counter[tuple[str, str]] = Counter()
        self._failures_told: float | None = None
        self._last_problem = ""

    @property
    def joined(self) -> int:
        """How many are joined now."""
        return len(self._on)

    @property
    def good(self) -> bool:
        """Whether no join has failed, each call was answered, and all are joined."""
        return not self.failures and not self.unanswered and self.joined == self.count

    def is_joined(self, client: int) -> bool:
        return client in self._on

    def has_joined(self, client: int, where: Where, now: float) -> float | None:
        """:returns: how long the client was away, seconds; None: it joins for the first time."""
        self.joins += 1
        self._on[client] = where
        self._used.add(where.url)
        lost_at = self._lost_at.pop(client, None)
        if lost_at is None:
            return None
        took_s = now - lost_at
        self.slowest_s = max(took_s, self.slowest_s or 0.0)
        if self._episode is not None:
            self._episode.back_s.append(took_s)
            self._episode.last = now
        return took_s

    def is_lost(self, client: int, reason: str, now: float) -> Where | None:
        """:returns: what the client was on; None: it was not joined, so that it is not lost either."""
        where = self._on.pop(client, None)
        if where is None:
            return None
        self.losses += 1
        self._lost_at[client] = now
        if self._episode is None:
            self._episode = Episode(told=now)
        self._episode.lost[where, reason] += 1
        self._episode.last = now
        return where

    def has_failed(self, url: str, reason: str) -> None:
        """An attempt to join was answered, but the client is not let in."""
        self.failures[url, reason] += 1
        self._untold[url, reason] += 1
        self._last_problem = f"{url}: {reason}"

    def was_away(self, url: str, reason: str) -> None:
        """An attempt to join has found nobody."""
        self.away[url] += 1
        self._last_problem = f"{url}: {reason}"

    def gives_up(self, client: int, reason: str) -> None:
        """A client does not try any more, without having been told to."""
        self.given_up[client] = reason

    def news(self, now: float) -> list[str]:
        """What there is to tell people of by now, a line each. To be asked several times a second."""
        return [*self._news_of_failures(now), *self._news_of_beginning(now), *self._news_of_losses(now)]

    def summary(self, now: float) -> dict[str, Any]:
        """All that has been counted, for JSON. Times are seconds."""
        return {
            "seconds": round(now - self.began, 3),
            "clients": self.count,
            "joined": self.joined,
            "joins": self.joins,
            "losses": self.losses,
            "slowest_return_s": None if self.slowest_s is None else round(self.slowest_s, 3),
            "failed_joins": self.failures.total(),
            "failures": [{"proxy": url, "reason": why, "count": n} for (url, why), n in self.failures.items()],
            "away": dict(self.away),
            "calls": self.answered,
            "calls_unanswered": self.unanswered,
            "given_up": {str(client): reason for client, reason in self.given_up.items()},
            "good": self.good,
        }

    def summary_line(self, now: float) -> str:
        """The same for people."""
        losses = f"{self.losses} {_plural('loss', self.losses)}"
        if self.slowest_s is not None:
            losses += f", back after {_seconds(self.slowest_s)} at most"
        failed = self.failures.total()
        calls = f"{self.answered} {_plural('call', self.answered)} answered"
        if self.unanswered:
            calls += f", {self.unanswered} not"
        parts = [f"{self.joined} of {self.count} clients are joined after {now - self.began:.0f} s", losses]
        parts.append(f"{failed or 'no'} failed {_plural('join', failed or 2)}")
        if self.given_up:
            parts.append(f"{len(self.given_up)} given up ({next(iter(self.given_up.values()))})")
        return "; ".join([*parts, calls])

    def _news_of_failures(self, now: float) -> list[str]:
        if not self._untold or (self._failures_told is not None and now - self._failures_told < STILL_AWAY_S):
            return []
        lines = [f"refused by {url}: {reason}{_times(n)}" for (url, reason), n in self._untold.items()]
        self._untold.clear()
        self._failures_told = now
        return lines

    def _news_of_beginning(self, now: float) -> list[str]:
        if self._all_joined:
            return []
        if self.joined + len(self._lost_at) < self.count:
            if now - self._beginning_told < STILL_AWAY_S:
                return []
            self._beginning_told = now
            first = self.joined + len(self._lost_at)
            return [f"{first} of {self.count} clients have joined after {now - self.began:.0f} s{self._why()}"]
        self._all_joined = True
        proxies = len(self._used)
        return [
            f"{self.count} {_plural('client', self.count)} joined at {proxies} {_plural('proxy', proxies)} "
            f"within {_seconds(now - self.began)}"
        ]

    def _news_of_losses(self, now: float) -> list[str]:
        episode = self._episode
        if episode is None:
            return []
        if not self._lost_at:
            if now - episode.last < QUIET_S:
                return []
            self._episode = None
            fastest, slowest = _seconds(min(episode.back_s)), _seconds(max(episode.back_s))
            span = slowest if fastest == slowest else f"{fastest.removesuffix(' s')} to {slowest}"
            return [*_lost(episode), f"  all back after {span}"]
        if now - episode.told < STILL_AWAY_S:
            return []
        episode.told = now
        longest = now - min(self._lost_at.values())
        return [*_lost(episode), f"  {len(self._lost_at)} not back after {longest:.0f} s{self._why()}"]

    def _why(self) -> str:
        return f" ({self._last_problem})" if self._last_problem else ""


def _lost(episode: Episode) -> list[str]:
    return [f"{n} {_plural('client', n)} lost at {where}: {why}" for (where, why), n in episode.lost.items()]


def _seconds(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.0f} s"


def _times(n: int) -> str:
    return f" ({n} times)" if n > 1 else ""


_PLURALS = {"loss": "losses", "proxy": "proxies"}


def _plural(word: str, n: int) -> str:
    return word if n == 1 else _PLURALS.get(word, word + "s")
