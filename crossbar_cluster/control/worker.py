"""Keeps one worker of the cluster as it is configured. The routers' and the proxies' are built on it.

Triggered by its loop: its node has joined, what is desired of it has changed, a sweep. One pass: observe the worker,
plan, carry the plan out. What goes wrong at it is tried again by its own loop, and is no other worker's business. Ends
where the node's own procedures begin.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar
from uuid import UUID

from twisted.internet.defer import Deferred, DeferredList

from crossbar_cluster.control.configuration import Configuration, NodeRecord
from crossbar_cluster.control.loop import CHANGED, CONVERGED, Outcome, ReconcileLoop, State
from crossbar_cluster.control.nodes import (
    NO_SUCH_PROCEDURE,
    NO_SUCH_WORKER,
    START_WORKER_TIMEOUT_S,
    NodeCallFailed,
    NodeCalls,
    or_none,
)
from crossbar_cluster.core.news import News
from crossbar_cluster.core.proxy import Backend
from crossbar_cluster.core.worker import (
    START_WORKER,
    Grace,
    Plan,
    Restarts,
    StartWorker,
    StopWorker,
    WorkerKey,
    steps_of,
)

#: A node that is connected and does not answer for so long is worth a line in the log.
SILENT_S = 30.0
#: A removal that is held back is asked for again after this time.
HELD_S = 1.0

D = TypeVar("D")  # what is desired of the worker
O = TypeVar("O")  # what is observed of it  # noqa: E741


class Plane(Protocol):
    """What a worker's reconciler needs of the control plane."""

    log: Any
    reactor: Any
    calls: NodeCalls
    configuration: Configuration

    def node(self, oid: UUID) -> NodeRecord | None:
        """The node as it is on record now."""

    def is_online(self, oid: UUID) -> bool:
        """Whether the node has a management session."""

    def router_listens(self, key: WorkerKey, port: int | None, life: str | None) -> None:
        """A router worker has been seen to listen there, or not to. :param life: None: it runs the plain release."""

    def is_used(self, connection_id: str, realm: str | None = None) -> bool:
        """Whether a proxy that is there still has clients (of the realm) on that connection, or sends them there."""

    def located(self, backend: Backend) -> Backend:
        """A backend with all that is known of the router worker now."""

    def settled(self) -> None:
        """A worker is as configured, or its node is away."""

    def forget(self, key: WorkerKey) -> None:
        """The worker is neither desired nor there."""


class NotAsConfigured(Exception):
    """Something that keeps the worker from being as configured. The message says what, and what to do."""


@dataclass(frozen=True)
class Condition:
    """A worker's state, for people."""

    state: State | None  #: None: not looked at yet
    reason: str
    since_s: float  #: in the reactor's time


