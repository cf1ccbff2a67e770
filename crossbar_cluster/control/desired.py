"""What the master's database says of an application realm, read in one go into a frozen `DesiredRealm`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import UUID

from cfxdb.mrealm import ApplicationRealm, Permission

from crossbar_cluster.core.address import InvalidAddress, parse_address
from crossbar_cluster.core.realm import DesiredRealm, Placement, ProxyWorker, Role

_NIL = UUID(int=0)

_VERBS = ("call", "register", "publish", "subscribe")
_WHO = ("caller", "publisher")


def _after(oid: UUID) -> UUID:
    return UUID(int=oid.int + 1)


def read_realm(manager: Any, arealm_oid: UUID) -> DesiredRealm | None:
    """What is configured for the realm; None when it is not to be running, or has no worker group yet.

    :param manager: the release's ``ApplicationRealmManager``, for its databases.
    """
    with manager.db.begin() as txn:
        arealm = manager.schema.arealms[txn, arealm_oid]
        wanted = (ApplicationRealm.STATUS_STARTING, ApplicationRealm.STATUS_RUNNING)
        if arealm is None or arealm.status not in wanted or not arealm.workergroup_oid:
            return None
        roles = (_rlink_role(arealm_oid), *_roles(manager.schema, txn, arealm_oid))
        placements = tuple(_placements(manager.schema, txn, arealm.workergroup_oid))
        workers = tuple(_proxy_workers(manager.schema, txn, arealm.webcluster_oid))
    with manager.gdb.begin() as txn:
        nodes = {node.oid: node for node in manager.gschema.nodes.select(txn, return_keys=False)}
    return DesiredRealm(
        oid=arealm_oid,
        name=arealm.name,
        roles=roles,
        placements=tuple(
            Placement(
                oid=placement.oid,
                node_oid=placement.node_oid,
                node=nodes[placement.node_oid].authid,
                worker=placement.worker_name,
                address=_address(nodes[placement.node_oid].cluster_ip),
                port=placement.tcp_listening_port or None,
            )
            for placement in placements
            if placement.node_oid in nodes
        ),
        proxies=tuple(ProxyWorker(oid, nodes[oid].authid, worker) for oid, worker in workers if oid in nodes),
        principals=_principals(nodes.values(), arealm.name),
    )


def _address(recorded: str | None) -> str | None:
    """The address on record in its canonical spelling, which is what proxies are compared by; None: there is none."""
    try:
        return parse_address(recorded) if recorded else None
    except InvalidAddress:
        return None


def realm_is_running(manager: Any, arealm_oid: UUID, now_ns: int) -> Any:
    """Put on record that a starting realm runs. :returns: its record if that was news, else None."""
    with manager.db.begin() as txn:
        arealm = manager.schema.arealms[txn, arealm_oid]
    if arealm is None or arealm.status != ApplicationRealm.STATUS_STARTING:
        return None
    with manager.db.begin(write=True) as txn:
        arealm = manager.schema.arealms[txn, arealm_oid]
        arealm.status = ApplicationRealm.STATUS_RUNNING
        arealm.changed = now_ns
        manager.schema.arealms[txn, arealm_oid] = arealm
    return arealm


def record_port(manager: Any, placement_oid: UUID, port: int, status: int, now_ns: int) -> None:
    """Put a router worker's true listening port on record."""
    with manager.db.begin(write=True) as txn:
        placement = manager.schema.router_workergroup_placements[txn, placement_oid]
        placement.tcp_listening_port = port
        placement.status = status
        placement.changed = now_ns
        manager.schema.router_workergroup_placements[txn, placement_oid] = placement


def _rlink_role(arealm_oid: UUID) -> Role:
    """The role that router-to-router links have: every realm has it, and it may do everything."""
    everything = {"allow": dict.fromkeys(_VERBS, True), "disclose": dict.fromkeys(_WHO, True), "cache": True}
    config = {"name": "rlink", "permissions": [{"uri": "", "match": "prefix", **everything}]}
    return Role(f"rle_{str(arealm_oid)[:8]}_builtin_1", config)


def _roles(schema: Any, txn: Any, arealm_oid: UUID) -> Iterator[Role]:
    associations = schema.arealm_role_associations.select(
        txn, from_key=(arealm_oid, _NIL), to_key=(_after(arealm_oid), _NIL), return_values=False
    )
    for _, role_oid in associations:
        role = schema.roles[txn, role_oid]
        if role is not None:
            permissions = [schema.permissions[txn, oid] for oid in _permission_oids(schema, txn, role_oid)]
            config = {"name": role.name, "permissions": [_permission(p) for p in permissions if p is not None]}
            yield Role(f"rle_{str(role_oid)[:8]}", config)


def _permission_oids(schema: Any, txn: Any, role_oid: UUID) -> Any:
    return schema.idx_permissions_by_uri.select(
        txn, from_key=(role_oid, ""), to_key=(_after(role_oid), ""), return_keys=False
    )


def _permission(permission: Any) -> dict[str, Any]:
    return {
        "uri": permission.uri,
        "match": Permission.MATCH_TYPES_TOSTR[permission.match] if permission.match else None,
        "allow": {verb: bool(getattr(permission, f"allow_{verb}")) for verb in _VERBS},
        "disclose": {who: bool(getattr(permission, f"disclose_{who}")) for who in _WHO},
        "cache": bool(permission.cache),
    }


def _placements(schema: Any, txn: Any, workergroup_oid: UUID) -> Iterator[Any]:
    oids = schema.idx_clusterplacement_by_workername.select(
        txn,
        from_key=(workergroup_oid, _NIL, _NIL, ""),
        to_key=(_after(workergroup_oid), _NIL, _NIL, ""),
        return_keys=False,
    )
    for oid in oids:
        placement = schema.router_workergroup_placements[txn, oid]
        if placement is not None:
            yield placement


def _proxy_workers(schema: Any, txn: Any, webcluster_oid: UUID | None) -> Iterator[tuple[UUID, str]]:
    """Node and worker id of each proxy worker that the web cluster is to have.

    Whether one runs is asked of its node. The release's own list has only those that answered at its last 10 s tick,
    and a node that does not answer then leaves out all that come after it.
    """
    if webcluster_oid is None:
        return
    memberships = schema.webcluster_node_memberships.select(
        txn, from_key=(webcluster_oid, _NIL), to_key=(_after(webcluster_oid), _NIL), return_keys=False
    )
    for membership in memberships:
        for index in range(0 if membership.standby else membership.parallel or 1):
            yield membership.node_oid, f"cpw-{str(webcluster_oid)[:8]}-{index}"


def _principals(nodes: Any, realm: str) -> dict[str, Any]:
    """Every node may connect, with any node's key, as the release has it."""
    paired = [node for node in nodes if node.authid]
    keys = [node.pubkey for node in paired]
    return {node.authid: {"realm": realm, "role": "rlink", "authorized_keys": keys} for node in paired}
