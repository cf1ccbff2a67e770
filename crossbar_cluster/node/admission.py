"""Accepts no more connections than there are descriptors for: whoever is connected is to be served on.

Stands before what a listening port makes of a connection. A newcomer is closed at once, which load balancers and
clients take for "try the next one"; nobody hangs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from crossbar_cluster.core.metrics import CONNECTIONS_REFUSED, METRICS
from crossbar_cluster.core.news import Seldom
from crossbar_cluster.node.descriptors import budget, lowest_free

TELL_EACH_S = 60.0


def while_there_is_room(port: Any, clock: Any, log: Any) -> Any:
    """Have a listening port refuse connections while descriptors run short. :returns: the port."""
    factory = getattr(port, "factory", None)
    if factory is not None:
        factory.buildProtocol = _guarded(factory.buildProtocol, Seldom(TELL_EACH_S), clock, log)
    return port


def _guarded(build: Callable[[Any], Any], told: Seldom, clock: Any, log: Any) -> Callable[[Any], Any]:
    def build_if_there_is_room(address: Any) -> Any:
        allowed = budget()
        if lowest_free() < allowed.acceptable:
            return build(address)
        METRICS.count(CONNECTIONS_REFUSED)
        if told.due("full", clock.seconds()):
            log.warn(
                "File descriptors run short ({limit} are allowed): new connections are closed as they come, whoever is "
                "connected stays. Raise this process's limit (ulimit -n, LimitNOFILE=), or run more of these nodes",
                limit=allowed.limit,
            )
        return None  # the port closes the connection

    return build_if_there_is_room
