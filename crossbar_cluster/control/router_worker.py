"""Keeps one router worker as it is configured: its process, realms, roles, and the listener for proxies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from crossbar_cluster.control.nodes import NO_SUCH_OBJECT, NO_SUCH_PROCEDURE, or_none
from crossbar_cluster.control.worker import NO_SNAPSHOT, Plane, WorkerReconciler
from crossbar_cluster.core.digest import digest
from crossbar_cluster.core.mesh import DropLink, ObservedLink, SetLink, missing_links
from crossbar_cluster.core.proof import METHOD
from crossbar_cluster.core.proxy import RouterLife
from crossbar_cluster.core.router import (
    LISTENING_PORTS,
    DesiredRouter,
    ObservedRouter,
    Peer,
    ReplaceRealm,
    StartListener,
    StartRealm,
    StartRole,
    StopRealm,
    StopRole,
    UpdatePrincipals,
    UpdateRole,
    plan_router,
    transport_id,
)
from crossbar_cluster.core.router import connection_id as name_of_connection
from crossbar_cluster.core.worker import LISTEN_BACKLOG, Grace, Plan, StopWorker, WorkerKey

#: How long clients of a node that is to connect no more may stay: longer than they may take to go elsewhere.
GUESTS_STAY_S = 30.0


class RouterReconciler(WorkerReconciler[DesiredRouter, ObservedRouter]):
    """Reconciler of one router worker. Proxies hear from the control plane where it listens."""

    kind = "router worker"
    GRACE_S = 3.0  # longer than that of proxies: they are to have forgotten what is stopped here
    REMOVALS = (StopRealm, StopRole, StopWorker, DropLink)

    def __init__(self, plane: Plane, key: WorkerKey, node: str) -> None:
        super().__init__(plane, key, node)
        self._guests_stay = Grace(GUESTS_STAY_S)
        self._still_admitted: frozenset[Peer] = frozenset()  #: although they are not of those that are to connect

    def desired(self) -> DesiredRouter | None:
        desired = self._plane.configuration.routers.get(self.key)
        return desired and desired.located(self._plane.located)

    def plan(self, desired: DesiredRouter | None, observed: ObservedRouter) -> Plan:
        links, configuration = observed.links or {}, self._plane.configuration
        expelled = (link_id for link_id, link in links.items() if link.router and not configuration.has(link.router))
        return plan_router(desired and self._admitting(desired, observed), observed, frozenset(expelled))

    def _admitting(self, desired: DesiredRouter, observed: ObservedRouter | None) -> DesiredRouter:
        return desired.admitting(observed, self._plane.configuration.peers.items(), self._still_admitted)

    def is_under_way(self, observed: ObservedRouter) -> bool:
        return bool(self._still_admitted)

    def waits(self, step: Any) -> bool:
        return super().waits(step) and not (isinstance(step, DropLink) and step.at_once)

    def start_options(self) -> Any:
        title = f"Managed router worker {self.key.worker}"
        return {"env": {"inherit": ["PYTHONPATH"]}, "title": title, "extra": {}}

    async def observe(self, desired: DesiredRouter | None) -> ObservedRouter:
        observed = await self._observe(desired)
        self._still_admitted = await self._guests(desired, observed) if desired else frozenset()
        self._plane.router_listens(self.key, observed.port, observed.life)
        return observed

    async def _observe(self, desired: DesiredRouter | None) -> ObservedRouter:
        snapshot = await self.snapshot("get_router_snapshot")
        if snapshot is None:
            return ObservedRouter()
        if snapshot is NO_SNAPSHOT:
            return await self._observe_one_by_one(desired)
        realms = {realm_id: realm["roles"] for realm_id, realm in snapshot["realms"].items()}
        listener = transport_id(self.key.worker)
        port, access = snapshot["transports"].get(listener), snapshot["access"].get(listener)
        names = {realm_id: realm["name"] for realm_id, realm in snapshot["realms"].items()}
        links = {link_id: _link(described) for link_id, described in snapshot["links"].items()}
        by_realm = bool(snapshot.get("by_realm"))  # a version before does not say
        met = snapshot.get("limits_met", {})
        return ObservedRouter(True, realms, names, port, access, snapshot["life"], links, by_realm, met)

    async def _guests(self, desired: DesiredRouter, observed: ObservedRouter) -> frozenset[Peer]:
        """Nodes that have clients there and are to connect no more: not asked for while all is as it should be."""
        as_it_should_be = observed.access in (None, digest(desired.access_on(observed)))
        guests = None if as_it_should_be else await or_none(self.call("get_router_guests"), NO_SUCH_PROCEDURE)
        leaving = frozenset((authid, key) for authid, key in guests or ()) - set(desired.peers)
        overdue, _ = self._guests_stay.due(leaving, self._plane.reactor.seconds())
        return leaving - overdue

    async def guests(self) -> frozenset[str]:
        """The nodes (authid) that have clients there. A plain release keeps those whatever becomes of their node.

        :raises NodeCallFailed: it cannot be asked.
        """
        guests = await self.snapshot("get_router_guests")
        return frozenset() if guests is None or guests is NO_SNAPSHOT else frozenset(authid for authid, _ in guests)

    async def _observe_one_by_one(self, desired: DesiredRouter | None) -> ObservedRouter:
        """A worker of the plain release has to be asked after each thing by itself."""
        transport = await or_none(self.call("get_router_transport", transport_id(self.key.worker)), NO_SUCH_OBJECT)
        realms: dict[str, dict[str, None]] = {realm_id: {} for realm_id in await self.call("get_router_realms")}
        for realm in desired.realms if desired else ():
            for role in realm.roles if realm.id in realms else ():
                if await or_none(self.call("get_router_realm_role", realm.id, role.id), NO_SUCH_OBJECT):
                    realms[realm.id][role.id] = None
        names = {realm.id: realm.name for realm in desired.realms if realm.id in realms} if desired else {}
        return ObservedRouter(True, realms, names, transport["config"]["endpoint"]["port"] if transport else None)

    async def apply(self, desired: DesiredRouter, step: Any) -> None:
        match step:
            case StartRealm(realm):
                await self.call("start_router_realm", realm.id, {"name": realm.name})
            case StartRole(realm, role):
                await self.call("start_router_realm_role", realm.id, role.id, dict(role.config))
            case ReplaceRealm(former_id, realm):
                await self.call("stop_router_realm", former_id)
                await self.call("start_router_realm", realm.id, {"name": realm.name})
            case UpdateRole(realm, role):
                await self.call("update_router_realm_role", realm.id, role.id, dict(role.config))
            case StartListener():
                await self._listen(desired)
            case UpdatePrincipals():
                access = self._admitting(desired, self.observed).access_on(self.observed)
                await self.call("update_router_principals", desired.transport_id, *access)
            case SetLink(link_id, (host, port), router):
                await self.call("set_router_link", link_id, {"host": host, "port": port, "router": asdict(router)})
            case DropLink(link_id):
                await self.call("drop_router_link", link_id)
            case StopRole(realm_id, role_id):
                await self.call("stop_router_realm_role", realm_id, role_id)
            case StopRealm(realm_id):
                await self.call("stop_router_realm", realm_id)

    async def _listen(self, desired: DesiredRouter) -> None:
        principals, routers, realms = desired.access
        auth = {"type": "static", "principals": principals, "routers": routers, "realms": realms}
        config = {"id": desired.transport_id, **listener_config(auth)}
        started = await self.call("start_router_transport", desired.transport_id, config)
        life = self.observed.life if self.observed else None
        self._plane.router_listens(self.key, int(started["config"]["endpoint"]["port"]), life)

    def may_remove(self, step: Any) -> bool:
        """What proxies still have clients on stays until those are elsewhere."""
        connection_id = name_of_connection(self.node, self.key.worker)
        if isinstance(step, StopWorker):
            return not self._plane.is_used(connection_id)
        if isinstance(step, StopRealm):
            name = self.observed.names.get(step.realm_id) if self.observed else None
            return name is None or not self._plane.is_used(connection_id, name)
        if isinstance(step, DropLink):  # clients on either router are to reach each other as long
            return step.at_once or not self._plane.is_used(step.link_id)
        return True

    def problems(self, desired: DesiredRouter, observed: ObservedRouter) -> list[str]:
        record = self._plane.node(self.key.node_oid)
        problems = missing_links(desired.links, observed.links)
        if record is not None and not record.address:
            problems.append(
                f"node {self.node} has no address on record: no proxy can reach it. Set CROSSBAR_NODE_CLUSTER_IP there"
            )
        return problems


def listener_config(auth: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration of the transport on which a router worker listens for proxies and other routers."""
    return {
        "type": "rawsocket",
        "endpoint": {"type": "tcp", "portrange": [LISTENING_PORTS[0], LISTENING_PORTS[-1]], "backlog": LISTEN_BACKLOG},
        "options": {},
        "serializers": ["cbor"],
        "auth": {METHOD: auth},
    }


def _link(described: Any) -> ObservedLink:
    """A link as its worker's snapshot has it (`links.worker.WorkerLinks.describe`)."""
    host, port = described["endpoint"]
    problems = {realm: problem for realm, problem in described["realms"].items() if problem}
    return ObservedLink((host, port), RouterLife(**described["router"]), problems)
