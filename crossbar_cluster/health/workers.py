"""Asks a node's workers, all at once and for a limited time: one that does not answer holds up nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from autobahn.wamp.exception import ApplicationError
from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.python.failure import Failure

from crossbar_cluster.core.health import Worker

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

    There is never more than one call of a procedure under way to a worker: a worker that hangs for hours is not to
    have thousands of calls waiting for it. Who asks meanwhile waits for the answer to that one.

    :param controller: the release's ``NodeController``.
    """

    def __init__(self, controller: Any, reactor: Any) -> None:
        self._controller = controller
        self._reactor = reactor
        self._waiting: dict[tuple[str, str], list[Deferred[Any]]] = {}

    async def ask(self, procedure: str) -> list[Answer]:
        """Ask all workers. :returns: after `ANSWER_WITHIN_S` at most, in the order of their names."""
        workers = [(name, w) for name, w in sorted(self._controller._workers.items()) if w.TYPE not in _NOT_OURS]
        asked = [Deferred.fromCoroutine(self._ask(name, worker, procedure)) for name, worker in workers]
        return [answer for _, answer in await DeferredList(asked)] if asked else []

    async def _ask(self, name: str, worker: Any, procedure: str) -> Answer:
        if worker.status != "started":
            return Answer(name, worker.TYPE, None, "is starting", starting=True)
        try:
            return Answer(name, worker.TYPE, await self._call(name, procedure))
        except TimeoutError:
            problem = f"does not answer within {ANSWER_WITHIN_S:g} s"
        except ApplicationError as e:
            problem = f"{e.error}: {e.error_message()}"
        except Exception as e:
            problem = repr(e)
        return Answer(name, worker.TYPE, None, problem)

    def _call(self, name: str, procedure: str) -> Deferred[Any]:
        answer: Deferred[Any] = Deferred()
        timer = self._reactor.callLater(ANSWER_WITHIN_S, self._too_late, (name, procedure), answer)
        answer.addBoth(_stop, timer)
        waiting = self._waiting.get((name, procedure))
        if waiting is not None:
            waiting.append(answer)
            return answer
        self._waiting[name, procedure] = [answer]
        called = maybeDeferred(self._controller.call, f"crossbar.worker.{name}.{procedure}")
        called.addBoth(self._answered, (name, procedure))
        return answer

    def _too_late(self, key: tuple[str, str], answer: Deferred[Any]) -> None:
        self._waiting[key].remove(answer)
        answer.errback(TimeoutError())

    def _answered(self, result: Any, key: tuple[str, str]) -> None:
        for answer in self._waiting.pop(key):
            if isinstance(result, Failure):
                answer.errback(result)
            else:
                answer.callback(result)


def _stop(result: Any, timer: Any) -> Any:
    if timer.active():
        timer.cancel()
    return result
