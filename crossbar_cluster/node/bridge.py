"""A node's procedures on the master: one prefix registration, verified from the other side; and word of ended workers.

Triggered when the uplink's session has joined and the bridge is attached to it; ends when the bridge is detached. How
the connection comes about is `crossbar_cluster.node.uplink`'s.

The release registers each local procedure by itself, and never tries again: a node that returns before the master has
noticed the end of its former session is refused every one of them and stays unmanageable. One registration of the
prefix ``crossbarfabriccenter.node.<node id>.`` takes over what the former session held, at once, and covers procedures
that appear later. The late end of that session does not take it away: the router has dropped the former registration
by then. (Registrations of single procedures by a former, unpatched life of the node win over the prefix until the
master notices its end.)
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

from autobahn.wamp.exception import ApplicationError
from autobahn.wamp.types import PublishOptions, RegisterOptions
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater

from crossbar_cluster.core.rights import SIGNING
from crossbar_cluster.node.questions import AtMost, OneAtATime, TooMany

ANSWER_WITHIN_S = 5.0
PAUSES_S = (0.5, 1.0, 2.0)  #: between tries; after the last the connection is dropped
LOCAL = "crossbar."
#: What the release asks workers for, to put it into a heartbeat.
OF_HEARTBEATS = ("get_process_monitor", "get_router_realm_stats")
WORKER_PARTS = 4  #: of ``crossbar.worker.ID.PROCEDURE``
#: Waiting for one worker. A control plane makes a few at a time.
CALLS_AT_MOST = 100
BUSY = "crossbar.error.busy"


class NotCallable(Exception):
    """The master does not reach this node. The message says what came instead."""


class CallForwarding:
    """Makes the local procedures ``crossbar.*`` callable on the master as ``crossbarfabriccenter.node.<node id>.*``.

    :param bridge: session on the node's own router.
    :param manager: session on the master.
    """

    def __init__(self, bridge: Any, manager: Any, node_id: str, reactor: Any) -> None:
        self._bridge = bridge
        self._manager = manager
        self._node_id = node_id
        self._reactor = reactor
        self._prefix = f"crossbarfabriccenter.node.{node_id}."
        self._work: Deferred[None] | None = None

    def start(self) -> None:
        """Register, and see to it that the node is callable. Goes on by itself; a failure is logged."""
        self._work = Deferred.fromCoroutine(self._become_callable())
        self._work.addErrback(self._failed)

    def stop(self) -> None:
        """The manager is gone, and the registration with it."""
        if self._work is not None:
            self._work.cancel()

    def _failed(self, failure: Any) -> None:
        if not failure.check(CancelledError):
            self._bridge.log.failure("The node's registration on the master ended in an error", failure=failure)

    async def _become_callable(self) -> None:
        for pause_s in (*PAUSES_S, None):
            try:
                await self._register()
                await self._verify()
                self._bridge.log.info("The master can call this node, at {prefix}", prefix=self._prefix)
                return
            except CancelledError:
                raise
            except Exception as e:
                if not self._manager.is_attached():
                    return  # lost meanwhile: whoever attaches next begins anew
                problem = f"{type(e).__name__}: {e}"
            if pause_s is not None:
                self._bridge.log.warn(
                    "The master cannot call this node yet ({problem}): registering again", problem=problem
                )
                await deferLater(self._reactor, pause_s)
        self._bridge.log.warn("The master cannot call this node ({problem}): connecting again", problem=problem)
        self._manager.disconnect()

    async def _register(self) -> None:
        options = RegisterOptions(match="prefix", force_reregister=True, details_arg="details")
        registering: Deferred[Any] = self._manager.register(self._forward, self._prefix, options=options)
        await registering.addTimeout(ANSWER_WITHIN_S, self._reactor)

    async def _verify(self) -> None:
        """:raises NotCallable: a call through the master reaches another session than this one."""
        calling: Deferred[Any] = self._manager.call(f"{self._prefix}get_status")
        status = await calling.addTimeout(ANSWER_WITHIN_S, self._reactor)
        answered, own = status.get("management_session_id"), self._manager._session_id
        if answered != own:
            raise NotCallable(f"session {answered} answers in place of {own}")

    def _forward(self, *args: Any, details: Any, **kwargs: Any) -> Any:
        name = details.procedure[len(self._prefix) :]
        if name in SIGNING:  # for this node's own workers, which have no need of the master to ask for it
            raise ApplicationError(ApplicationError.NO_SUCH_PROCEDURE, f"{details.procedure} is not for others")
        return self._bridge.call(LOCAL + name, *args, **kwargs)


class CallsToWorkers:
    """What a node's bridge asks the workers of the node, for its heartbeats and for the master.

    One that hangs is asked once for what goes into a heartbeat, and the others' are sent; and few calls of the master's
    wait for it, whoever makes them.
    """

    def __init__(self, reactor: Any) -> None:
        self._of_heartbeat = OneAtATime(ANSWER_WITHIN_S, reactor)
        self._at_most = AtMost(CALLS_AT_MOST)

    def call(self, procedure: str, call: Callable[[], Any], *, has_arguments: bool) -> Any:
        """Make a call of the node's own router. :raises ApplicationError: of a worker that has not answered others."""
        parts = procedure.split(".")
        if parts[:2] != ["crossbar", "worker"] or len(parts) < WORKER_PARTS:
            return call()
        worker = parts[2]
        if parts[-1] in OF_HEARTBEATS and not has_arguments:  # as heartbeats ask
            answer: Deferred[Any] = self._of_heartbeat.ask(procedure, call)
            return answer.addCallbacks(deepcopy, _unavailable, errbackArgs=(procedure,))  # who asked may change it
        try:
            return self._at_most.make(worker, call)
        except TooMany:
            problem = f"worker {worker} has not answered {CALLS_AT_MOST} calls: none is made before it does"
            raise ApplicationError(BUSY, problem) from None


def _unavailable(failure: Any, procedure: str) -> Any:
    """As for a procedure that is not there, which the release's heartbeats take for no reason to end."""
    failure.trap(TimeoutError)
    raise ApplicationError(ApplicationError.NO_SUCH_PROCEDURE, f"{procedure} is not answered")


def unless_starting(procedure: str, called: Any) -> Any:
    """Let it be no error that a worker which is being started cannot be told its node's name: it is started with it.

    :param called: a call of the node's to one of its workers: fires with the answer.
    """
    if procedure.endswith(".set_node_id"):
        called.addErrback(_unless_no_such_procedure)
    return called


def _unless_no_such_procedure(failure: Any) -> Any:
    is_starting = failure.check(ApplicationError) and failure.value.error == ApplicationError.NO_SUCH_PROCEDURE
    return None if is_starting else failure


def tell_worker_gone(bridge: Any) -> None:
    """Tell the master that a session of this node's own router has ended, which is how a worker's end shows first.

    An event without a payload: it says no more than *look now*, and one that is lost does no harm.
    """
    manager = bridge._manager
    if manager is None or not manager.is_attached():
        return
    telling: Deferred[Any] = manager.publish(
        bridge._translate_uri(f"{LOCAL}on_worker_gone"), options=PublishOptions(acknowledge=True)
    )
    telling.addErrback(lambda failure: bridge.log.debug("on_worker_gone: {why}", why=failure.getErrorMessage()))
