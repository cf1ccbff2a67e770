"""An error in one event handler stays there: in the release it restarts the whole management controller."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Coroutine
from typing import Any

from autobahn.wamp.exception import TransportLost
from twisted.internet.defer import Deferred, maybeDeferred

from crossbar_cluster.core.news import Seldom

TOLD_EACH_S = 10.0


def guarded(handler: Callable[..., Any], log: Any, topic: str) -> Callable[..., Deferred[Any]]:
    """``handler`` (a callable), its errors logged in one line and dropped; Deferreds and coroutines are waited for.

    Nodes send what they like, as often as they like: errors of a kind are logged now and then.
    """
    seldom = Seldom(TOLD_EACH_S)

    @functools.wraps(handler)
    def guard(*args: Any, **kwargs: Any) -> Deferred[Any]:
        return maybeDeferred(handler, *args, **kwargs).addErrback(_told, log, handler, topic, seldom)

    return guard


def _told(failure: Any, log: Any, handler: Callable[..., Any], topic: str, seldom: Seldom) -> None:
    if not seldom.due(failure.type, time.monotonic()):
        return
    log.warn(
        "An event on {topic} could not be handled and is dropped ({handler}: {error!r})",
        topic=topic,
        handler=getattr(handler, "__name__", "handler"),
        error=failure.value,
    )
    log.debug("{traceback}", traceback=failure.getTraceback())


def detached(work: Coroutine[Any, Any, Any], log: Any) -> None:
    """Do it without waiting for it; what goes wrong is logged and of no consequence for anything else."""
    Deferred.fromCoroutine(work).addErrback(_told_of_detached, log)


def _told_of_detached(failure: Any, log: Any) -> None:
    if not failure.check(TransportLost):  # the management session is about to end
        log.failure("Something that nobody waits for has failed", failure=failure)
