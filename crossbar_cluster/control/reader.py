"""Reads the configuration of a management realm from the master's databases, in one go, into frozen objects.

Everything is read when configuration may have changed, and with each sweep; node records, which change by a node's own
word, are also read one by one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from uuid import UUID

from cfxdb.mrealm import Permission
from cfxdb.mrealm.types import STATUS_RUNNING

from crossbar_cluster.control.configuration import ACTIVE, Configuration, Group, NodeRecord, Unit
from crossbar_cluster.core.address import InvalidAddress, parse_address
from crossbar_cluster.core.proxy import (
    OF_SERVICE_RECORD,
    TRANSPORT_ID,
    Backend,
    DesiredProxy,
    Endpoint,
    RoutedRealm,
    proxy_prefix,
)
from crossbar_cluster.core.router import (
    DISCLOSED,
    REALM_PREFIX,
    RLINK_ROLE,
    ROLE_PREFIX,
    VERBS,
    DesiredRouter,
    Realm,
    Role,
    connection_id,
)
from crossbar_cluster.core.worker import LISTEN_BACKLOG, WorkerKey

_NIL = UUID(int=0)


class ConfigurationReader:
    """Reads the configuration of one management realm.

    :param controller: the release's ``MrealmController``, for its databases and their schemas.
    """

    def __init__(self, controller: Any) -> None:
        self._db, self._schema = controller.db, controller.schema
        self._gdb, self._gschema = controller.gdb, controller.gschema
        self._mrealm_oid: UUID = controller._mrealm_oid

    def read_node(self, oid: UUID) -> NodeRecord | None:
        """A node's record; None: there is none, or the node is not paired with this management realm."""
        with self._gdb.begin() as txn:
            return self._node(self._gschema.nodes[txn, oid])

    def oid_of(self, authid: str) -> UUID | None:
        """Object id of the node with that authid."""
        with self._gdb.begin() as txn:
            oid: UUID | None = self._gschema.idx_nodes_by_authid[txn, (self._mrealm_oid, authid)]
            return oid

    def last_write(self) -> int:
        """Number of the last transaction that wrote to the global database, by whatever process."""
        return int(self._gdb._env.info()["last_txnid"])

    def read(self) -> Configuration:
        """Read all of it. No remote call is made meanwhile."""
        with self._gdb.begin() as txn:
            records = [self._node(self._gschema.nodes[txn, oid]) for oid in self._node_oids(txn)]
        nodes = {record.oid: record for record in records if record}
        with self._db.begin() as txn:
            return _Reading(self._schema, txn, nodes).configuration()

    def _node_oids(self, txn: Any) -> list[UUID]:
        index = self._gschema.idx_nodes_by_authid
        return list(
            index.select(txn, from_key=(self._mrealm_oid, ""), to_key=(_after(self._mrealm_oid), ""), return_keys=False)
        )

    def _node(self, node: Any) -> NodeRecord | None:
        if node is None or node.mrealm_oid != self._mrealm_oid or not node.authid:
            return None
        extra = node.authextra or {}
        source, since = extra.get("cluster_ip_source"), extra.get("cluster_ip_since")
        return NodeRecord(node.oid, node.authid, node.pubkey, _address(node.cluster_ip), source, since)


def services_of(db: Any, schema: Any, webcluster_oid: str) -> dict[str, str]:
    """Path -> object id of each web service of a web cluster."""
    oid = UUID(webcluster_oid)
    with db.begin() as txn:
        found = schema.idx_webservices_by_path.select(txn, from_key=(oid, ""), to_key=(_after(oid), ""))
        return {path: str(service_oid) for (_, path), service_oid in found}


