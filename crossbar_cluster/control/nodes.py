"""Calls from the master to nodes and their workers: each with a timeout, each error with the node's name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable
from typing import Any

from autobahn.wamp.exception import ApplicationError, TransportLost
from twisted.internet.defer import Deferred, TimeoutError

from crossbar_cluster.core.metrics import CALLS, CALLS_FAILED, METRICS

_Asked = tuple[str, ...]  #: who, and what of it hangs if there is no answer

CALL_TIMEOUT_S = 10.0
#: A worker is a process: on a busy machine it takes its time.
START_WORKER_TIMEOUT_S = 60.0

NO_SUCH_PROCEDURE = "wamp.error.no_such_procedure"
CANCELED = "wamp.error.canceled"
TIMEOUT = "crossbar.error.timeout"
TRANSPORT_LOST = "crossbar.error.transport_lost"
NO_SUCH_OBJECT = "crossbar.error.no_such_object"
NO_SUCH_WORKER = "crossbar.error.no_such_worker"
NOT_RUNNING = "crossbar.error.not_running"
ALREADY_RUNNING = "crossbar.error.already_running"
WORKER_ALREADY_RUNNING = "crossbar.error.worker_already_running"


class NodeCallFailed(Exception):
    """A call to a node failed. The message names node, procedure and reason."""

    def __init__(self, node: str, procedure: str, error: str, message: str) -> None:
        super().__init__(f"{node}: {procedure} failed with {error}: {message}")
        self.node = node
        self.error = error  #: WAMP error URI

    @property
    def is_unreachable(self) -> bool:
        """The node, or the worker, is not there: on its way up, or gone."""
        return self.error in (NO_SUCH_PROCEDURE, CANCELED, TRANSPORT_LOST)

    @property
    def is_done_already(self) -> bool:
        """What this call wanted is there, or about to be: an earlier one, whose answer came too late, was heard."""
        return self.error in (ALREADY_RUNNING, WORKER_ALREADY_RUNNING)


class NodeCalls:
    """Calls through the management realm.

    Who has not answered in time is asked nothing more until the answer comes, or the end of its session, which is an
    answer as well. (Of a node's controller: that procedure, with that first argument.)

    :param session: the session of the realm's management controller.
    :param reactor: for timeouts.
    """

    def __init__(self, session: Any, reactor: Any) -> None:
        self._session = session
        self._reactor = reactor
        self.made = 0  #: number of calls
        self._unanswered: Counter[_Asked] = Counter()  #: calls that are too late, and still wait
        self.failed = 0  #: number of those that were refused, or not answered: not those that asked what is there

    async def node(self, node: str, procedure: str, *args: Any, timeout_s: float = CALL_TIMEOUT_S) -> Any:
        """Call a procedure of the node's controller. :raises NodeCallFailed:"""
        return await self._call((node, procedure, *map(str, args[:1])), node, procedure, args, timeout_s)

    async def worker(self, node: str, worker: str, procedure: str, *args: Any) -> Any:
        """Call a procedure of a worker on the node. :raises NodeCallFailed:"""
        procedure = f"worker.{worker}.{procedure}"
        return await self._call((node, f"worker.{worker}"), node, procedure, args, CALL_TIMEOUT_S)

    async def master(self, procedure: str, *args: Any) -> Any:
        """Call a procedure of the management realm itself. :raises NodeCallFailed:"""
        return await self._call_uri(("master", procedure), "master", procedure, procedure, args, CALL_TIMEOUT_S)

    async def _call(self, whom: _Asked, node: str, procedure: str, args: tuple[Any, ...], timeout_s: float) -> Any:
        uri = f"crossbarfabriccenter.node.{node}.{procedure}"
        if self._unanswered[whom]:
            problem = "it has not answered a call yet, and is asked nothing before it has"
            raise NodeCallFailed(node, procedure, TIMEOUT, problem)
        self.made += 1
        METRICS.count(CALLS)
        try:
            return await self._call_uri(whom, node, procedure, uri, args, timeout_s)
        except NodeCallFailed as e:
            if e.error not in (NO_SUCH_PROCEDURE, NO_SUCH_WORKER, NO_SUCH_OBJECT):
                self.failed += 1
                METRICS.count(CALLS_FAILED)
            raise

    async def _call_uri(
        self, whom: _Asked, node: str, procedure: str, uri: str, args: tuple[Any, ...], timeout_s: float
    ) -> Any:
        try:
            called: Deferred[Any] = self._session.call(uri, *args)
            return await self._answer(called, whom, timeout_s)
        except TimeoutError:
            raise NodeCallFailed(node, procedure, TIMEOUT, f"no answer within {timeout_s:g} s") from None
        except TransportLost as e:
            raise NodeCallFailed(node, procedure, TRANSPORT_LOST, "the management controller has no session") from e
        except ApplicationError as e:
            raise NodeCallFailed(node, procedure, e.error, " ".join(str(e.args[0]).split()) if e.args else "") from e

    def _answer(self, called: Deferred[Any], whom: _Asked, timeout_s: float) -> Deferred[Any]:
        """What ``called`` ends with, or TimeoutError. The call itself is not cancelled.

        Cancelling would reach the node, which would drop what it has half done (a worker that it is starting, say)
        from its books and leave it running. A late answer is of no use to anybody: the next pass observes anew.
        """
        answer: Deferred[Any] = Deferred()

        def too_late() -> None:
            self._unanswered[whom] += 1
            answer.errback(TimeoutError())

        timer = self._reactor.callLater(timeout_s, too_late)

        def answered(result: Any) -> None:
            if timer.active():
                timer.cancel()
                answer.callback(result)  # a Failure makes it fail
                return
            self._unanswered[whom] -= 1
            if not self._unanswered[whom]:
                del self._unanswered[whom]

        called.addBoth(answered)
        return answer


async def or_none(call: Awaitable[Any], *expected: str) -> Any:
    """The call's result; None if it fails with one of the ``expected`` WAMP errors. :raises NodeCallFailed:"""
    try:
        return await call
    except NodeCallFailed as e:
        if e.error in expected:
            return None
        raise
