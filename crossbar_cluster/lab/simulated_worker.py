"""Router and proxy workers in memory: what management calls do to them, and what they answer.

No process, no listener, no client: a worker here is the state that the master configures and observes. Each method
marked as a `procedure` has the name, the arguments, the answer and the errors of the released worker's management
procedure, or of the one that the patches add. Triggered by `simulated.SimulatedNode`, for one call at a time.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, TypeVar

from autobahn.wamp.exception import ApplicationError

from crossbar_cluster.core.digest import digest
from crossbar_cluster.node.descriptors import budget

ALREADY_EXISTS = "crossbar.error.already_exists"
ALREADY_RUNNING = "crossbar.error.already_running"
CANNOT_LISTEN = "crossbar.error.cannot_listen"
INVALID_CONFIGURATION = "crossbar.error.invalid_configuration"
NO_SUCH_OBJECT = "crossbar.error.no_such_object"
NO_SUCH_PROCEDURE = "wamp.error.no_such_procedure"
NOT_RUNNING = "crossbar.error.not_running"

Config = dict[str, Any]
Procedure = TypeVar("Procedure", bound=Callable[..., Any])


def procedure(method: Procedure) -> Procedure:
    """Mark a method as a management procedure of the same name."""
    method.is_procedure = True  # type: ignore[attr-defined]
    return method


def call_procedure(offered_by: object, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Call the management procedure ``name`` of a node or worker. :raises ApplicationError: it has none, or as that."""
    method = getattr(type(offered_by), name, None)
    if not getattr(method, "is_procedure", False):
        raise ApplicationError(NO_SUCH_PROCEDURE, f'no callee registered for procedure "{name}"')
    return getattr(offered_by, name)(*args, **kwargs)


def _existing(objects: dict[str, Any], object_id: str, kind: str, error: str = NO_SUCH_OBJECT) -> Any:
    if object_id not in objects:
        raise ApplicationError(error, f"no {kind} {object_id}")
    return objects[object_id]


def _absent(objects: dict[str, Any], object_id: str, kind: str, error: str = ALREADY_RUNNING) -> None:
    if object_id in objects:
        raise ApplicationError(error, f"there is a {kind} {object_id} already")


