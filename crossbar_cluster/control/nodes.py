"""Calls from the master to nodes and their workers: each with a timeout, each error with the node's name.

Also which nodes have a management session (`Arrivals`): a node is there as long as its newest session lives.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any
from uuid import UUID

from autobahn.wamp.exception import ApplicationError, TransportLost
from twisted.internet.defer import Deferred, TimeoutError

CALL_TIMEOUT_S = 10.0
#: A worker is a process: on a busy machine it takes its time.
START_WORKER_TIMEOUT_S = 60.0

NO_SUCH_PROCEDURE = "wamp.error.no_such_procedure"
CANCELED = "wamp.error.canceled"
TIMEOUT = "crossbar.error.timeout"
TRANSPORT_LOST = "crossbar.error.transport_lost"
NO_SUCH_OBJECT = "crossbar.error.no_such_object"
NO_SUCH_WORKER = "crossbar.error.no_such_worker"
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
        """Another realm on the same worker was faster: what this call wanted is there, or about to be."""
        return self.error in (ALREADY_RUNNING, WORKER_ALREADY_RUNNING)


class NodeCalls:
    """Calls through the management realm.

    :param session: the session of the realm's management controller.
    :param reactor: for timeouts.
    """

    def __init__(self, session: Any, reactor: Any) -> None:
        self._session = session
        self._reactor = reactor

    async def node(self, node: str, procedure: str, *args: Any, timeout_s: float = CALL_TIMEOUT_S) -> Any:
        """Call a procedure of the node's controller. :raises NodeCallFailed:"""
        return await self._call(node, procedure, args, timeout_s)

    async def worker(self, node: str, worker: str, procedure: str, *args: Any) -> Any:
        """Call a procedure of a worker on the node. :raises NodeCallFailed:"""
        return await self._call(node, f"worker.{worker}.{procedure}", args, CALL_TIMEOUT_S)

    async def _call(self, node: str, procedure: str, args: tuple[Any, ...], timeout_s: float) -> Any:
        try:
            called: Deferred[Any] = self._session.call(f"crossbarfabriccenter.node.{node}.{procedure}", *args)
            return await self._answer(called, timeout_s)
        except TimeoutError:
            raise NodeCallFailed(node, procedure, TIMEOUT, f"no answer within {timeout_s:g} s") from None
        except TransportLost as e:
            raise NodeCallFailed(node, procedure, TRANSPORT_LOST, "the management controller has no session") from e
        except ApplicationError as e:
            raise NodeCallFailed(node, procedure, e.error, " ".join(str(e.args[0]).split()) if e.args else "") from e

    def _answer(self, called: Deferred[Any], timeout_s: float) -> Deferred[Any]:
        """What ``called`` ends with, or TimeoutError. The call itself is not cancelled.

        Cancelling would reach the node, which would drop what it has half done (a worker that it is starting, say)
        from its books and leave it running. A late answer is of no use to anybody: the next pass observes anew.
        """
        answer: Deferred[Any] = Deferred()
        timer = self._reactor.callLater(timeout_s, answer.errback, TimeoutError())

        def answered(result: Any) -> None:
            if timer.active():
                timer.cancel()
                answer.callback(result)  # a Failure makes it fail

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


class Arrivals:
    """Which sessions nodes have joined with. An old session that ends late says nothing about a newer one."""

    def __init__(self) -> None:
        self._authid_of: dict[int, str] = {}

    def __contains__(self, session: int) -> bool:
        return session in self._authid_of

    def joined(self, session: int, authid: str) -> None:
        self._authid_of[session] = authid

    def left(self, session: int) -> bool:
        """Forget the session. :returns: whether its node is gone: it had no other session."""
        authid = self._authid_of.pop(session, None)
        return authid is None or authid not in self._authid_of.values()


def tell_arrival(arealm_manager: Any, node_oid: str) -> bool:
    """Tell the reconcilers of all realms that a node has joined. Each decides whether it has to do with it.

    :returns: whether there is such a node: the release makes up one with the id "None" for a node that was unpaired
        between its authentication and its join.
    """
    try:
        oid = UUID(node_oid)
    except ValueError:
        return False
    for monitor in list(arealm_manager._monitors.values()):
        monitor.reconciler.node_arrived(oid)
    return True


def stop_reconcilers(arealm_manager: Any) -> None:
    """Stop the reconcilers of all realms: their management session is gone, its successor starts new ones."""
    for monitor in list(arealm_manager._monitors.values()):
        monitor.stop()
