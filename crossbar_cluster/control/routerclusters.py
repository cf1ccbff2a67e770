"""Management calls for router clusters, where they differ from the release's.

They start with a call of a user of the management realm and end when the database says what was asked for and the event
is out. ``manager`` is the release's ``RouterClusterManager``.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any
from uuid import UUID, uuid4

from autobahn.wamp.exception import ApplicationError
from cfxdb.mrealm import RouterWorkerGroup, WorkerGroupStatus

from crossbar_cluster.control.configuration import ACTIVE
from crossbar_cluster.control.placements import PlacementChange, Placements, drained_limit, is_drained, undrained_limit
from crossbar_cluster.core.placement import InvalidMove, NoCapacity, Shortfall

Json = dict[str, Any]

MAX_SCALE = 128  # as in the release
# A worker's name becomes a component of procedure names on its node.
_GROUP_NAME = re.compile(r"[^\s.#]{1,64}")


def placements_of(manager: Any) -> Placements:
    schemas = (manager.db, manager.schema, manager.gdb, manager.gschema)
    plane = getattr(manager._session, "plane", None)  # there is none before the management session has joined
    return Placements(*schemas, manager._mrealm_oid, *([plane.is_online] if plane else []))


async def settle(manager: Any) -> tuple[list[Json], tuple[Shortfall, ...]]:
    """Bring the placements in line with what a call has changed. :returns: what became of them, and what is lacking."""
    placements = placements_of(manager)
    changes = placements.settle()
    return await _publish(manager, changes) if changes else [], placements.shortfalls


async def move(manager: Any, node: str, to: str | None) -> list[Json]:
    """Move all router workers of a node; both nodes by name or object id."""
    target = None if to is None else _find_node(manager, to)
    return await _change(manager, node, lambda placements, oid: placements.move(oid, target))


async def drain(manager: Any, node: str) -> list[Json]:
    return await _change(manager, node, Placements.drain)


async def undrain(manager: Any, node: str) -> list[Json]:
    return await _change(manager, node, Placements.undrain)


async def add_workergroup(manager: Any, routercluster_oid: str, config: Json) -> Json:
    """Store a worker group, and place its workers as far as the cluster has nodes by now."""
    cluster_oid = parse_oid(routercluster_oid, "routercluster_oid")
    group = _parse_group(config, cluster_oid)
    with manager.db.begin(write=True) as txn:
        if not manager.schema.routerclusters[txn, cluster_oid]:
            raise _no_such_cluster(cluster_oid)
        if manager.schema.idx_workergroup_by_cluster[txn, (cluster_oid, group.name)]:
            raise ApplicationError(
                "crossbar.error.already_exists", f"the router cluster has a worker group {group.name!r} already"
            )
        manager.schema.router_workergroups[txn, group.oid] = group
    await _announce(manager, "on_workergroup_added", group.marshal())
    await settle(manager)
    added: Json = group.marshal()
    return added


async def scale_workergroup(manager: Any, routercluster_oid: str, workergroup_oid: str, scale: int) -> Json:
    """Let a worker group have more or fewer workers from now on, and place or remove them.

    :returns: ``workergroup``, ``changes`` (as of `move`) and ``missing``: how many workers no node may take yet.
    """
    cluster_oid = parse_oid(routercluster_oid, "routercluster_oid")
    group_oid = parse_oid(workergroup_oid, "workergroup_oid")
    _check_scale(scale)
    with manager.db.begin(write=True) as txn:
        if not manager.schema.routerclusters[txn, cluster_oid]:
            raise _no_such_cluster(cluster_oid)
        group = manager.schema.router_workergroups[txn, group_oid]
        if group is None:
            raise ApplicationError("crossbar.error.no_such_object", f"no worker group with oid {group_oid} found")
        _check_cluster(group, cluster_oid)
        changed = group.scale != scale
        if changed:
            group.scale, group.changed = scale, time.time_ns()
            manager.schema.router_workergroups[txn, group_oid] = group
    if changed:
        await _announce(manager, "on_workergroup_scaled", group.marshal())
    changes, shortfalls = await settle(manager)
    missing = sum(shortfall.missing for shortfall in shortfalls if shortfall.group_oid == group_oid)
    return {"workergroup": group.marshal(), "changes": changes, "missing": missing}


def refuse_to_remove_group(manager: Any, routercluster_oid: str, workergroup_oid: str) -> None:
    """A worker group goes only with its own cluster's leave, and when no application realm stands on it.

    :raises ApplicationError: what else may be wrong with the call is left to the release.
    """
    cluster_oid = parse_oid(routercluster_oid, "routercluster_oid")
    group_oid = parse_oid(workergroup_oid, "workergroup_oid")
    with manager.db.begin() as txn:
        group = manager.schema.router_workergroups[txn, group_oid]
    if group is None:
        return
    _check_cluster(group, cluster_oid)
    _refuse_in_use(manager, {group_oid}, f"worker group {group.name}")


async def remove_idle_group(manager: Any, routercluster_oid: str, workergroup_oid: str, details: Any) -> Json | None:
    """Remove a worker group that no realm stands on while its cluster runs; None: the release can do it, or refuses.

    :raises ApplicationError: as of `refuse_to_remove_group`, and ``wamp.error.not_authorized``.
    """
    refuse_to_remove_group(manager, routercluster_oid, workergroup_oid)
    group_oid = parse_oid(workergroup_oid, "workergroup_oid")
    with manager.db.begin(write=True) as txn:
        cluster = manager.schema.routerclusters[txn, parse_oid(routercluster_oid, "routercluster_oid")]
        group = manager.schema.router_workergroups[txn, group_oid]
        if cluster is None or group is None or cluster.status not in ACTIVE:
            return None
        refuse_strangers(manager, cluster, details)
        del manager.schema.router_workergroups[txn, group_oid]
    removed: Json = group.marshal()
    await _announce(manager, "on_workergroup_removed", removed)
    return removed


def refuse_strangers(manager: Any, cluster: Any, details: Any) -> None:
    """As the release does: only who has made a cluster may change what is in it.

    :raises ApplicationError: ``wamp.error.not_authorized``.
    """
    with manager.gdb.begin() as txn:
        caller = manager.gschema.idx_users_by_email[txn, details.caller_authid] if details else None
    if caller is None or cluster.owner_oid != caller:
        raise ApplicationError("wamp.error.not_authorized", f"cluster {cluster.name} belongs to another user")


def refuse_to_delete_cluster(manager: Any, routercluster_oid: str) -> None:
    """:raises ApplicationError: if an application realm stands on one of its worker groups."""
    oid = parse_oid(routercluster_oid, "routercluster_oid")
    with manager.db.begin() as txn:
        cluster = manager.schema.routerclusters[txn, oid]
        groups = manager.schema.router_workergroups.select(txn, return_keys=False)
        group_oids = {group.oid for group in groups if group.cluster_oid == oid}
    if cluster:
        _refuse_in_use(manager, group_oids, f"router cluster {cluster.name}")


def node_config(manager: Any, routercluster_oid: str, node_oid: str, config: Json | None) -> Json:
    """The limits of a node in a cluster as they are stored. A node that is drained stays so, whatever its new limit."""
    config = {} if config is None else config
    if not isinstance(config, dict):
        raise ApplicationError("wamp.error.invalid_configuration", "the node's configuration is not a dictionary")
    for name in ("softlimit", "hardlimit"):
        limit = config.get(name)
        if limit is not None and (type(limit) is not int or limit < 0):
            raise ApplicationError(
                "wamp.error.invalid_configuration", f"{name} must be a number of router workers, but is {limit!r}"
            )
    key = (parse_oid(routercluster_oid, "routercluster_oid"), parse_oid(node_oid, "node_oid"))
    with manager.db.begin() as txn:
        present = manager.schema.routercluster_node_memberships[txn, key]
    hardlimit = config.get("hardlimit")
    if hardlimit == 0 or (present and is_drained(present.hardlimit)):
        return {**config, "hardlimit": drained_limit(hardlimit)}
    return config


def told_membership(membership: Json) -> Json:
    """A membership as users see it: its hard limit, and beside it whether the node is drained."""
    hardlimit = membership["hardlimit"]
    return {**membership, "hardlimit": undrained_limit(hardlimit), "drained": is_drained(hardlimit)}


async def forget_node(manager: Any, routercluster_oid: str, node_oid: str) -> Json | None:
    """Remove a node that the management realm has no more from a cluster; None: it has it, the release can do it."""
    key = (parse_oid(routercluster_oid, "routercluster_oid"), parse_oid(node_oid, "node_oid"))
    with manager.gdb.begin() as txn:
        node = manager.gschema.nodes[txn, key[1]]
    if node and node.mrealm_oid == manager._mrealm_oid:
        return None
    with manager.db.begin(write=True) as txn:
        membership = manager.schema.routercluster_node_memberships[txn, key]
        if membership is None:
            return None
        del manager.schema.routercluster_node_memberships[txn, key]
    await _announce(manager, "on_routercluster_node_removed", membership.marshal())
    forgotten: Json = membership.marshal()
    return forgotten


def members_only(manager: Any, memberships: Any, cluster_oid: str, node_oids: list[str]) -> list[UUID]:
    """Of these nodes, those that are in the cluster, each once.

    :param memberships: the table of router or web clusters' nodes.
    """
    oid = UUID(cluster_oid)
    with manager.db.begin() as txn:
        return [node for node in map(UUID, dict.fromkeys(node_oids)) if memberships[txn, (oid, node)]]


def node_names(manager: Any, node_oids: list[UUID]) -> list[str]:
    with manager.gdb.begin() as txn:
        nodes = [manager.gschema.nodes[txn, oid] for oid in node_oids]
    return sorted(node.authid for node in nodes if node and node.authid)


def parse_oid(value: Any, name: str) -> UUID:
    try:
        return UUID(value)
    except (AttributeError, TypeError, ValueError) as error:
        raise ApplicationError("wamp.error.invalid_argument", f"{name} is no object id: {value!r}") from error


def _parse_group(config: Json, cluster_oid: UUID) -> Any:
    name, scale = config.get("name"), config.get("scale")
    if name and not (isinstance(name, str) and _GROUP_NAME.fullmatch(name)):
        raise _invalid(f"its name is {name!r}, but has to have 1 to 64 characters, none of them a space, '.' or '#'")
    if scale is not None:
        _check_scale(scale)
    try:
        group = RouterWorkerGroup.parse({**config, "cluster_oid": str(cluster_oid)})
    except (AssertionError, TypeError, ValueError) as error:
        raise _invalid(str(error) or f"{config}") from error
    group.oid = uuid4()
    group.name = group.name or f"cwg_{str(group.oid)[:8]}"
    group.status = WorkerGroupStatus.STOPPED
    group.changed = time.time_ns()
    return group


def _check_scale(scale: Any) -> None:
    """:raises ApplicationError:"""
    if type(scale) is not int or not 1 <= scale <= MAX_SCALE:
        raise _invalid(f"its scale is {scale!r}, but has to be a number from 1 to {MAX_SCALE}")


def _check_cluster(group: Any, cluster_oid: UUID) -> None:
    """:raises ApplicationError: the worker group is another cluster's."""
    if group.cluster_oid != cluster_oid:
        raise ApplicationError(
            "crossbar.error.no_such_object", f"worker group {group.name} is not in router cluster {cluster_oid}"
        )


