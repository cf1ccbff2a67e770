"""The placements of router workers in the master's database: brought in line with what is configured, moved, drained.

The control plane settles them after every change of configuration and with its sweep; an operator moves and drains
them. What follows on the nodes is the business of whoever reconciles them: here ends what is desired.

A drained node has its hard limit stored as a negative number, from which the former limit can be told: -1 for none,
-1 - n for n. The release reads a limit of 0 back as none.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any, Literal
from uuid import UUID, uuid4

from cfxdb.mrealm import ApplicationRealm, RouterWorkerGroupClusterPlacement, WorkerGroupStatus

from crossbar_cluster.control.records import nodes_of
from crossbar_cluster.core.placement import (
    Change,
    InvalidMove,
    Member,
    Placed,
    Plan,
    Shortfall,
    WorkerGroup,
    evacuate,
    spread,
)

_Names = dict[UUID, str]  # of the nodes of the management realm
_UNUSED = (None, WorkerGroupStatus.NONE, ApplicationRealm.STATUS_STOPPED)


@dataclass(frozen=True)
class PlacementChange:
    """What became of a router worker; nodes by name, or by object id if they have none any more."""

    group: str
    worker: str
    what: Literal["placed", "moved", "removed"]
    from_node: str | None
    to_node: str | None

    def __str__(self) -> str:
        whence = f" from node {self.from_node}" if self.from_node else ""
        where = {"placed": f" on node {self.to_node}", "moved": f" to node {self.to_node}", "removed": ""}[self.what]
        return f"Router worker {self.worker} of worker group {self.group} is {self.what}{whence}{where}"


@dataclass(frozen=True)
class _Orphans:
    """Records whose cluster or worker group is gone, and that no application realm stands on."""

    memberships: tuple[tuple[UUID, UUID], ...]
    groups: tuple[UUID, ...]
    placements: tuple[Placed, ...]

    def __bool__(self) -> bool:
        return bool(self.memberships or self.groups or self.placements)


@dataclass(frozen=True)
class _Snapshot:
    groups: tuple[WorkerGroup, ...]
    others: tuple[Placed, ...]  #: placements of no group: they count as load
    orphans: _Orphans


class Placements:
    """All router worker groups of one management realm.

    :param db: the management realm's database (zlmdb), with its ``MrealmSchema``.
    :param gdb: the global database, with its ``GlobalSchema``: it knows the nodes.
    :param is_online: whether a node is there: those are preferred.
    """

    def __init__(
        self,
        db: Any,
        schema: Any,
        gdb: Any,
        gschema: Any,
        mrealm_oid: UUID,
        is_online: Callable[[UUID], bool] = lambda node_oid: True,
    ) -> None:
        self._is_online = is_online
        self._db, self._schema = db, schema
        self._gdb, self._gschema = gdb, gschema
        self._mrealm_oid = mrealm_oid
        #: what the last `settle` could not place, for want of members
        self.shortfalls: tuple[Shortfall, ...] = ()

    def settle(self, newcomers: Collection[UUID] = ()) -> list[PlacementChange]:
        """Bring every worker group in line; nothing is written if all are.

        Whatever an application realm stands on that is not stopped stays, even if its group or cluster is gone.

        :param newcomers: nodes that have just joined a router cluster by themselves.
        """
        names = self._node_names()
        with self._db.begin() as txn:
            snapshot = self._read(txn, names)
        plan = spread(snapshot.groups, snapshot.others, newcomers)
        self.shortfalls = plan.shortfalls
        if not (plan.changes or snapshot.orphans):
            return []
        with self._db.begin(write=True) as txn:
            snapshot = self._read(txn, names)  # again: it may have changed since
            self._remove(txn, snapshot.orphans)
            plan = spread(snapshot.groups, snapshot.others, newcomers)
            self._write(txn, plan)
        removed = [
            PlacementChange(
                placed.worker.rpartition("_")[0], placed.worker, "removed", _name(names, placed.node_oid), None
            )
            for placed in snapshot.orphans.placements
        ]
        self.shortfalls = plan.shortfalls
        return removed + _told(plan.changes, names)

    def move(self, node_oid: UUID, to: UUID | None = None) -> list[PlacementChange]:
        """Move all router workers of a node, to the best member of their cluster for each, or to node `to`.

        :raises InvalidMove: when one of them cannot go; nothing has changed then.
        """
        names = self._node_names()
        with self._db.begin(write=True) as txn:
            return self._evacuate(txn, names, node_oid, to)

    def drain(self, node_oid: UUID) -> list[PlacementChange]:
        """Let nothing be placed on a node from now on, and move what is there.

        :raises InvalidMove: as for `move`, or if the node is in no router cluster; nothing has changed then.
        """
        names = self._node_names()
        with self._db.begin(write=True) as txn:  # an exception in here takes back all of it
            self._limit(txn, names, node_oid, drained_limit)
            return self._evacuate(txn, names, node_oid, None)

    def undrain(self, node_oid: UUID) -> list[PlacementChange]:
        """Give a node its former hard limit back, and place what was waiting for it. What was moved stays away.

        :raises InvalidMove: if the node is in no router cluster.
        """
        names = self._node_names()
        with self._db.begin(write=True) as txn:
            self._limit(txn, names, node_oid, undrained_limit)
        return self.settle()

    def nodes(self) -> set[UUID]:
        """Those that router workers are placed on."""
        with self._db.begin() as txn:
            placements = self._schema.router_workergroup_placements.select(txn, return_keys=False)
            return {placement.node_oid for placement in placements}

    def name_node(self, node_oid: UUID) -> bool:
        """Whether a placement or a membership names the node, be it paired or not."""
        with self._db.begin() as txn:
            records = [
                *self._schema.router_workergroup_placements.select(txn, return_keys=False),
                *self._schema.routercluster_node_memberships.select(txn, return_keys=False),
            ]
        return any(record.node_oid == node_oid for record in records)

    def realms_on(self, group_oids: set[UUID]) -> list[tuple[str, str]]:
        """Name and status of the application realms that are not stopped and stand on one of the groups."""
        with self._db.begin() as txn:
            return sorted(
                (realm.name, ApplicationRealm.STATUS_BY_CODE[realm.status])
                for realm in self._realms_in_use(txn)
                if realm.workergroup_oid in group_oids
            )

    def _node_names(self) -> _Names:
        nodes = nodes_of(self._gdb, self._gschema, self._mrealm_oid)
        return {node.oid: node.authid or str(node.oid) for node in nodes}

    def _realms_in_use(self, txn: Any) -> Iterator[Any]:
        realms = self._schema.arealms.select(txn, return_keys=False)
        return (r for r in realms if r.workergroup_oid and r.status and r.status != ApplicationRealm.STATUS_STOPPED)

    def _read(self, txn: Any, names: _Names) -> _Snapshot:
        schema = self._schema
        clusters = set(schema.routerclusters.select(txn, return_values=False))
        memberships = list(schema.routercluster_node_memberships.select(txn, return_keys=False))
        groups = list(schema.router_workergroups.select(txn, return_keys=False))
        placed_of: dict[UUID, list[Placed]] = defaultdict(list)
        for placement in schema.router_workergroup_placements.select(txn, return_keys=False):
            placed = Placed(placement.oid, placement.node_oid, placement.worker_name, fresh=not placement.status)
            placed_of[placement.worker_group_oid].append(placed)

        members: dict[UUID, dict[UUID, Member]] = defaultdict(dict)
        for membership in memberships:
            if membership.cluster_oid in clusters and membership.node_oid in names:
                member = _member(membership, names[membership.node_oid], self._is_online(membership.node_oid))
                members[membership.cluster_oid][membership.node_oid] = member

        lost_groups = {group.oid for group in groups if group.cluster_oid not in clusters}
        lost = lost_groups | (set(placed_of) - {group.oid for group in groups})
        if lost:
            lost -= {realm.workergroup_oid for realm in self._realms_in_use(txn)}
        wanted = {
            group.oid: WorkerGroup(
                group.oid, group.name, group.scale, members[group.cluster_oid], tuple(placed_of[group.oid])
            )
            for group in groups
            if group.oid not in lost
        }
        return _Snapshot(
            groups=tuple(wanted.values()),
            others=tuple(p for oid, some in placed_of.items() if oid not in lost and oid not in wanted for p in some),
            orphans=_Orphans(
                memberships=tuple((m.cluster_oid, m.node_oid) for m in memberships if m.cluster_oid not in clusters),
                groups=tuple(lost_groups & lost),
                placements=tuple(placed for oid in lost for placed in placed_of[oid]),
            ),
        )

    def _evacuate(self, txn: Any, names: _Names, node_oid: UUID, to: UUID | None) -> list[PlacementChange]:
        snapshot = self._read(txn, names)
        changes = evacuate(snapshot.groups, node_oid, to, others=snapshot.others, names=names)
        self._write(txn, Plan(changes, ()))
        return _told(changes, names)

    def _limit(self, txn: Any, names: _Names, node_oid: UUID, new: Callable[[int | None], int | None]) -> None:
        table = self._schema.routercluster_node_memberships
        memberships = [m for m in table.select(txn, return_keys=False) if m.node_oid == node_oid]
        if not memberships:
            raise InvalidMove(
                f"node {_name(names, node_oid)} is in no router cluster: there is nothing to drain or undrain"
            )
        for membership in memberships:
            membership.hardlimit = new(membership.hardlimit)
            table[txn, (membership.cluster_oid, node_oid)] = membership

    def _remove(self, txn: Any, orphans: _Orphans) -> None:
        for placed in orphans.placements:
            del self._schema.router_workergroup_placements[txn, placed.oid]
        for group_oid in orphans.groups:
            del self._schema.router_workergroups[txn, group_oid]
        for key in orphans.memberships:
            del self._schema.routercluster_node_memberships[txn, key]

    def _write(self, txn: Any, plan: Plan) -> None:
        table, now_ns = self._schema.router_workergroup_placements, time.time_ns()
        for change in plan.changes:
            if change.to_node is None:
                del table[txn, change.placement_oid]
                continue
            if change.placement_oid is None:
                placement = RouterWorkerGroupClusterPlacement(
                    oid=uuid4(),
                    worker_group_oid=change.group_oid,
                    cluster_oid=self._schema.router_workergroups[txn, change.group_oid].cluster_oid,
                    worker_name=change.worker,
                )
            else:
                placement = table[txn, change.placement_oid]
            placement.node_oid = change.to_node
            placement.tcp_listening_port = 0
            # no status at all: it has not been started since it was placed (`Placed.fresh`)
            placement.status = None if change.fresh else WorkerGroupStatus.STOPPED
            placement.changed = now_ns
            table[txn, placement.oid] = placement


def is_drained(hardlimit: int | None) -> bool:
    return hardlimit is not None and hardlimit < 0


def drained_limit(hardlimit: int | None) -> int | None:
    """How the hard limit of a drained node is stored."""
    return hardlimit if is_drained(hardlimit) else -1 - (hardlimit or 0)


def undrained_limit(hardlimit: int | None) -> int | None:
    """The hard limit that a node had before it was drained."""
    return hardlimit if hardlimit is None or hardlimit >= 0 else (-1 - hardlimit) or None


def _member(membership: Any, name: str, online: bool) -> Member:
    limit = 0 if is_drained(membership.hardlimit) else membership.hardlimit
    return Member(membership.node_oid, name, membership.softlimit, limit, online)


def _name(names: _Names, node_oid: UUID) -> str:
    return names.get(node_oid, str(node_oid))


def _told(changes: tuple[Change, ...], names: _Names) -> list[PlacementChange]:
    told = []
    for change in changes:
        from_node = None if change.from_node is None else _name(names, change.from_node)
        to_node = None if change.to_node is None else _name(names, change.to_node)
        what: Literal["placed", "moved", "removed"] = (
            "placed" if from_node is None else "removed" if to_node is None else "moved"
        )
        told.append(PlacementChange(change.group, change.worker, what, from_node, to_node))
    return told
