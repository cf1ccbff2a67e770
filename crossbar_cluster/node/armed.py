"""A node whose worker runs without the patches does not go on with it: the worker is ended, and who started it is told.

Triggered when a worker has said that it is ready. The rest of the node, and its master, count on what the patches make
of a worker; one that runs beside them lets in whom it should not, and nobody would see it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from autobahn.wamp.exception import ApplicationError
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred

from crossbar_cluster.overlay.startup import OFF, VARIABLE

CANNOT_START = "crossbar.error.cannot_start"
ANSWER_WITHIN_S = 10.0
#: What each worker has with the patches, of this version and of those before, and none without.
_PROBE = "get_cluster_health"


async def started_armed(controller: Any, worker_id: str, options: Any, started: Any, details: Any) -> Any:
    """See to it that a worker that has just been started runs with the patches.

    :param controller: the release's ``NodeController``.
    :param options: those that the worker was started with.
    :param started: what the release answers to who has started it; returned as it is.
    :param details: of the call that started it.
    :raises ApplicationError: `CANNOT_START`: it runs without; it has been ended.
    """
    if _is_switched_off(options) or await _is_armed(controller, worker_id):
        return started
    message = (
        f"worker {worker_id} runs without crossbar-cluster, and is ended: the Python that it is started with does not "
        "read crossbar-cluster.pth (another interpreter in its options, or -S, or an installation by "
        "`pip install --target`). `crossbar-cluster check` with that Python says what it lacks"
    )
    controller.log.error("Cannot start a worker of this node: {why}", why=message)
    ending: Deferred[Any] = maybeDeferred(controller.stop_worker, worker_id, kill=True, details=details)
    ending.addErrback(lambda failure: controller.log.debug("{why}", why=failure.getErrorMessage()))
    raise ApplicationError(CANNOT_START, message)


async def _is_armed(controller: Any, worker_id: str) -> bool:
    """One that does not answer, or not in order, is: it is for others to see what ails it."""
    asking: Deferred[Any] = maybeDeferred(controller.call, f"crossbar.worker.{worker_id}.{_PROBE}")
    try:
        await asking.addTimeout(ANSWER_WITHIN_S, controller._node._reactor)
    except ApplicationError as e:
        return bool(e.error != ApplicationError.NO_SUCH_PROCEDURE)
    except CancelledError:
        raise
    except Exception:
        return True
    return True


def _is_switched_off(options: Any) -> bool:
    """Whether an operator has configured that the worker runs the release as it is."""
    env = options.get("env") if isinstance(options, Mapping) else None
    variables = env.get("vars") if isinstance(env, Mapping) else None
    value = variables.get(VARIABLE) if isinstance(variables, Mapping) else None
    return isinstance(value, str) and value.strip().lower() in OFF
