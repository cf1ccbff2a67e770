"""Keeps one proxy worker as it is configured: its process, connections, routes, transport and web services."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from crossbar._util import get_free_tcp_port
from crossbar_cluster.control.nodes import NO_SUCH_OBJECT, NO_SUCH_PROCEDURE, NOT_RUNNING, NodeCallFailed, or_none
from crossbar_cluster.control.worker import NO_SNAPSHOT, NotAsConfigured, WorkerReconciler
from crossbar_cluster.core.proof import METHOD
from crossbar_cluster.core.proxy import (
    TRANSPORT_ID,
    DesiredProxy,
    Endpoint,
    ObservedProxy,
    RepointConnection,
    RouterLife,
    StartConnection,
    StartRoute,
    StartService,
    StartTransport,
    StopConnection,
    StopRoute,
    StopService,
    at,
    plan_proxy,
)
from crossbar_cluster.core.worker import Plan, StopWorker
from crossbar_cluster.proxy.connections import known_endpoint_of

#: How long a proxy tries to reach a router worker before it tells the client.
CONNECT_TIMEOUT_S = 5


class ProxyReconciler(WorkerReconciler[DesiredProxy, ObservedProxy]):
    """Reconciler of one proxy worker."""

    kind = "proxy worker"
    GRACE_S = 1.0
    REMOVALS = (StopRoute, StopConnection, StopService, StopWorker)

    def desired(self) -> DesiredProxy | None:
        desired = self._plane.configuration.proxies.get(self.key)
        return desired and desired.located(self._plane.located)

    def plan(self, desired: DesiredProxy | None, observed: ObservedProxy) -> Plan:
        return plan_proxy(desired, observed, self._expelled(observed))

    def _expelled(self, observed: ObservedProxy) -> frozenset[str]:
        """Connections to routers that have been unpaired."""
        told, configuration = observed.identities or {}, self._plane.configuration
        return frozenset(cid for cid, router in told.items() if router and not configuration.has(router))

    def may_remove(self, step: Any) -> bool:
        """A connection stays until the clients on it have gone elsewhere, which they are asked to without a route."""
        if not isinstance(step, StopConnection) or self.observed is None:
            return True
        return step.connection_id in self._expelled(self.observed) or not self.observed.uses(step.connection_id)

    def start_options(self) -> Any:
        return None

    def is_under_way(self, observed: ObservedProxy) -> bool:
        return bool(observed.leaving or observed.troubles)  # that these are over, nobody tells

    def problems(self, desired: DesiredProxy, observed: ObservedProxy) -> list[str]:
        return list(observed.troubles)

    async def observe(self, desired: DesiredProxy | None) -> ObservedProxy:
        snapshot = await self.snapshot("get_proxy_snapshot")
        if snapshot is None:
            return ObservedProxy()
        if snapshot is NO_SNAPSHOT:
            return await self._observe_one_by_one(desired)
        transport = snapshot["transports"].get(TRANSPORT_ID)
        return ObservedProxy(
            running=True,
            listening=transport is not None,
            services=frozenset(transport["services"] if transport else ()),
            connections={
                connection_id: (host, port) for connection_id, (host, port) in snapshot["connections"].items()
            },
            routes=snapshot["routes"],
            identities={
                connection_id: RouterLife(**router) if router else None
                for connection_id, router in snapshot["routers"].items()
            }
            if "routers" in snapshot
            else None,
            leaving={connection_id: frozenset(realms) for connection_id, realms in snapshot.get("leaving", {}).items()},
            most_clients=snapshot.get("most_clients"),
            troubles=tuple(snapshot.get("troubles", ())),
            limits_met=snapshot.get("limits_met", {}),
        )

    async def _observe_one_by_one(self, desired: DesiredProxy | None) -> ObservedProxy:
        """A worker of the plain release has to be asked after each thing by itself."""
        if desired is None:
            return ObservedProxy(running=True)
        connections: dict[str, Endpoint] = {}
        for connection_id in await self.call("get_proxy_connections"):
            if found := await or_none(self.call("get_proxy_connection", connection_id), NO_SUCH_OBJECT):
                connections[connection_id] = known_endpoint_of(found["config"])
        routes = {}
        for realm in await self.call("get_proxy_routes"):
            found = await or_none(self.call("list_proxy_realm_routes", realm), NO_SUCH_OBJECT)
            routes[realm] = {route["id"]: route["config"] for route in found or ()}
        listening = await or_none(self.call("get_proxy_transport", TRANSPORT_ID), NO_SUCH_OBJECT) is not None
        services = set()
        for path in desired.services if listening else ():
            if await or_none(self.call("get_web_transport_service", TRANSPORT_ID, path), NOT_RUNNING):
                services.add(path)
        return ObservedProxy(True, listening, frozenset(services), connections, routes)

    async def apply(self, desired: DesiredProxy, step: Any) -> None:
        match step:
            case StartConnection(connection_id, endpoint, identity):
                config = _connection_config(connection_id, endpoint, identity)
                await self.call("start_proxy_connection", connection_id, config)
            case RepointConnection():
                await self._repoint(step)
            case StartRoute(realm, connection_id, roles):
                await self.call("start_proxy_realm_route", realm, dict.fromkeys(roles, connection_id))
            case StartTransport():
                await self.call("start_proxy_transport", TRANSPORT_ID, _with_port(desired.transport))
            case StartService(path):
                await self.call("start_web_transport_service", TRANSPORT_ID, path, dict(desired.services[path]))
            case StopRoute(realm, route_id):
                await self.call("stop_proxy_realm_route", realm, route_id)
            case StopConnection(connection_id):
                await self.call("stop_proxy_connection", connection_id)
            case StopService(path):
                await self.call("stop_web_transport_service", TRANSPORT_ID, path)

    async def _repoint(self, step: RepointConnection) -> None:
        config = _connection_config(step.connection_id, step.endpoint, step.identity)
        try:
            await self.call("repoint_proxy_connection", step.connection_id, config)
        except NodeCallFailed as e:
            if e.error != NO_SUCH_PROCEDURE:
                raise
            raise NotAsConfigured(
                f"connection {step.connection_id} stays at {at(step.was)} although the router is at "
                f"{at(step.endpoint)} now: this proxy runs without crossbar-cluster. Install it there, or restart the "
                "proxy"
            ) from e


def _connection_config(connection_id: str, endpoint: Endpoint, identity: RouterLife | None) -> dict[str, Any]:
    host, port = endpoint
    where = {"type": "tcp", "host": host, "port": port, "timeout": CONNECT_TIMEOUT_S}
    return {
        "router": asdict(identity) if identity else None,  # the plain release passes over it
        "transport": {"type": "rawsocket", "endpoint": where, "url": f"ws://{connection_id}", "serializer": "cbor"},
        "auth": {METHOD: {"type": "static"}},
    }


def _with_port(transport: Any) -> dict[str, Any]:
    """The transport's configuration with a port; where none is configured, one that is free here, as in the release."""
    endpoint = dict(transport["endpoint"])
    if "port" not in endpoint:
        endpoint["port"] = get_free_tcp_port()
    return {**transport, "endpoint": endpoint, "paths": {}}