class _Reading:
    """One reading of the management realm's database, within one transaction."""

    def __init__(self, schema: Any, txn: Any, nodes: Mapping[UUID, NodeRecord]) -> None:
        self._schema = schema
        self._txn = txn
        self._nodes = nodes
        self._arealms = list(schema.arealms.select(txn, return_keys=False))
        self._roles: dict[UUID, Role | None] = {}
        self._recorded: dict[WorkerKey, Endpoint] = {}
        self._conflicts: list[str] = []

    def configuration(self) -> Configuration:
        groups = {
            g.oid: g for g in map(self._group, self._schema.router_workergroups.select(self._txn, return_keys=False))
        }
        realms = {a.oid: self._realm(a) for a in self._one_of_a_name() if a.workergroup_oid in groups}
        webclusters = list(self._schema.webclusters.select(self._txn, return_keys=False))
        proxies_of = {w.oid: {p.key: p for p in self._proxies(w, realms, groups)} for w in webclusters}
        proxies = {key: proxy for of_one in proxies_of.values() for key, proxy in of_one.items()}
        routers = {router.key: router for router in self._routers(realms, groups, proxies)}
        units = [*self._realm_units(groups, proxies_of), *self._cluster_units(groups, routers, webclusters, proxies_of)]
        return Configuration(
            self._nodes, groups, tuple(units), routers, proxies, tuple(self._conflicts), self._recorded
        )

    def _one_of_a_name(self) -> list[Any]:
        """The active realms; of those with the same name, which no router or proxy can tell apart, the first to run."""
        active = sorted(
            (a for a in self._arealms if a.status in ACTIVE), key=lambda a: (a.status != STATUS_RUNNING, a.oid)
        )
        chosen: dict[str, Any] = {}
        for arealm in active:
            if chosen.setdefault(arealm.name, arealm) is not arealm:
                self._conflicts.append(
                    f"two application realms are named {arealm.name}: {arealm.oid} is not run. Stop one of them"
                )
        return list(chosen.values())

    # -- router workers -----------------------------------------------------------------------------------------

    def _group(self, group: Any) -> Group:
        placements = {}
        for oid in self._of(self._schema.idx_clusterplacement_by_workername, group.oid, _NIL, _NIL, ""):
            placement = self._schema.router_workergroup_placements[self._txn, oid]
            if placement is not None and placement.node_oid in self._nodes:
                key = placements[oid] = WorkerKey(placement.node_oid, placement.worker_name)
                address = self._nodes[placement.node_oid].address
                if address and placement.tcp_listening_port:
                    self._recorded[key] = (address, placement.tcp_listening_port)
        return Group(group.oid, group.name, group.cluster_oid, group.scale, placements)

    def _routers(
        self, realms: Mapping[UUID, Realm], groups: Mapping[UUID, Group], proxies: Mapping[WorkerKey, DesiredProxy]
    ) -> Iterator[DesiredRouter]:
        """A router worker is to run as long as a realm runs on its group.

        Who may connect to it: the nodes of the proxies that send clients to it, each for the realms that its web
        clusters serve, and of the other workers of its group.
        """
        of_group: dict[UUID, list[Realm]] = {}
        for arealm in self._arealms:
            if arealm.oid in realms:
                of_group.setdefault(arealm.workergroup_oid, []).append(realms[arealm.oid])
        users: dict[WorkerKey, dict[UUID, set[str]]] = {}
        for proxy in proxies.values():
            for routed in proxy.realms:
                for backend in routed.backends:
                    realms_of = users.setdefault(backend.router, {})
                    realms_of.setdefault(proxy.key.node_oid, set()).add(routed.name)
        for group_oid, running in of_group.items():
            placed = groups[group_oid].placements.values()
            ordered = tuple(sorted(running, key=lambda realm: realm.id))
            for key in placed:
                serving = users.get(key, {})
                peers = {self._nodes[oid] for oid in serving.keys() | {other.node_oid for other in placed}}
                serves = tuple(sorted((self._nodes[oid].name, tuple(sorted(names))) for oid, names in serving.items()))
                keys = tuple(sorted((peer.name, peer.pubkey) for peer in peers))
                others = tuple(self._backend(other) for other in sorted(placed) if other != key)
                routers = tuple(sorted({self._nodes[other.router.node_oid].name for other in others}))
                yield DesiredRouter(key, self._nodes[key.node_oid].name, ordered, keys, others, routers, serves)

    def _backend(self, key: WorkerKey) -> Backend:
        return Backend(connection_id(self._nodes[key.node_oid].name, key.worker), key)

    def _realm(self, arealm: Any) -> Realm:
        associations = self._schema.arealm_role_associations.select(
            self._txn, from_key=(arealm.oid, _NIL), to_key=(_after(arealm.oid), _NIL), return_values=False
        )
        roles = [self._role(role_oid) for _, role_oid in associations]
        every = (_rlink_role(arealm.oid), *(role for role in roles if role))
        return Realm(f"{REALM_PREFIX}{str(arealm.oid)[:8]}", arealm.name, every)

    def _role(self, oid: UUID) -> Role | None:
        if oid not in self._roles:
            role = self._schema.roles[self._txn, oid]
            oids = self._of(self._schema.idx_permissions_by_uri, oid, "")
            permissions = [self._schema.permissions[self._txn, permission_oid] for permission_oid in oids]
            config = role and {"name": role.name, "permissions": [_permission(p) for p in permissions if p]}
            self._roles[oid] = Role(f"{ROLE_PREFIX}{str(oid)[:8]}", config) if config else None
        return self._roles[oid]

    # -- proxy workers ------------------------------------------------------------------------------------------

    def _proxies(
        self, cluster: Any, realms: Mapping[UUID, Realm], groups: Mapping[UUID, Group]
    ) -> Iterator[DesiredProxy]:
        if cluster.status not in ACTIVE:
            return
        routed = sorted(
            (self._routed(realms[a.oid], groups[a.workergroup_oid]) for a in self._arealms
             if a.oid in realms and a.webcluster_oid == cluster.oid),
            key=lambda realm: realm.name,
        )  # fmt: skip
        transport, services = _transport(cluster), self._services(cluster.oid)
        for membership in self._memberships(self._schema.webcluster_node_memberships, cluster.oid):
            if membership.node_oid in self._nodes and not membership.standby:
                for index in range(membership.parallel or 1):
                    key = WorkerKey(membership.node_oid, f"{proxy_prefix(cluster.oid)}{index}")
                    name = self._nodes[membership.node_oid].name
                    yield DesiredProxy(key, name, transport, services, tuple(routed))

    def _routed(self, realm: Realm, group: Group) -> RoutedRealm:
        backends = [self._backend(key) for key in sorted(group.placements.values())]
        clients = sorted(role.name for role in realm.roles if role.name != RLINK_ROLE)
        return RoutedRealm(realm.name, tuple(clients), tuple(backends))

    def _services(self, cluster_oid: UUID) -> dict[str, dict[str, Any]]:
        oids = self._of(self._schema.idx_webcluster_webservices, cluster_oid, _NIL)
        found = [self._schema.webservices[self._txn, oid] for oid in oids]
        return {
            service.path: {k: v for k, v in service.marshal().items() if k not in OF_SERVICE_RECORD}
            for service in found
            if service
        }

    # -- what is started and stopped as a whole -----------------------------------------------------------------

    def _realm_units(
        self, groups: Mapping[UUID, Group], proxies_of: Mapping[UUID, Iterable[WorkerKey]]
    ) -> Iterator[Unit]:
        for arealm in self._arealms:
            group = groups.get(arealm.workergroup_oid)
            routers = frozenset(group.placements.values()) if group else frozenset()
            proxies = proxies_of.get(arealm.webcluster_oid, ())
            yield Unit(
                "arealm", arealm.oid, arealm.name, arealm.status, routers.union(proxies),
                group_oid=arealm.workergroup_oid, webcluster_oid=arealm.webcluster_oid,
            )  # fmt: skip

    def _cluster_units(
        self,
        groups: Mapping[UUID, Group],
        routers: Mapping[WorkerKey, DesiredRouter],
        webclusters: list[Any],
        proxies_of: Mapping[UUID, Iterable[WorkerKey]],
    ) -> Iterator[Unit]:
        for cluster in self._schema.routerclusters.select(self._txn, return_keys=False):
            placed = (k for g in groups.values() if g.cluster_oid == cluster.oid for k in g.placements.values())
            members = self._members(self._schema.routercluster_node_memberships, cluster.oid)
            workers = frozenset(key for key in placed if key in routers)
            yield Unit("routercluster", cluster.oid, cluster.name, cluster.status, workers, members)
        for cluster in webclusters:
            members = self._members(self._schema.webcluster_node_memberships, cluster.oid)
            workers = frozenset(proxies_of[cluster.oid])
            yield Unit("webcluster", cluster.oid, cluster.name, cluster.status, workers, members)

    # -- tables -------------------------------------------------------------------------------------------------

    def _of(self, index: Any, oid: UUID, *rest: Any) -> Any:
        """The values that an index has for keys which begin with ``oid``, and for no other's."""
        return index.select(self._txn, from_key=(oid, *rest), to_key=(_after(oid), *rest), return_keys=False)

    def _memberships(self, table: Any, cluster_oid: UUID) -> Any:
        return self._of(table, cluster_oid, _NIL)

    def _members(self, table: Any, cluster_oid: UUID) -> frozenset[UUID]:
        return frozenset(m.node_oid for m in self._memberships(table, cluster_oid) if m.node_oid in self._nodes)


