"""What nodes tell their master by themselves: heartbeats, and reports that something of theirs has changed.

Triggered by the events that nodes publish, and by their registrations; how much of it is taken is `intake`'s. Ends with
the control plane told to look, or with a heartbeat that waits to be written. All of it is about the sender, which has
proven its name, but for one hint: that a proxy does not get through to a router.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol
from uuid import UUID

from crossbar_cluster.control.configuration import NodeRecord
from crossbar_cluster.control.heartbeats import Heartbeats
from crossbar_cluster.control.intake import TAKEN, Intake
from crossbar_cluster.control.presence import NodePresence
from crossbar_cluster.core.news import Seldom
from crossbar_cluster.core.worker import WorkerKey

#: What a node has sent too much of to be seen to at once is seen to after this time, all of it together.
LATER_S = 1.0
#: A proxy tells more often that it does not get through to a router worker.
UNREACHABLE_EACH_S = 5.0


class Plane(Protocol):
    """What is needed of the control plane."""

    @property
    def reconcilers(self) -> Mapping[WorkerKey, Any]:
        """All workers that are to run, or do."""

    def node(self, oid: UUID) -> NodeRecord | None:
        """The node as it is on record now."""

    def look_at_router(self, connection_id: str, proxy: str) -> None:
        """A proxy node (authid) does not get through to a router worker."""

    def look_at_links(self, node: str, worker: str) -> None:
        """A link of a router worker has come up, or is lost."""


class Inbox:
    """What the nodes of one management realm tell.

    :param reactor: an ``IReactorTime``.
    """

    def __init__(self, plane: Plane, presence: NodePresence, heartbeats: Heartbeats, reactor: Any, log: Any) -> None:
        self._plane = plane
        self._presence = presence
        self._heartbeats = heartbeats
        self._reactor = reactor
        self._intake = Intake(TAKEN, log)
        self._later: dict[tuple[str, str], Any] = {}
        #: nodes (authid) that are looked at soon, and for what -> delayed call
        self._unreachable = Seldom(UNREACHABLE_EACH_S)

    def stop(self) -> None:
        """Nothing is to come any more. What waits to be written is."""
        for call in self._later.values():
            call.cancel()
        self._later.clear()
        self._heartbeats.stop()

    def tidy(self) -> None:
        """Forget who has been told of, or has sent much, a while ago."""
        for kept in (self._intake, self._heartbeats, self._unreachable):
            kept.tidy(self._reactor.seconds())

    def takes(self, node: str, what: str) -> bool:
        """Whether to see to something that a node (authid) has sent, or whether it has sent too much of it."""
        return self._intake.takes(node, what, self._reactor.seconds())

    def limited(self) -> list[tuple[str, str]]:
        """The nodes (authid) that have sent too much lately, and of what."""
        return sorted(self._intake.limited(self._reactor.seconds()))

    def registered(self, session: int) -> None:
        """A session has registered a procedure. Most of them are no node's."""
        node = self._presence.authid_of(session)
        if node is not None:
            self._see_to(node, "registrations", self._presence.registered)

    def something_ended(self, node: str) -> None:
        """A node (authid) has reported that something on it, maybe a worker, has ended."""
        self._see_to(node, "events", self._presence.something_ended)

    def _see_to(self, node: str, what: str, look: Callable[[str], None]) -> None:
        if self.takes(node, what):
            look(node)
        elif (node, what) not in self._later:  # too much of it; but none of it may be the last without being seen to
            self._later[node, what] = self._reactor.callLater(LATER_S, self._look_later, node, what, look)

    def _look_later(self, node: str, what: str, look: Callable[[str], None]) -> None:
        del self._later[node, what]
        look(node)

    def backend_unreachable(self, proxy: str, connection_id: str) -> None:
        """A proxy node (authid) has reported that it does not get through to a router worker.

        A hint: the sweep comes to the same. So what is too much of it is dropped.
        """
        if self.takes(proxy, "events") and self._unreachable.due((proxy, connection_id), self._reactor.seconds()):
            self._plane.look_at_router(connection_id, proxy)

    def link_changed(self, node: str, worker: str) -> None:
        """A router worker has reported that a link of it has come up, or is lost. A hint, like the above."""
        if self.takes(node, "events"):
            self._plane.look_at_links(node, worker)

    def heartbeat(self, node: str, heartbeat: Any, worker: str | None = None) -> None:
        """A node (authid) has sent a heartbeat, of a worker or of itself. Those of workers that it has not are dropped.

        One of itself is kept if it has the node's public key in it, as in the release.
        """
        oid = self._presence.oid_of(node)
        if oid is None or not self.takes(node, "heartbeats") or not isinstance(heartbeat, dict):
            return
        if worker is None:
            record = self._plane.node(oid)
            if record is not None and heartbeat.get("pubkey") == record.pubkey:
                self._heartbeats.of_node(oid, node, heartbeat)
        elif self._presence.runs(node, worker) or WorkerKey(oid, worker) in self._plane.reconcilers:
            self._heartbeats.of_worker(oid, node, worker, heartbeat)