class WorkerReconciler(Generic[D, O]):
    """Reconciler of one worker."""

    kind: str  #: for people: "router worker" ...
    GRACE_S: float  #: how long what is no longer wanted is left alone
    REMOVALS: tuple[type, ...]  #: the steps that wait for it

    def __init__(self, plane: Plane, key: WorkerKey, node: str) -> None:
        self.key = key
        self.node = node  #: the node's authid
        self.observed: O | None = None  #: as of the last pass
        self._plane = plane
        self._grace = Grace(self.GRACE_S)
        self._news = News()
        self._silent_since_s: float | None = None
        self._restarts = Restarts()
        self.condition = Condition(None, "", plane.reactor.seconds())
        self.loop = ReconcileLoop(self._pass, plane.reactor, self._unexpected, self.kind.split()[0])

    # -- what routers and proxies do differently ----------------------------------------------------------------

    def desired(self) -> D | None:
        """What is configured; None: the worker is not to run."""
        raise NotImplementedError

    async def observe(self, desired: D | None) -> O:
        """Ask the worker what it runs. :raises NodeCallFailed:"""
        raise NotImplementedError

    def plan(self, desired: D | None, observed: O) -> Plan:
        raise NotImplementedError

    async def apply(self, desired: D, step: Any) -> None:
        """Carry one step out. :raises NodeCallFailed: :raises NotAsConfigured:"""
        raise NotImplementedError

    def start_options(self) -> Any:
        """Options of the worker's process."""
        raise NotImplementedError

    def waits(self, step: Any) -> bool:
        """Whether a step waits until its grace is over."""
        return isinstance(step, self.REMOVALS)

    def may_remove(self, step: Any) -> bool:
        """Whether a removal whose grace is over may be carried out."""
        return True

    def is_under_way(self, observed: O) -> bool:
        """Whether the worker, which is as configured, is doing something that others wait for."""
        return False

    def problems(self, desired: D, observed: O) -> list[str]:
        """What keeps the worker from being of use although it runs as configured."""
        return []

    def node_began(self) -> None:
        """The node has a new session, it may have booted anew: that the worker has ended says nothing about it."""
        self._restarts = Restarts()

    # -- one pass -----------------------------------------------------------------------------------------------

    async def _pass(self) -> Outcome:
        outcome = await self._reconcile()
        if (outcome.state, outcome.reason) != (self.condition.state, self.condition.reason):
            self.condition = Condition(outcome.state, outcome.reason, self._plane.reactor.seconds())
        if outcome.state is State.CONVERGED or outcome.again_s == math.inf:
            self._plane.settled()
        return outcome

    async def _reconcile(self) -> Outcome:
        desired = self.desired()
        record = self._plane.node(self.key.node_oid)
        if record is None or not self._plane.is_online(self.key.node_oid):
            return self._absent(desired)
        self.node = record.name
        try:
            observed = await self.observe(desired)
        except NodeCallFailed as e:
            return self._unanswered(e)
        self._silent_since_s = None
        self.observed = observed
        plan, wait_s = self._due(self.plan(desired, observed))
        if plan == START_WORKER and (pause_s := self._restarts.wait_s(self._plane.reactor.seconds())):
            return Outcome(
                State.WAITING, "it has died soon after it was started, again: its node's log says why", pause_s
            )
        if plan:
            return await self._carry_out(desired, plan)
        if wait_s is not None:
            return Outcome(State.WAITING, "what is no longer configured is about to be stopped", wait_s)
        if desired is None:
            self._plane.forget(self.key)
            return CONVERGED
        again_s = HELD_S if self.is_under_way(observed) else None
        problems = self.problems(desired, observed)
        self._tell(problems)
        if problems:
            return Outcome(State.FAILED, "; ".join(problems), again_s or math.inf)
        return Outcome(State.CONVERGED, again_s=again_s)

    def _absent(self, desired: D | None) -> Outcome:
        self._silent_since_s = None
        if desired is None:  # should it still run there, it is found again when the node is back
            self._plane.forget(self.key)
            return CONVERGED
        return Outcome(State.WAITING, f"node {self.node} is not connected", math.inf)

    def _unanswered(self, error: NodeCallFailed) -> Outcome:
        now_s = self._plane.reactor.seconds()
        if not error.is_unreachable:
            self._tell([str(error)])
            return Outcome(State.FAILED, str(error))
        if self._silent_since_s is None:
            self._silent_since_s = now_s
        if now_s - self._silent_since_s >= SILENT_S:
            self._tell([f"node {self.node} is connected, but does not answer management calls: look at its log"])
        return Outcome(State.WAITING, f"node {self.node} is on its way up")

    def _due(self, plan: Plan) -> tuple[Plan, float | None]:
        """The plan without removals that have to wait, and how long until the first of those is due."""
        removals = [step for step in steps_of(plan) if self.waits(step)]
        due, wait_s = self._grace.due(removals, self._plane.reactor.seconds())
        held = frozenset(step for step in due if not self.may_remove(step))
        if held:
            due, wait_s = due - held, min(wait_s or HELD_S, HELD_S)
        stages = (tuple(tuple(s for s in strand if self._may(s, due)) for strand in stage) for stage in plan)
        left = tuple(tuple(strand for strand in stage if strand) for stage in stages)
        return tuple(stage for stage in left if stage), wait_s

    def _may(self, step: Any, due: frozenset[Any]) -> bool:
        return not self.waits(step) or step in due

    async def _carry_out(self, desired: D | None, plan: Plan) -> Outcome:
        done: list[str] = []
        problems: list[str] = []
        for stage in plan:
            strands = [Deferred.fromCoroutine(self._strand(desired, strand, done, problems)) for strand in stage]
            await DeferredList(strands)
        if done:
            self._plane.log.info(
                "{kind} {worker} on {node}: {done}",
                kind=self.kind.capitalize(),
                worker=self.key.worker,
                node=self.node,
                done="; ".join(done),
            )
        self._tell(problems)
        if problems:
            return Outcome(State.FAILED, "; ".join(problems))
        return CHANGED if done else Outcome(State.WAITING, f"node {self.node} is on its way up")

    async def _strand(self, desired: D | None, strand: Iterable[Any], done: list[str], problems: list[str]) -> None:
        try:
            for step in strand:
                await self._step(desired, step)
                done.append(str(step))
        except NodeCallFailed as e:
            if not (e.is_unreachable or e.is_done_already):
                problems.append(str(e))
        except NotAsConfigured as e:
            problems.append(str(e))
        except Exception as e:  # a bug, or a damaged record: it ends its strand and nothing else
            problems.append(repr(e))
            self._unexpected(e)

    async def _step(self, desired: D | None, step: Any) -> None:
        worker, calls = self.key.worker, self._plane.calls
        if isinstance(step, StartWorker):
            kind = self.kind.split()[0]
            options = self.start_options()
            self._restarts.begun(self._plane.reactor.seconds())
            await calls.node(self.node, "start_worker", worker, kind, options, timeout_s=START_WORKER_TIMEOUT_S)
        elif isinstance(step, StopWorker):
            await calls.node(self.node, "stop_worker", worker, timeout_s=START_WORKER_TIMEOUT_S)
        elif desired is not None:
            await self.apply(desired, step)

    # -- for those that build on this ---------------------------------------------------------------------------

    async def call(self, procedure: str, *args: Any) -> Any:
        """Call a procedure of the worker. :raises NodeCallFailed:"""
        return await self._plane.calls.worker(self.node, self.key.worker, procedure, *args)

    async def snapshot(self, procedure: str) -> Any:
        """Ask the worker for its snapshot.

        :returns: None when it does not run; `NO_SNAPSHOT` when it runs the plain release, which has none.
        :raises NodeCallFailed: among others with `NO_SUCH_PROCEDURE` while it is starting.
        """
        try:
            return await self.call(procedure)
        except NodeCallFailed as e:
            if e.error != NO_SUCH_PROCEDURE:
                raise
            worker = await or_none(self._plane.calls.node(self.node, "get_worker", self.key.worker), NO_SUCH_WORKER)
            if worker is not None and worker["status"] != "started":
                raise
            return None if worker is None else NO_SNAPSHOT

    # -- what operators are told --------------------------------------------------------------------------------

    def _tell(self, problems: list[str]) -> None:
        for problem in self._news.of(problems):
            self._plane.log.warn(
                "{kind} {worker} on {node}: {problem} (will try again)",
                kind=self.kind.capitalize(),
                worker=self.key.worker,
                node=self.node,
                problem=problem,
            )

    def _unexpected(self, error: Exception) -> None:
        if self._news.of([repr(error)]):
            self._plane.log.failure(
                "{kind} {worker} on {node}: a pass failed and is tried again",
                kind=self.kind.capitalize(),
                worker=self.key.worker,
                node=self.node,
            )


class _NoSnapshot:
    """The worker runs, and has no procedure that shows it as a whole."""


NO_SNAPSHOT = _NoSnapshot()
