"""Nodes that have paired themselves by a token and do not come back: forgotten after a while.

A proxy that is scaled away, or replaced, never returns: its successor has another name and key. So what it leaves
behind would grow with every deployment. Only such nodes are forgotten that would pair themselves, and join their
clusters, anew: none that a router worker is placed on, and none that somebody has made a member of a router cluster.

Triggered by the control plane's sweep; ends with the records gone and the control plane told to look.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

from crossbar_cluster.control.hours import Hours
from crossbar_cluster.control.memberships import Memberships
from crossbar_cluster.control.pairing import Pairings
from crossbar_cluster.control.placements import Placements
from crossbar_cluster.control.records import nodes_of
from crossbar_cluster.control.token_pairing import PAIRED_BY, TOKEN

#: How long such a node may be away; 0: for ever.
FORGET = Hours("CROSSBAR_CLUSTER_FORGET_HOURS", 1.0)


class GoneNodes:
    """The nodes of one management realm.

    :param controller: the release's ``MrealmController``.
    :param away_ns: since when a node (authid) is away, in ns since the epoch; None: it is there.
    """

    def __init__(
        self,
        controller: Any,
        memberships: Memberships,
        placements: Placements,
        forget_after_s: float,
        away_ns: Callable[[str], int | None],
    ) -> None:
        self._gdb, self._gschema = controller.gdb, controller.gschema
        self._mrealm_oid = controller._mrealm_oid
        self._pairings = Pairings(controller, controller.gdb, controller.gschema)
        self._memberships = memberships
        self._placements = placements
        self._away_ns = away_ns
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

    async def forget(self, now_ns: int, reactor: Any) -> list[str]:
        """Forget those that have been away for too long. :returns: their names."""
        forgotten = []
        for oid, node in self.unmissed().items():
            if not self._is_overdue(self._away_ns(node.authid), now_ns) or oid not in self.unmissed():
                continue
            paired = self._pairings.of(str(oid))
            self._memberships.leave_all(oid)
            if paired and self._delete(oid, node.pubkey):
                forgotten.append(node.authid)
                self._log.info("Node {name} is forgotten: it has been away for too long", name=node.authid)
                # Should it have come back at this very moment, it has a session without a record: it is to try again.
                await self._pairings.close_sessions(paired, reactor)
        return forgotten

    def _is_overdue(self, away_ns: int | None, now_ns: int) -> bool:
        return away_ns is not None and now_ns - away_ns > self.forget_after_s * 1e9

    def _delete(self, node_oid: UUID, pubkey: str) -> bool:
        with self._gdb.begin(write=True) as txn:
            node = self._gschema.nodes[txn, node_oid]
            if node is None or node.pubkey != pubkey or node.mrealm_oid != self._mrealm_oid:
                return False
            del self._gschema.nodes[txn, node_oid]
        return True
