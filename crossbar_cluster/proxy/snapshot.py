"""A proxy worker as it describes itself to the master: all of it in one call."""

from __future__ import annotations

from typing import Any

from crossbar_cluster.core.metrics import LIMITS_MET, METRICS
from crossbar_cluster.node.descriptors import budget
from crossbar_cluster.proxy.connections import known_endpoint_of
from crossbar_cluster.proxy.pool import pool_of


def snapshot_of(controller: Any) -> dict[str, Any]:
    """What the worker runs.

    :param controller: the release's ``ProxyController``.
    :returns: ``transports``: transport id -> ``services`` (paths); ``connections``: connection id -> host and port;
        ``routers``: connection id -> who is to be found there, as the master has told, or None; ``routes``: realm ->
        route id -> role -> connection id; ``leaving``: connection id -> realms of clients that are still there
        although no route leads there for them any more; ``most_clients``: how many can be connected; ``troubles``: what
        the worker, or its host, lacks itself; ``limits_met``: limit -> how often a client met it since the
        process began.
    """
    return {
        "transports": {
            transport_id: {"services": _services(transport)}
            for transport_id, transport in controller.transports.items()
        },
        "connections": {
            connection_id: list(known_endpoint_of(connection.config))
            for connection_id, connection in controller._connections.items()
        },
        "routers": {
            connection_id: connection.config.get("router")
            for connection_id, connection in controller._connections.items()
        },
        "routes": {
            realm: {route_id: dict(route.config) for route_id, route in routes.items()}
            for realm, routes in controller._routes.items()
        },
        "leaving": {connection_id: sorted(realms) for connection_id, realms in pool_of(controller).leaving().items()},
        "most_clients": budget().clients,
        "troubles": pool_of(controller).troubles(),
        "limits_met": METRICS.counted(LIMITS_MET),
    }


def _services(transport: Any) -> list[str]:
    """The paths below the transport's root that have a web service. (The root itself cannot be iterated over.)"""
    root = getattr(transport, "root", None)
    return sorted(root._paths) if root is not None else []
