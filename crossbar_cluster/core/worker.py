"""What router workers and proxy workers have in common: which worker it is, and the steps that start and stop one.

A plan is a sequence of stages. The strands of a stage can be carried out at the same time; the steps of a strand are
carried out one after the other, and the first that fails ends its strand and nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple
from uuid import UUID

Strand = tuple[Any, ...]
Stage = tuple[Strand, ...]
Plan = tuple[Stage, ...]


class WorkerKey(NamedTuple):
    """Identity of a worker. The address of its node is data, and no part of it."""

    node_oid: UUID
    worker: str


@dataclass(frozen=True)
class StartWorker:
    """Start the worker's process."""

    def __str__(self) -> str:
        return "worker started"


@dataclass(frozen=True)
class StopWorker:
    """End the worker's process."""

    def __str__(self) -> str:
        return "worker stopped"


#: Connections that may wait to be accepted, where workers listen and nothing else is configured: after an outage all
#: clients come at once. (The release has room for 50. The system may allow less: net.core.somaxconn.)
LISTEN_BACKLOG = 1024

START_WORKER: Plan = (((StartWorker(),),),)
STOP_WORKER: Plan = (((StopWorker(),),),)


def plan_of(*stages: Iterable[Iterable[Any]]) -> Plan:
    """The plan of these stages, without strands and stages that have nothing to do."""
    full = (tuple(tuple(strand) for strand in stage) for stage in stages)
    trimmed = (tuple(strand for strand in stage if strand) for stage in full)
    return tuple(stage for stage in trimmed if stage)


def steps_of(plan: Plan) -> tuple[Any, ...]:
    """All steps of a plan, in an order in which they can be carried out."""
    return tuple(step for stage in plan for strand in stage for step in strand)


class Restarts:
    """Slows down the restarts of a worker that dies again and again. The first one is not waited for."""

    STABLE_S = 30.0  #: a life this long is no part of a series
    AT_MOST_S = 10.0

    def __init__(self) -> None:
        self._begun_s = -math.inf
        self._short_lives = 0

    def begun(self, now_s: float) -> None:
        """The worker is started."""
        self._short_lives = self._short_lives + 1 if now_s - self._begun_s < self.STABLE_S else 0
        self._begun_s = now_s

    def wait_s(self, now_s: float) -> float:
        """How long to wait before the worker is started again."""
        if self._short_lives == 0 or now_s - self._begun_s >= self.STABLE_S:
            return 0.0
        delay_s = min(2.0 ** (self._short_lives - 1), self.AT_MOST_S)
        return max(0.0, self._begun_s + delay_s - now_s)


class Grace:
    """Lets what is no longer wanted stay for a while: a removal is due once it has been wanted all that time."""

    def __init__(self, period_s: float) -> None:
        self._period_s = period_s
        self._since: dict[Any, float] = {}

    def due(self, removals: Iterable[Any], now_s: float) -> tuple[frozenset[Any], float | None]:
        """Which of ``removals`` are due, and after how many seconds the next one will be (None: there is none).

        A removal that is not asked for any more is forgotten, and waits anew when it is asked for again.
        """
        self._since = {removal: self._since.get(removal, now_s) for removal in removals}
        left = {removal: since + self._period_s - now_s for removal, since in self._since.items()}
        waits = [wait for wait in left.values() if wait > 0]
        return frozenset(r for r, wait in left.items() if wait <= 0), min(waits, default=None)