def _no_such_cluster(oid: UUID) -> ApplicationError:
    return ApplicationError("crossbar.error.no_such_object", f"no router cluster with oid {oid} found")


def _invalid(why: str) -> ApplicationError:
    return ApplicationError("wamp.error.invalid_configuration", f"the worker group's configuration is not valid: {why}")


def _refuse_in_use(manager: Any, group_oids: set[UUID], what: str) -> None:
    if realms := placements_of(manager).realms_on(group_oids):
        named = ", ".join(f"{name} ({status})" for name, status in realms)
        raise ApplicationError(
            "crossbar.error.dependent_objects", f"{what} is in use by application realm {named}: stop it first"
        )


def _find_node(manager: Any, node: Any) -> UUID:
    """The node of that name or object id. One that is paired no more is found as long as something is placed there."""
    text = str(node)
    with manager.gdb.begin() as txn:
        named: UUID | None = manager.gschema.idx_nodes_by_authid[txn, (manager._mrealm_oid, text)]
        if named:
            return named
        try:
            oid = UUID(text)
        except ValueError:
            raise _no_such_node(text) from None
        record = manager.gschema.nodes[txn, oid]
    if (record and record.mrealm_oid == manager._mrealm_oid) or placements_of(manager).name_node(oid):
        return oid
    raise _no_such_node(text)


def _no_such_node(node: str) -> ApplicationError:
    return ApplicationError(
        "crossbar.error.no_such_object", f"no node {node!r} in this management realm: give its name or its object id"
    )


async def _change(manager: Any, node: str, change: Callable[[Placements, UUID], list[PlacementChange]]) -> list[Json]:
    try:
        changes = change(placements_of(manager), _find_node(manager, node))
    except NoCapacity as error:
        raise ApplicationError("crossbar.error.no_capacity", str(error)) from error
    except InvalidMove as error:
        raise ApplicationError("crossbar.error.invalid_argument", str(error)) from error
    return await _publish(manager, changes)


async def _publish(manager: Any, changes: list[PlacementChange]) -> list[Json]:
    told = [asdict(change) for change in changes]
    await _announce(manager, "on_placements_changed", told)
    return told


async def _announce(manager: Any, event: str, payload: Any) -> None:
    await manager._session.publish(f"{manager._prefix}.{event}", payload, options=manager._PUBOPTS)