class SimulatedRouter:
    """A router worker.

    :param ports_in_use: of its node, which all its workers listen on.
    """

    kind: ClassVar = "router"

    def __init__(self, ports_in_use: set[int]) -> None:
        self.realms: dict[str, Config] = {}  #: realm id -> configuration
        self.roles: dict[str, dict[str, Config]] = {}  #: realm id -> role id -> configuration
        self.transports: dict[str, Config] = {}  #: transport id -> configuration, with the port it listens on
        self.links: dict[str, Config] = {}  #: link id -> where it leads
        self.life = secrets.token_hex(8)
        self._ports_in_use = ports_in_use

    @property
    def ports(self) -> list[int]:
        """Where it listens."""
        return [config["endpoint"]["port"] for config in self.transports.values()]

    @property
    def realm_names(self) -> set[str]:
        return {config["name"] for config in self.realms.values()}

    @procedure
    def get_router_snapshot(self) -> dict[str, Any]:
        return {
            "life": self.life,
            "realms": {
                realm_id: {
                    "name": config["name"],
                    "roles": {role_id: digest(role) for role_id, role in self.roles[realm_id].items()},
                }
                for realm_id, config in self.realms.items()
            },
            "transports": {tid: config["endpoint"].get("port") for tid, config in self.transports.items()},
            "access": {tid: digest(_access(config)) for tid, config in self.transports.items()},
            "links": {link_id: dict(link, realms={}) for link_id, link in self.links.items()},  # always up
            "by_realm": True,
            "limits_met": {},
        }

    @procedure
    def get_router_guests(self) -> list[Any]:
        return []

    @procedure
    def update_router_principals(
        self, transport_id: str, principals: Config, routers: Sequence[str] = (), realms: Config | None = None
    ) -> None:
        auth = _existing(self.transports, transport_id, "transport")["auth"]["cryptosign-proxy"]
        auth["principals"], auth["routers"] = principals, list(routers)
        auth.pop("realms", None)
        if realms is not None:
            auth["realms"] = realms

    @procedure
    def set_router_link(self, link_id: str, config: Config) -> None:
        self.links[link_id] = {"endpoint": [config["host"], config["port"]], "router": config["router"]}

    @procedure
    def drop_router_link(self, link_id: str) -> None:
        self.links.pop(link_id, None)

    # -- realms and roles ---------------------------------------------------------------------------------------

    @procedure
    def get_router_realm(self, realm_id: str) -> dict[str, Any]:
        config = _existing(self.realms, realm_id, "realm")
        roles = [{"id": role_id, "config": role} for role_id, role in self.roles[realm_id].items()]
        return {"id": realm_id, "config": config, "roles": roles, "rlinks": []}

    @procedure
    def start_router_realm(self, realm_id: str, config: Config) -> dict[str, Any]:
        _absent(self.realms, realm_id, "realm")
        self.realms[realm_id] = config
        self.roles[realm_id] = {}
        return {"id": realm_id}

    @procedure
    def stop_router_realm(self, realm_id: str) -> dict[str, Any]:
        _existing(self.realms, realm_id, "realm")
        del self.realms[realm_id], self.roles[realm_id]
        return {"id": realm_id}

    @procedure
    def get_router_realm_role(self, realm_id: str, role_id: str) -> dict[str, Any]:
        roles = _existing(self.roles, realm_id, "realm")
        return {"id": role_id, "config": _existing(roles, role_id, "role")}

    @procedure
    def start_router_realm_role(self, realm_id: str, role_id: str, config: Config) -> dict[str, Any]:
        roles = _existing(self.roles, realm_id, "realm")
        _absent(roles, role_id, "role", ALREADY_EXISTS)
        if config["name"] in {role["name"] for role in roles.values()}:
            raise ApplicationError(ALREADY_EXISTS, f"there is a role named {config['name']} already")
        roles[role_id] = config
        return {"id": role_id, "config": config}

    @procedure
    def update_router_realm_role(self, realm_id: str, role_id: str, config: Config) -> None:
        if role_id not in self.roles.get(realm_id, {}):
            raise ApplicationError(NO_SUCH_OBJECT, f"no role {role_id} on a realm {realm_id}")
        self.roles[realm_id][role_id] = config

    @procedure
    def stop_router_realm_role(self, realm_id: str, role_id: str) -> dict[str, Any]:
        roles = _existing(self.roles, realm_id, "realm")
        _existing(roles, role_id, "role")
        return {"id": role_id, "config": roles.pop(role_id)}

    # -- its listener for proxies -------------------------------------------------------------------------------

    @procedure
    def get_router_transport(self, transport_id: str) -> dict[str, Any]:
        return _transport(transport_id, _existing(self.transports, transport_id, "transport"))

    @procedure
    def start_router_transport(self, transport_id: str, config: Config) -> dict[str, Any]:
        _absent(self.transports, transport_id, "transport")
        endpoint = config["endpoint"]
        first, last = endpoint["portrange"] if "portrange" in endpoint else (endpoint["port"], endpoint["port"])
        port = next((port for port in range(first, last + 1) if port not in self._ports_in_use), None)
        if port is None:
            raise ApplicationError(CANNOT_LISTEN, f"no port is free from {first} to {last}")
        self._ports_in_use.add(port)
        self.transports[transport_id] = {**config, "endpoint": {**endpoint, "port": port}}
        return self.get_router_transport(transport_id)

    @procedure
    def stop_router_transport(self, transport_id: str) -> dict[str, Any]:
        _existing(self.transports, transport_id, "transport", NOT_RUNNING)
        config = self.transports.pop(transport_id)
        self._ports_in_use.discard(config["endpoint"]["port"])
        return _transport(transport_id, config)

    def release(self) -> None:
        """Let its ports be used again: the worker has ended."""
        self._ports_in_use -= set(self.ports)