def _after(oid: UUID) -> UUID:
    return UUID(int=oid.int + 1)


def _address(recorded: str | None) -> str | None:
    """The address on record in its canonical spelling, which is what proxies are compared by; None: there is none."""
    try:
        return parse_address(recorded) if recorded else None
    except InvalidAddress:
        return None


def _rlink_role(arealm_oid: UUID) -> Role:
    """The role that router-to-router links have: every realm has it, and it may do everything."""
    everything = {"allow": dict.fromkeys(VERBS, True), "disclose": dict.fromkeys(DISCLOSED, True), "cache": True}
    config = {"name": RLINK_ROLE, "permissions": [{"uri": "", "match": "prefix", **everything}]}
    return Role(f"{ROLE_PREFIX}{str(arealm_oid)[:8]}_builtin_1", config)


def _permission(permission: Any) -> dict[str, Any]:
    return {
        "uri": permission.uri,
        "match": Permission.MATCH_TYPES_TOSTR[permission.match] if permission.match else None,
        "allow": {verb: bool(getattr(permission, f"allow_{verb}")) for verb in VERBS},
        "disclose": {who: bool(getattr(permission, f"disclose_{who}")) for who in DISCLOSED},
        "cache": bool(permission.cache),
    }


def _transport(cluster: Any) -> dict[str, Any]:
    """The configuration of a web cluster's transport. Without a port on record, each proxy takes a free one."""
    endpoint = {
        "type": "tcp",
        "port": int(cluster.tcp_port) if cluster.tcp_port else None,
        "shared": bool(cluster.tcp_shared),
        "interface": cluster.tcp_interface,
        "backlog": cluster.tcp_backlog or LISTEN_BACKLOG,
    }
    options = {
        "access_log": bool(cluster.http_access_log),
        "display_tracebacks": bool(cluster.http_display_tracebacks),
        "hsts": bool(cluster.http_hsts),
        "hsts_max_age": cluster.http_hsts_max_age,
        "client_timeout": cluster.http_client_timeout,
    }
    return {
        "id": TRANSPORT_ID,
        "type": "web",
        "endpoint": {k: v for k, v in endpoint.items() if v or k == "shared"},
        "paths": {},
        "options": {k: v for k, v in options.items() if v is not None},
    }
