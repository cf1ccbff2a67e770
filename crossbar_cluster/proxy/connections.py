"""A proxy worker's backend connections: where they point, and which of them serve a realm and role.

The worker holds connections and routes; which connections serve a realm and role follows from the two and is derived
anew after every change (`derive_connections_by_auth`), so that nothing stopped or replaced is ever used again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from autobahn.wamp.exception import ApplicationError

from crossbar_cluster.core.address import parse_address
from crossbar_cluster.proxy.pool import pool_of


class InvalidConnection(ValueError):
    """A connection's configuration that names no TCP endpoint. The message says what is missing."""


def endpoint_of(config: Any) -> tuple[str, int]:
    """Host and port that a connection's configuration points to. :raises InvalidConnection: it names none."""
    try:
        endpoint = config["transport"]["endpoint"]
        host, port = parse_address(endpoint["host"]), endpoint["port"]
    except (KeyError, TypeError, ValueError) as e:
        raise InvalidConnection(f"no TCP endpoint in the connection's configuration: {e!r}") from e
    if not isinstance(port, int) or not 0 < port < 65536:
        raise InvalidConnection(f"no TCP port in the connection's configuration: {port!r}")
    return host, port


def known_endpoint_of(config: Any) -> tuple[str, int]:
    """As `endpoint_of`; for a configuration that names no endpoint, one that equals no other."""
    try:
        return endpoint_of(config)
    except InvalidConnection:
        return "nowhere", 0


def derive_connections_by_auth(routes: Mapping[str, Mapping[str, Any]], connections: Mapping[str, Any]) -> Any:
    """For each (realm, role) the set of connections that serve it.

    :param routes: realm -> route id -> route, whose ``config`` maps a role to a connection id.
    :param connections: connection id -> connection.
    """
    serving: dict[tuple[str, str], set[Any]] = {}
    for realm, realm_routes in routes.items():
        for route in realm_routes.values():
            for role, connection_id in route.config.items():
                if connection_id in connections:
                    serving.setdefault((realm, role), set()).add(connections[connection_id])
    return serving


def derive_anew(result: Any, controller: Any) -> Any:
    """Bring the worker's connections by realm and role in line with its routes. :returns: ``result``, for callbacks."""
    serving = derive_connections_by_auth(controller._routes, controller._connections)
    controller._connections_by_auth = serving
    pool_of(controller).follow(controller._connections, serving)
    return result


def repoint(controller: Any, connection_id: str, config: Any) -> Any:
    """Give a connection of the worker another configuration, in place: whatever uses it uses the new address.

    :raises ApplicationError: there is no such connection, or the configuration names no endpoint; nothing is changed.
    """
    connection = controller._connections.get(connection_id)
    if connection is None:
        raise ApplicationError("crossbar.error.no_such_object", f'no proxy connection with ID "{connection_id}"')
    try:
        host, port = endpoint_of(config)
    except InvalidConnection as e:
        raise ApplicationError("crossbar.error.invalid_configuration", f"{connection_id}: {e}") from e
    before, was = connection.config, known_endpoint_of(connection.config)
    connection._config = config
    if was != (host, port):
        controller.log.info(
            "Proxy connection {connection} re-pointed from {was} to {now}",
            connection=connection_id,
            was=f"{was[0]}:{was[1]}",
            now=f"{host}:{port}",
        )
    same_life = was == (host, port) and life_of(before) in (None, life_of(config))
    pool_of(controller).point(connection_id, config, same_life=same_life)
    return connection.marshal()


def life_of(config: Any) -> str | None:
    """The life of its router worker that a connection's configuration tells of; None: it tells of none."""
    router = config.get("router") if isinstance(config, Mapping) else None
    life = router.get("life") if isinstance(router, Mapping) else None
    return life if isinstance(life, str) else None
