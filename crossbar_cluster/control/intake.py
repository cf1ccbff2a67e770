"""What a master takes from each of its nodes: so much of each kind in a while. The rest is dropped, counted and told.

A node that floods its master, or whoever has its key, is to cost the others nothing: what is too much costs a look into
a table. Asked in two places: at the master's router (`rights`), which lets through more than is taken here but no
flood, and by the management controller, which does the work and knows whom to tell.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from crossbar_cluster.core.budget import Budgets, Rate
from crossbar_cluster.core.metrics import DROPPED_OF_NODES, METRICS
from crossbar_cluster.core.news import Seldom

TOLD_EACH_S = 60.0
BYTES = "bytes"
#: What the router lets through.
ROUTED: Mapping[str, Rate] = {
    "heartbeats": Rate(100.0, 2000),
    "events": Rate(100.0, 2000),
    "log lines": Rate(1000.0, 20_000),
    "registrations": Rate(100.0, 2000),
    "calls": Rate(100.0, 1000),
    # of all of these: a heartbeat has a few kilobytes, a line a few hundred; no message has more than 1 MiB
    BYTES: Rate(500_000.0, 4 * 2**20),
}
#: What is worked on. A node sends a heartbeat each 10 s, and one for each of its workers.
TAKEN: Mapping[str, Rate] = {
    "heartbeats": Rate(20.0, 500),
    "events": Rate(10.0, 200),
    "registrations": Rate(10.0, 300),
}


class Intake:
    """What nodes (authids) may still send."""

    def __init__(self, rates: Mapping[str, Rate], log: Any) -> None:
        self._rates = rates
        self._budgets = Budgets(dict(rates))
        self._log = log
        self._told = Seldom(TOLD_EACH_S)
        self._dropped_s: dict[tuple[str, str], float] = {}  #: when something of a node, of a kind, was last dropped

    def takes(self, node: str, what: str, now_s: float, number: int = 1) -> bool:
        """Whether to do something with it; else it is dropped. :param what: a key of the rates."""
        if self._budgets.take(node, what, now_s, number):
            return True
        METRICS.count(DROPPED_OF_NODES, what)
        self._dropped_s.pop((node, what), None)
        self._dropped_s[node, what] = now_s
        self._forget(now_s)
        if self._told.due((node, what), now_s):
            self._log.warn(
                "Node {node} sends more {what} than its master takes ({per_s:g} a second): the rest is dropped. No "
                "node does so while all is well: look at it, or unpair it",
                node=node,
                what=what,
                per_s=self._rates[what].per_s,
            )
        return False

    def limited(self, now_s: float) -> Iterator[tuple[str, str]]:
        """Of which nodes something has been dropped lately, and what."""
        self._forget(now_s)
        yield from self._dropped_s

    def tidy(self, now_s: float) -> None:
        """Forget those who have sent little since."""
        self._budgets.tidy(now_s)
        self._told.tidy(now_s)
        self._forget(now_s)

    def _forget(self, now_s: float) -> None:
        while self._dropped_s:  # in the order of their times
            oldest = next(iter(self._dropped_s))
            if now_s - self._dropped_s[oldest] <= TOLD_EACH_S:
                return
            del self._dropped_s[oldest]
