"""An error in one event handler stays there: in the release it restarts the whole management controller."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred


def guarded(handler: Callable[..., Any], log: Any, topic: str) -> Callable[..., Deferred[Any]]:
    """``handler``, its errors logged in one line and dropped; Deferreds and coroutines are waited for."""

    @functools.wraps(handler)
    def guard(*args: Any, **kwargs: Any) -> Deferred[Any]:
        return maybeDeferred(handler, *args, **kwargs).addErrback(_told, log, handler, topic)

    return guard


def _told(failure: Any, log: Any, handler: Callable[..., Any], topic: str) -> None:
    log.warn(
        "An event on {topic} could not be handled and is dropped ({handler}: {error!r})",
        topic=topic,
        handler=getattr(handler, "__name__", "handler"),
        error=failure.value,
    )
    log.debug("{traceback}", traceback=failure.getTraceback())