class SimulatedProxy:
    """A proxy worker."""

    kind: ClassVar = "proxy"

    def __init__(self) -> None:
        self.transports: dict[str, Config] = {}
        self.services: dict[str, dict[str, str]] = {}  #: transport id -> path -> type
        self.connections: dict[str, Config] = {}
        self.routes: dict[str, dict[str, dict[str, str]]] = {}  #: realm -> route id -> role -> connection id
        self.pointed_at: dict[tuple[str, int], float] = {}
        #: host and port -> when it was last told that a connection leads there, monotonic seconds
        self._route_number = 0

    def leads_to(self, realm: str, endpoint: tuple[str, int]) -> bool:
        """Whether a client of ``realm`` is sent to ``endpoint``."""
        used = {connection_id for route in self.routes.get(realm, {}).values() for connection_id in route.values()}
        return any(_endpoint(self.connections[each]) == endpoint for each in used if each in self.connections)

    @procedure
    def get_proxy_snapshot(self) -> dict[str, Any]:
        return {
            "transports": {tid: {"services": sorted(self.services[tid])} for tid in self.transports},
            "connections": {cid: list(_endpoint(config)) for cid, config in self.connections.items()},
            "routers": {cid: config.get("router") for cid, config in self.connections.items()},
            "leaving": {},
            "most_clients": budget().clients,
            "troubles": [],
            "limits_met": {},
            "routes": self.routes,
        }

    # -- its listener for clients -------------------------------------------------------------------------------

    @procedure
    def get_proxy_transport(self, transport_id: str) -> dict[str, Any]:
        return _transport(transport_id, _existing(self.transports, transport_id, "transport"))

    @procedure
    def start_proxy_transport(self, transport_id: str, config: Config) -> dict[str, Any]:
        _absent(self.transports, transport_id, "transport")
        self.transports[transport_id] = config
        self.services[transport_id] = {path: each["type"] for path, each in config.get("paths", {}).items()}
        return _transport(transport_id, config)

    @procedure
    def get_web_transport_service(self, transport_id: str, path: str) -> dict[str, Any]:
        _existing(_existing(self.services, transport_id, "transport", NOT_RUNNING), path, "web service", NOT_RUNNING)
        return _transport(transport_id, self.transports[transport_id])

    @procedure
    def start_web_transport_service(self, transport_id: str, path: str, config: Config) -> dict[str, Any]:
        services = _existing(self.services, transport_id, "transport", NOT_RUNNING)
        _absent(services, path, "web service")
        services[path] = config["type"]
        return {"transport_id": transport_id, "path": path, "config": config}

    @procedure
    def stop_web_transport_service(self, transport_id: str, path: str) -> dict[str, Any]:
        services = _existing(self.services, transport_id, "transport", NOT_RUNNING)
        _existing(services, path, "web service", NOT_RUNNING)
        del services[path]
        return {"transport_id": transport_id, "path": path}

    # -- connections to router workers, and routes over them ----------------------------------------------------

    @procedure
    def get_proxy_connection(self, connection_id: str) -> dict[str, Any]:
        return {"id": connection_id, "config": _existing(self.connections, connection_id, "proxy connection")}

    @procedure
    def start_proxy_connection(self, connection_id: str, config: Config) -> dict[str, Any]:
        _absent(self.connections, connection_id, "proxy connection")
        return self._point(connection_id, config)

    @procedure
    def repoint_proxy_connection(self, connection_id: str, config: Config) -> dict[str, Any]:
        _existing(self.connections, connection_id, "proxy connection")
        return self._point(connection_id, config)

    @procedure
    def stop_proxy_connection(self, connection_id: str) -> dict[str, Any]:
        _existing(self.connections, connection_id, "proxy connection")
        return {"id": connection_id, "config": self.connections.pop(connection_id)}

    def _point(self, connection_id: str, config: Config) -> dict[str, Any]:
        try:
            endpoint = _endpoint(config)
        except (KeyError, TypeError) as e:
            raise ApplicationError(INVALID_CONFIGURATION, f"{connection_id}: no endpoint: {e!r}") from e
        self.pointed_at[endpoint] = time.monotonic()
        self.connections[connection_id] = config
        return self.get_proxy_connection(connection_id)

    @procedure
    def list_proxy_realm_routes(self, realm: str) -> list[dict[str, Any]]:
        routes = _existing(self.routes, realm, "route for realm")
        return [{"realm": realm, "id": route_id, "config": config} for route_id, config in routes.items()]

    @procedure
    def start_proxy_realm_route(self, realm: str, config: dict[str, str]) -> dict[str, Any]:
        for connection_id in config.values():
            _existing(self.connections, connection_id, "proxy connection")
        route_id = f"route{self._route_number:03d}"
        self._route_number += 1
        self.routes.setdefault(realm, {})[route_id] = config
        return {"realm": realm, "id": route_id, "config": config}

    @procedure
    def stop_proxy_realm_route(self, realm: str, route_id: str) -> dict[str, Any]:
        routes = _existing(self.routes, realm, "route for realm")
        config = _existing(routes, route_id, "route")
        del routes[route_id]
        if not routes:
            del self.routes[realm]
        return {"realm": realm, "id": route_id, "config": config}


def _endpoint(config: Config) -> tuple[str, int]:
    """Host and port that a proxy connection leads to."""
    endpoint = config["transport"]["endpoint"]
    return endpoint["host"], endpoint["port"]


def _access(transport: Config) -> list[Any]:
    """Who may connect, who may link, and who may bring clients of which realms."""
    auth = transport["auth"]["cryptosign-proxy"]
    told = [auth["principals"], auth.get("routers", [])]
    return [*told, auth["realms"]] if "realms" in auth else told


def _transport(transport_id: str, config: Config) -> dict[str, Any]:
    return {"id": transport_id, "type": config["type"], "config": config, "state": "started"}
