"""Nodes that have paired themselves by a token and do not come back: forgotten after a while.

A proxy that is scaled away, or replaced, never returns: its successor has another name and key. So what it leaves
behind would grow with every deployment. Only such nodes are forgotten that would pair themselves, and join their
clusters, anew: none that a router worker is placed on, and none that somebody has made a member of a router cluster.
And none that others still have clients of: it serves, and only its master does not hear of it (`witnesses`).

Triggered by the control plane's sweep; ends with the records gone and the control plane told to look.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from crossbar_cluster.control.hours import Hours
from crossbar_cluster.control.memberships import Memberships
from crossbar_cluster.control.pairing import Pairings
from crossbar_cluster.control.placements import Placements
from crossbar_cluster.control.records import nodes_of
from crossbar_cluster.control.token_pairing import PAIRED_BY, TOKEN
from crossbar_cluster.control.witnesses import Sign

#: How long such a node may be away; 0: for ever.
FORGET = Hours("CROSSBAR_CLUSTER_FORGET_HOURS", 1.0)


@dataclass(frozen=True)
class Absence:
    """A node that is away. Times are the reactor's: a clock that is set, or a master that was away, is no absence."""

    since_s: float  #: when it was first found to be away
    unseen_s: float  #: since when everybody who would know has said that it is
    sign: Sign | None = None  #: why it counts as there nevertheless


class GoneNodes:
    """The nodes of one management realm.

    :param controller: the release's ``MrealmController``.
    :param is_online: whether a node (authid) has a management session.
    :param signs_of: asks who else knows of nodes (`witnesses.Witnesses.signs_of`).
    """

    def __init__(
        self,
        controller: Any,
        memberships: Memberships,
        placements: Placements,
        forget_after_s: float,
        is_online: Callable[[str], bool],
        signs_of: Callable[[Mapping[str, float]], Awaitable[Mapping[str, Sign]]],
    ) -> None:
        self._gdb, self._gschema = controller.gdb, controller.gschema
        self._mrealm_oid = controller._mrealm_oid
        self._pairings = Pairings(controller, controller.gdb, controller.gschema)
        self._memberships = memberships
        self._placements = placements
        self._is_online = is_online
        self._signs_of = signs_of
        self._absences: dict[UUID, Absence] = {}
        self._asking = False
        self.forget_after_s = forget_after_s
        self._log = controller.log

    def unmissed(self) -> dict[UUID, Any]:
        """The records (``Node``) of those that nobody misses while they are away, and that are forgotten then."""
        if not self.forget_after_s:
            return {}
        nodes = nodes_of(self._gdb, self._gschema, self._mrealm_oid)
        paired = {n.oid: n for n in nodes if n.authid and (n.authextra or {}).get(PAIRED_BY) == TOKEN}
        wanted = self._placements.nodes() | self._memberships.lasting({n.oid: n.authid for n in paired.values()})
        return {oid: node for oid, node in paired.items() if oid not in wanted}

    def sign_of(self, oid: UUID) -> Sign | None:
        """Who has clients of a node that is away; None: nobody, or it is not away."""
        absence = self._absences.get(oid)
        return absence.sign if absence and absence.sign and absence.sign.seen else None

    def is_back(self, oid: UUID) -> None:
        """The node has a session: should it go again, its absence begins anew."""
        self._absences.pop(oid, None)

    async def forget(self, reactor: Any) -> list[str]:
        """Forget those that have been away for too long. :returns: their names."""
        if self._asking:  # somebody takes long to answer
            return []
        self._asking = True
        try:
            await self._look(reactor)
        finally:
            self._asking = False
        forgotten, now_s = [], reactor.seconds()
        for oid, node in self._away().items():
            absence = self._absences.get(oid)
            if absence is None or absence.sign or now_s - absence.unseen_s <= self.forget_after_s:
                continue
            paired = self._pairings.of(str(oid))
            self._memberships.leave_all(oid)
            if paired and self._delete(oid, node.pubkey):
                forgotten.append(node.authid)
                self._absences.pop(oid, None)
                self._log.info("Node {name} is forgotten: it has been away for too long", name=node.authid)
                # Should it have come back at this very moment, it has a session without a record: it is to try again.
                await self._pairings.close_sessions(paired, reactor)
        return forgotten

    def _away(self) -> dict[UUID, Any]:
        return {oid: node for oid, node in self.unmissed().items() if not self._is_online(node.authid)}

    async def _look(self, reactor: Any) -> None:
        """Find out who is away, and who else knows of them."""
        away, now_s = self._away(), reactor.seconds()
        self._absences = {oid: self._absences.get(oid, Absence(now_s, now_s)) for oid in away}
        if not away:
            return
        signs = await self._signs_of({node.authid: self._absences[oid].since_s for oid, node in away.items()})
        now_s = reactor.seconds()
        for oid, node in away.items():
            absence, sign = self._absences.get(oid), signs.get(node.authid)
            if absence is not None:  # it may have come back meanwhile
                self._absences[oid] = Absence(absence.since_s, now_s if sign else absence.unseen_s, sign)

    def _delete(self, node_oid: UUID, pubkey: str) -> bool:
        with self._gdb.begin(write=True) as txn:
            node = self._gschema.nodes[txn, node_oid]
            if node is None or node.pubkey != pubkey or node.mrealm_oid != self._mrealm_oid:
                return False
            del self._gschema.nodes[txn, node_oid]
        return True
