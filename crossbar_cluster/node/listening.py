"""A port to listen on, of a range that several workers of a node share.

The release looks for the first free one and takes it a moment later: of two workers that start at once, one may find it
taken. That one looks again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError

ATTEMPTS = 10


def on_a_free_port(listen: Callable[[], Deferred[Any]], attempts: int = ATTEMPTS) -> Deferred[Any]:
    """Listen, and look for a free port again if somebody else has just taken it.

    :param listen: finds a free port, and listens there.
    :returns: what ``listen`` ends with; its CannotListenError when that happens time and again.
    """

    def taken(failure: Any) -> Any:
        failure.trap(CannotListenError)
        return on_a_free_port(listen, attempts - 1) if attempts > 1 else failure

    return listen().addErrback(taken)
