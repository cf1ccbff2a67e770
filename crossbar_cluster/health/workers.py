"""Asks a node's workers, all at once and for a limited time: one that does not answer holds up nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from autobahn.wamp.exception import ApplicationError
from twisted.internet.defer import Deferred, DeferredList

from crossbar_cluster.core.health import Worker
from crossbar_cluster.node.questions import OneAtATime

ANSWER_WITHIN_S = 2.0
HEALTH = "get_cluster_health"
METRICS = "get_cluster_metrics"
#: Workers that are processes of somebody else's have none of our procedures.
_NOT_OURS = ("guest",)


@dataclass(frozen=True)
class Answer:
    """What came of asking a worker."""

    name: str
    type: str
    value: Mapping[str, Any] | None  #: None: see ``problem``
    problem: str = ""
    starting: bool = False

    @property
    def health(self) -> Worker:
        """The same, for those who asked for its facts."""
        return Worker(self.name, self.type, self.value, self.problem, self.starting)


class WorkerCalls:
    """Calls to the workers of a node.

    There is never more than one call of a procedure under way to a worker (`node.questions`).

    :param controller: the release's ``NodeController``.
    """

    def __init__(self, controller: Any, reactor: Any) -> None:
        self._controller = controller
        self._questions = OneAtATime(ANSWER_WITHIN_S, reactor)

    async def ask(self, procedure: str) -> list[Answer]:
        """Ask all workers. :returns: after `ANSWER_WITHIN_S` at most, in the order of their names."""
        workers = [(name, w) for name, w in sorted(self._controller._workers.items()) if w.TYPE not in _NOT_OURS]
        asked = [Deferred.fromCoroutine(self._ask(name, worker, procedure)) for name, worker in workers]
        return [answer for _, answer in await DeferredList(asked)] if asked else []

    async def _ask(self, name: str, worker: Any, procedure: str) -> Answer:
        if worker.status != "started":
            return Answer(name, worker.TYPE, None, "is starting", starting=True)
        try:
            uri = f"crossbar.worker.{name}.{procedure}"
            value = await self._questions.ask(uri, lambda: self._controller.call(uri))
            return Answer(name, worker.TYPE, value)
        except TimeoutError:
            problem = f"does not answer within {ANSWER_WITHIN_S:g} s"
        except ApplicationError as e:
            problem = f"{e.error}: {e.error_message()}"
        except Exception as e:
            problem = repr(e)
        return Answer(name, worker.TYPE, None, problem)
