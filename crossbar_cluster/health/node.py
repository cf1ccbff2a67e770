"""A node's health as its controller serves it: /healthz, /readyz and /metrics.

Begins when the node starts, if CROSSBAR_HEALTH_PORT is set. What is judged is `core.health`'s to say, how workers are
asked `health.workers`', how it is written `health.exposition`'s and `health.server`'s.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from typing import Any

from crossbar_cluster import __version__
from crossbar_cluster.core import health, metrics
from crossbar_cluster.core.metrics import METRICS, Collected, Metric, Values
from crossbar_cluster.health import workers
from crossbar_cluster.health.exposition import exposition
from crossbar_cluster.health.server import HealthServer, Response
from crossbar_cluster.health.worker import MASTER, database_problems, process_gauges
from crossbar_cluster.health.workers import Answer, WorkerCalls
from crossbar_cluster.node.settings import HEALTH_ADDRESS, HEALTH_PORT


class NodeHealth:
    """:param node: the release's ``FabricNode``, which may not have a controller yet."""

    def __init__(self, node: Any) -> None:
        self._node = node
        self._calls: WorkerCalls | None = None
        self._ending = False
        # the first thing that happens when a node ends: its workers may take their time to let their clients go
        node._reactor.addSystemEventTrigger("before", "shutdown", self._end)

    def _end(self) -> None:
        self._ending = True

    @property
    def is_master(self) -> bool:
        return bool(self._node.personality.NAME == MASTER)

    async def healthz(self, accept: str) -> Response:
        """Whether the process lives: that it answers is all that can be seen of a node that is no master."""
        document: dict[str, Any] = {"alive": True, "node": self._name, "event loop": "turns"}
        if self.is_master:
            answers = await self._ask(workers.HEALTH)
            gone = self._node._worker_watch.gone if self._booted else ()
            problems = health.dead_on_master(gone, [answer.health for answer in answers])
            document |= {"alive": not problems, "problems": problems, "workers": _told(answers)}
        return Response.of(200 if document["alive"] else 503, document)

    async def readyz(self, accept: str) -> Response:
        """Whether the node can be sent what it is there for."""
        answers = await self._ask(workers.HEALTH)
        told = [answer.health for answer in answers]
        if self.is_master:
            database = getattr(self._node._bridge_session, "_db", None)
            problems = database_problems("the node manager", database) if self._booted else ()
            containers = getattr(self._node._bridge_session, "_container_workers", {})
            mrealms = [name for components in containers.values() for name in components]
            missing = health.missing_on_master(self._booted, problems, mrealms, told)
        else:
            missing = health.missing_on_node(self._uplink, told)
        if self._node._controller is None:
            missing.append("node: still starting")
        elif self._ending or self._node._controller._shutdown_requested:
            missing.append("node: shutting down")
        document: dict[str, Any] = {"ready": not missing, "node": self._name, "missing": missing}
        if not self.is_master and self._uplink is not None:
            document["uplink"] = "joined" if self._uplink.joined else "not joined"
        document["workers"] = {answer.name: answer.value or answer.problem for answer in answers}
        return Response.of(503 if missing else 200, document)

    async def metrics(self, accept: str) -> Response:
        """All numbers of the node and of those of its workers that answer."""
        answers = await self._ask(workers.METRICS)
        told = {answer.name: answer.value for answer in answers if answer.value is not None}
        body, content_type = exposition(accept, self._own_metrics(answers), told)
        return Response(200, body, content_type)

    # -- what there is ------------------------------------------------------------------------------------------

    async def _ask(self, procedure: str) -> list[Answer]:
        if self._calls is None:
            if self._node._controller is None:
                return []
            self._calls = WorkerCalls(self._node._controller, self._node._reactor)
        return await self._calls.ask(procedure)

    @property
    def _name(self) -> str | None:
        """As the master knows it, while it is joined."""
        return self._node._node_id or getattr(self._node._controller, "node_id", None)

    @property
    def _booted(self) -> bool:
        complete = getattr(self._node, "_boot_complete", None)
        return complete is not None and complete.called

    @property
    def _uplink(self) -> health.Uplink | None:
        runner, manager = self._node._manager_runner, self._node._manager
        if runner is None and self._booted:
            return None  # the node is managed by nobody
        joined = manager is not None and manager.is_attached()
        since_s = self._node._reactor.seconds() - getattr(runner, "joined_s", float("-inf"))
        return health.Uplink(joined, since_s)

    def _own_metrics(self, answers: list[Answer]) -> Collected:
        from crossbar import __version__ as release

        gauges: list[tuple[Metric, Mapping[Values, float]]] = [
            *process_gauges(),
            (metrics.BUILD_INFO, {(__version__, release, platform.python_version()): 1}),
            (metrics.WORKER_UP, {(answer.name, answer.type): answer.value is not None for answer in answers}),
        ]
        if self._uplink is not None and not self.is_master:
            METRICS.begin(metrics.UPLINK_CONNECTS, metrics.UPLINK_IMPOSTORS)
            gauges.append((metrics.UPLINK_UP, {(): self._uplink.joined}))
        return METRICS.collect(gauges)


def _told(answers: list[Answer]) -> dict[str, str]:
    return {answer.name: answer.problem or "answers" for answer in answers}


def serve_health(node: Any) -> None:
    """Serve a node's health, if its environment says where. :param node: see `NodeHealth`."""
    port = HEALTH_PORT.read(os.environ)
    if port is None:
        return
    of = NodeHealth(node)
    handlers = {"healthz": of.healthz, "readyz": of.readyz, "metrics": of.metrics}
    HealthServer(handlers, port, HEALTH_ADDRESS.read(os.environ), node._reactor, node.log).start()
