"""On which nodes the router workers of the worker groups belong, and the changes that get them there.

Two planners, both pure: `spread` brings all worker groups of a management realm in line with what is configured,
`evacuate` empties one node because an operator says so. The order in which a worker's node is chosen: the node with the
fewest workers of the same group, then one below its soft limit, then the one with the least router workers altogether,
then by name. A hard limit is never exceeded.

What has once been started stays where it is as long as its node is a member of the cluster: clients are on it. A worker
that has not (`fresh`) makes way if it shares its node with another one of its group and a member has none: so a group
that was configured before its nodes is spread over them, in whatever order they come. One that has makes way as well
if that member has just joined the cluster by itself (a newcomer): else a group whose first node came a little sooner
than the others would stay there as a whole. A node that is away keeps what is placed on it; of two that could take a
worker, the one that is there gets it. When a group shrinks, those go that are missed least (`_Board.trim`), and the
others stay where they are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID


class InvalidMove(ValueError):
    """Workers cannot be moved as asked; the message says which, why, and what to do."""


class NoCapacity(InvalidMove):
    """No member of the cluster may take a worker."""


@dataclass(frozen=True)
class Member:
    """A node of a router cluster. Its limits count router workers of all groups and clusters on it."""

    node_oid: UUID
    name: str
    softlimit: int | None = None  #: from here on, nodes below theirs are preferred
    hardlimit: int | None = None  #: nothing is placed there from here on; 0: the node is drained
    online: bool = True  #: whether it is there now: one that is gets a worker sooner than one that is to come


@dataclass(frozen=True)
class Placed:
    """A router worker and its node, as the database has them."""

    oid: UUID
    node_oid: UUID
    worker: str
    fresh: bool = False  #: not started since it was placed


@dataclass(frozen=True)
class WorkerGroup:
    """A router worker group with the members of its cluster."""

    oid: UUID
    name: str
    scale: int
    members: Mapping[UUID, Member] = field(default_factory=dict)  #: by node
    placements: tuple[Placed, ...] = ()


@dataclass(frozen=True)
class Change:
    """A worker is placed (no `from_node`), moved, or removed (no `to_node`)."""

    group_oid: UUID
    group: str
    worker: str
    placement_oid: UUID | None  #: None: it is new
    from_node: UUID | None
    to_node: UUID | None
    fresh: bool = False  #: what the worker is to be marked as


@dataclass(frozen=True)
class Shortfall:
    """What a group lacks because no member may take it."""

    group_oid: UUID
    group: str
    missing: int  #: workers without a placement
    stranded: tuple[Placed, ...]  #: workers on nodes that are no members; they stay there until one has room


@dataclass(frozen=True)
class Plan:
    changes: tuple[Change, ...]
    shortfalls: tuple[Shortfall, ...]


@dataclass
class _Piece:
    """A worker while it is being planned."""

    was: Placed | None
    node_oid: UUID
    worker: str
    fresh: bool

    @property
    def number(self) -> tuple[int, str]:
        suffix = self.worker.rpartition("_")[2]
        return int(suffix) if suffix.isdecimal() else 0, self.worker


class _Board:
    """All workers on all nodes, moved about until they are right; what has changed is told at the end."""

    def __init__(
        self, groups: Iterable[WorkerGroup], others: Iterable[Placed], newcomers: Collection[UUID] = ()
    ) -> None:
        self.newcomers = newcomers
        self.groups = sorted(groups, key=lambda group: (group.name, group.oid))
        self.pieces = {
            group.oid: [_Piece(p, p.node_oid, p.worker, p.fresh) for p in sorted(group.placements, key=_by_worker)]
            for group in self.groups
        }
        there = [*others, *(placed for group in self.groups for placed in group.placements)]
        self.load = Counter(placed.node_oid for placed in there)
        self.workers = Counter((placed.node_oid, placed.worker) for placed in there)
        self.names = {placed.worker for placed in there}

    def held(self, group: WorkerGroup) -> Counter[UUID]:
        return Counter(piece.node_oid for piece in self.pieces[group.oid])

    def room(self, group: WorkerGroup, worker: str, but: UUID | None = None) -> Member | None:
        """The member that takes the worker; `but`: any but this node."""
        held = self.held(group)

        def preference(member: Member) -> tuple[Any, ...]:
            load = self.load[member.node_oid]
            crowded = member.softlimit is not None and load >= member.softlimit
            return held[member.node_oid], not member.online, crowded, load, member.name, member.node_oid

        able = (m for m in group.members.values() if m.node_oid != but and self.may_take(m, worker))
        return min(able, key=preference, default=None)

    def may_take(self, member: Member, worker: str) -> bool:
        """Two workers of one name cannot run on one node, not even for two clusters."""
        within = member.hardlimit is None or self.load[member.node_oid] < member.hardlimit
        return within and not self.workers[member.node_oid, worker]

    def count(self, piece: _Piece, by: int) -> None:
        self.load[piece.node_oid] += by
        self.workers[piece.node_oid, piece.worker] += by

    def move(self, piece: _Piece, to: UUID, fresh: bool) -> None:
        self.count(piece, -1)
        piece.node_oid, piece.fresh = to, fresh
        self.count(piece, +1)

    def stranded(self, group: WorkerGroup) -> list[_Piece]:
        return [piece for piece in self.pieces[group.oid] if piece.node_oid not in group.members]

    def trim(self, group: WorkerGroup) -> None:
        """Down to scale go those that are missed least.

        These are, in this order: stranded workers, those whose node is away, fresh ones, those on the node that has
        most of the group, those on the node that has most altogether, high numbers.
        """
        pieces = self.pieces[group.oid]
        while len(pieces) > group.scale:
            held = self.held(group)

            def dispensable(piece: _Piece, held: Counter[UUID] = held) -> tuple[Any, ...]:
                member = group.members.get(piece.node_oid)
                away = member is not None and not member.online
                node = piece.node_oid
                return member is None, away, piece.fresh, held[node], self.load[node], piece.number

            gone = max(pieces, key=dispensable)
            pieces.remove(gone)
            self.count(gone, -1)

    def rescue(self, group: WorkerGroup) -> bool:
        """Workers on nodes that are no members go to one that is."""
        rescued = False
        for piece in self.stranded(group):
            if member := self.room(group, piece.worker):
                self.move(piece, member.node_oid, fresh=True)
                rescued = True
        return rescued

    def fill(self, group: WorkerGroup) -> bool:
        """New workers up to scale. Names are unique in the whole management realm: clusters may share a node."""
        pieces, number, filled = self.pieces[group.oid], 1, False
        while len(pieces) < group.scale:
            while (worker := f"{group.name}_{number}") in self.names:
                number += 1
            if not (member := self.room(group, worker)):
                break
            pieces.append(_Piece(None, member.node_oid, worker, fresh=True))
            self.names.add(worker)
            self.count(pieces[-1], +1)
            filled = True
        return filled

    def part(self, group: WorkerGroup) -> bool:
        """Workers that share a node with another one of their group go to a member that has none.

        Those that have been started go to newcomers only.
        """
        held, parted = self.held(group), False
        for piece in sorted(self.pieces[group.oid], key=lambda piece: piece.number, reverse=True):
            if held[piece.node_oid] < 2:
                continue
            member = self.room(group, piece.worker, but=piece.node_oid)
            if member and not held[member.node_oid] and (piece.fresh or member.node_oid in self.newcomers):
                self.move(piece, member.node_oid, fresh=True)
                held, parted = self.held(group), True
        return parted

    def changes(self) -> tuple[Change, ...]:
        return tuple(change for group in self.groups for change in self._changes(group))

    def _changes(self, group: WorkerGroup) -> Iterable[Change]:
        stays = {piece.was.oid for piece in self.pieces[group.oid] if piece.was}
        for placed in sorted(group.placements, key=_by_worker):
            if placed.oid not in stays:
                yield Change(group.oid, group.name, placed.worker, placed.oid, placed.node_oid, None)
        for piece in self.pieces[group.oid]:
            oid, before = (piece.was.oid, piece.was.node_oid) if piece.was else (None, None)
            if piece.node_oid != before:
                yield Change(group.oid, group.name, piece.worker, oid, before, piece.node_oid, piece.fresh)

    def shortfalls(self) -> tuple[Shortfall, ...]:
        found = []
        for group in self.groups:
            stranded = tuple(piece.was for piece in self.stranded(group) if piece.was)
            missing = max(0, group.scale - len(self.pieces[group.oid]))
            if stranded or missing:
                found.append(Shortfall(group.oid, group.name, missing, stranded))
        return tuple(found)


def _by_worker(placed: Placed) -> tuple[str, UUID]:
    return placed.worker, placed.oid


def spread(groups: Iterable[WorkerGroup], others: Iterable[Placed] = (), newcomers: Collection[UUID] = ()) -> Plan:
    """Bring all worker groups in line; what the plan leads to plans to nothing.

    :param others: further placements in the database, which belong to none of the groups: they count as load.
    :param newcomers: nodes that have just joined their cluster.
    """
    board = _Board(groups, others, newcomers)
    for group in board.groups:
        board.trim(group)
    changed = True
    while changed:  # what one group frees on a node another one may have waited for; each turn mends something for good
        turn = [step(group) for step in (board.rescue, board.fill, board.part) for group in board.groups]
        changed = any(turn)
    return Plan(board.changes(), board.shortfalls())


def evacuate(
    groups: Iterable[WorkerGroup],
    node_oid: UUID,
    to: UUID | None = None,
    *,
    others: Iterable[Placed] = (),
    names: Mapping[UUID, str],
) -> tuple[Change, ...]:
    """Move every worker of a node to other members of its cluster: to one of them, or to the best for each.

    What is moved is not fresh: it stays where the operator has put it.

    :param names: of the nodes, for messages.
    :raises InvalidMove: when one of the workers cannot go; then none does.
    """
    board = _Board(groups, others)
    node = names.get(node_oid, str(node_oid))
    if to == node_oid:
        raise InvalidMove(f"node {node} cannot be both where workers are moved from and where they are moved to")
    for group in board.groups:
        for piece in [piece for piece in board.pieces[group.oid] if piece.node_oid == node_oid]:
            board.move(piece, _destination(board, group, piece, to, node, names), fresh=False)
    return board.changes()


def _destination(
    board: _Board, group: WorkerGroup, piece: _Piece, to: UUID | None, node: str, names: Mapping[UUID, str]
) -> UUID:
    what = f"router worker {piece.worker} (worker group {group.name}) cannot be moved from node {node}"
    if to is None:
        if member := board.room(group, piece.worker, but=piece.node_oid):
            return member.node_oid
        raise NoCapacity(
            f"{what}: no other node of its router cluster may take it. Add a node to the cluster, raise a "
            "hard limit or undrain a node, then try again"
        )
    target = names.get(to, str(to))
    member = group.members.get(to)
    if member is None:
        raise InvalidMove(f"{what} to node {target}, which is not in its router cluster: add it to the cluster first")
    if not board.may_take(member, piece.worker):
        why = (
            "runs a worker of that name already"
            if board.workers[to, piece.worker]
            else "is drained"
            if member.hardlimit == 0
            else f"has reached its hard limit of {member.hardlimit}"
        )
        raise NoCapacity(f"{what} to node {target}, which {why}: choose another node or change that")
    return to
