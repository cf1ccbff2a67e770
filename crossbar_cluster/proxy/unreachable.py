"""A proxy tells the master of a router worker that it does not get through to, so that it is looked at at once."""

from __future__ import annotations

from typing import Any

from autobahn.wamp.exception import TransportLost
from twisted.internet.defer import Deferred

#: At most one report per connection in this time: a client that tries again and again is no news.
REPORT_EACH_S = 2.0


def reporting(
    controller: Any, map_backend: Any, frontend: Any, realm: str, authid: Any, authrole: str, *rest: Any
) -> Any:
    """Map a client to a backend as the release does; report the backends in question if that fails."""
    mapped: Deferred[Any] = map_backend(frontend, realm, authid, authrole, *rest)
    return mapped.addErrback(_report, controller, realm, authrole)


def _report(failure: Any, controller: Any, realm: str, authrole: str) -> Any:
    for connection in controller._connections_by_auth.get((realm, authrole), ()):
        _report_one(controller, connection.id)
    return failure


def _report_one(controller: Any, connection_id: str) -> None:
    now_s = controller._reactor.seconds()
    reported: dict[str, float] = vars(controller).setdefault("_unreachable_reported_s", {})
    if now_s - reported.get(connection_id, -REPORT_EACH_S) < REPORT_EACH_S:
        return
    reported[connection_id] = now_s
    try:
        controller.publish(f"{controller._uri_prefix}.on_backend_unreachable", connection_id)
    except TransportLost:  # the node is about to end
        return
