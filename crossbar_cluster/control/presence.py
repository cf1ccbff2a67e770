"""Which nodes of a management realm are there, and which workers they run.

Triggered by the events of management sessions and, since events can be missed, by the list of sessions with each sweep.
Its work ends with telling the control plane to look at a node.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, Protocol
from uuid import UUID

from twisted.internet.defer import Deferred, DeferredList

from crossbar_cluster.control.authentication import KNOWS_MASTER_BY, NODE_ROLE
from crossbar_cluster.control.configuration import NodeRecord
from crossbar_cluster.control.guard import detached
from crossbar_cluster.control.nodes import NodeCallFailed, NodeCalls
from crossbar_cluster.control.reader import ConfigurationReader
from crossbar_cluster.core.news import Seldom
from crossbar_cluster.core.sessions import NodeSessions

CONTROLLER = "controller"  #: what nodes call the worker that they are themselves, in its heartbeats
#: Of one node: it may tell of any number.
WORKERS_AT_MOST = 1000
ASKED_AGAIN_S = 60.0
TOLD_EACH_S = 60.0
#: A node of the plain release registers its procedures one by one.
QUIET_S = 0.02


class Listener(Protocol):
    """Who is told: the control plane."""

    def look_at(self, node: NodeRecord, quiet_s: float, *, is_news: bool) -> None:
        """Something has happened to the node or its workers."""

    def node_began(self, node_oid: UUID) -> None:
        """The node has a new session: it may have booted anew."""

    def node_ended(self, node_oid: UUID) -> None:
        """The node is offline now."""

    def workers_found(self, node: NodeRecord, routers: Iterable[str], proxies: Iterable[str]) -> None:
        """All router and proxy workers that run on the node."""


class NodePresence:
    """The nodes that are there. Nodes are told apart by the authid of their session, which they have proven."""

    def __init__(
        self,
        listener: Listener,
        calls: NodeCalls,
        reader: ConfigurationReader,
        log: Any,
        seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        self._seconds = seconds
        self._listener = listener
        self._calls = calls
        self._reader = reader
        self._log = log
        self._sessions = NodeSessions()
        self._oids: dict[str, UUID] = {}  #: of the nodes that are there: one that is unpaired loses its name on record
        self._known_by: dict[str, str] = {}  #: of nodes that are there: where they have this master's key from
        self._undiscovered: dict[UUID, NodeRecord] = {}  #: nodes that have not told yet which workers they run
        self._asked: dict[UUID, bool] = {}  #: nodes that are being asked for them -> whether to ask once more then
        self._asked_again = Seldom(ASKED_AGAIN_S)
        self._workers: dict[UUID, frozenset[str]] = {}  #: of the nodes that are there, as far as they have told
        self._told = Seldom(TOLD_EACH_S)

    def is_online(self, authid: str) -> bool:
        return self._sessions.is_online(authid)

    def since(self, authid: str) -> int | None:
        """Since when the node is online, or offline (ns since the epoch). None: it has not been seen."""
        return self._sessions.since(authid)

    def knows_master_by(self, authid: str) -> str | None:
        """Where a node that is there has this master's key from; None: it has not said, and demands no proof of it."""
        return self._known_by.get(authid)

    def authid_of(self, session: int) -> str | None:
        """The node that has this session."""
        return self._sessions.authid_of(session)

    def is_discovered(self, node_oid: UUID) -> bool:
        """Whether it is known what runs on the node."""
        return node_oid not in self._undiscovered

    def oid_of(self, authid: str) -> UUID | None:
        """The node of that name, if it is there."""
        return self._oids.get(authid)

    def runs(self, authid: str, worker: str) -> bool:
        """Whether a node that is there has told that it runs a worker. If not, it is asked again, now and then."""
        oid = self._oids.get(authid)
        if oid is None or worker == CONTROLLER or worker in self._workers.get(oid, ()):
            return oid is not None
        if oid not in self._undiscovered and self._asked_again.due(oid, self._seconds()):
            detached(self._learn(authid, oid), self._log)
        return False

    async def _learn(self, authid: str, oid: UUID) -> None:
        """Ask a node which workers it runs, of whatever type: somebody may have started one by hand."""
        try:
            workers = await self._calls.node(authid, "get_workers", [])
        except NodeCallFailed as e:
            self._log.debug("{error}", error=e)
            return
        if self._oids.get(authid) == oid:
            self._workers[oid] = frozenset(workers[:WORKERS_AT_MOST])

    def keep(self, authids: Collection[str]) -> None:
        """Forget what is known of nodes that are not there, and none of these."""
        self._sessions.keep(authids)
        for seldom in (self._told, self._asked_again):
            seldom.tidy(self._seconds())

    # -- events -------------------------------------------------------------------------------------------------

    def joined(self, session: int, authid: str, authextra: Any = None) -> UUID | None:
        """A node has joined. :returns: the node, if it was offline until now."""
        came = self._sessions.joined(session, authid, time.time_ns())
        self._heard(authid, authextra)
        node = self._begun(authid)
        if node and not came:  # it can be called already, and may have registered nothing anew
            detached(self._discover(node), self._log)
        return node.oid if node and came else None

    def left(self, session: int) -> UUID | None:
        """A session has ended. :returns: the node, if it is offline now."""
        authid = self._sessions.left(session, time.time_ns())
        return self._ended(authid) if authid else None

    def registered(self, authid: str) -> None:
        """A node has registered a procedure: if it is still there, it can be called now."""
        node = self._record_of(authid) if self.is_online(authid) else None
        if node:
            self._listener.look_at(node, QUIET_S, is_news=True)
            if node.oid in self._undiscovered:
                detached(self._discover(node), self._log)

    def something_ended(self, authid: str) -> None:
        """A node has reported that something on it, maybe a worker, has ended."""
        node = self._record_of(authid)
        if node:
            self._listener.look_at(node, 0.0, is_news=False)

    def _heard(self, authid: str, authextra: Any) -> None:
        knows = authextra.get(KNOWS_MASTER_BY) if isinstance(authextra, Mapping) else None
        if isinstance(knows, str):
            self._known_by[authid] = knows
        else:
            self._known_by.pop(authid, None)

    def _begun(self, authid: str) -> NodeRecord | None:
        node = self._record_of(authid)
        if node:
            self._oids[authid] = node.oid
            self._undiscovered[node.oid] = node
            self._listener.node_began(node.oid)
            self._listener.look_at(node, 0.0, is_news=True)
        return node

    def _ended(self, authid: str) -> UUID | None:
        self._known_by.pop(authid, None)
        oid = self._oids.pop(authid, None) or self._reader.oid_of(authid)
        if oid:
            self._undiscovered.pop(oid, None)
            self._workers.pop(oid, None)
            self._listener.node_ended(oid)
        return oid

    def _record_of(self, authid: str) -> NodeRecord | None:
        oid = self._reader.oid_of(authid)
        record = self._reader.read_node(oid) if oid else None
        if record is None and self._told.due(authid, self._seconds()):
            self._log.info("A node {authid} that is not paired with this management realm is ignored", authid=authid)
        return record

    # -- what events have missed --------------------------------------------------------------------------------

    async def catch_up(self) -> tuple[list[tuple[UUID, str]], list[tuple[UUID, str]]]:
        """Find the nodes that events have not told of: those that joined while the controller was starting.

        :returns: object id and authid of those that came, and of those that went. :raises NodeCallFailed:
        """
        self._sessions.begin_listing()
        listed = await self._calls.master("wamp.session.list", [NODE_ROLE])
        unknown = self._sessions.unknown(listed)
        asked = [Deferred.fromCoroutine(self._ask_for_authid(session)) for session in unknown]
        authids = [authid if told else None for told, authid in await DeferredList(asked)] if asked else []
        found = dict.fromkeys(listed) | dict(zip(unknown, authids, strict=True))
        came, gone = self._sessions.end_listing(found, time.time_ns())
        begun = [(node.oid, authid) for authid in came if (node := self._begun(authid))]
        ended = [(oid, authid) for authid in gone if (oid := self._ended(authid))]
        for node in list(self._undiscovered.values()):
            detached(self._discover(node), self._log)
        return begun, ended

    async def _ask_for_authid(self, session: int) -> str | None:
        try:
            details = await self._calls.master("wamp.session.get", session)
        except NodeCallFailed:  # it has ended meanwhile
            return None
        if details.get("authrole") != NODE_ROLE:
            return None
        self._heard(str(details["authid"]), details.get("authextra"))
        return str(details["authid"])

    async def _discover(self, node: NodeRecord) -> None:
        """Ask a node which workers it runs: some may be to run no more, stopped while it, or this master, was away.

        One that has not answered yet is asked again when it has: it may have booted anew meanwhile.
        """
        if node.oid in self._asked:
            self._asked[node.oid] = True
            return
        self._asked[node.oid] = False
        try:
            routers = await self._calls.node(node.name, "get_workers", ["router"])
            proxies = await self._calls.node(node.name, "get_workers", ["proxy"])
        except NodeCallFailed as e:  # it is asked again when it registers something, and with the sweep
            self._log.debug("{error}", error=e)
            return
        finally:
            if self._asked.pop(node.oid) and self._oids.get(node.name) == node.oid:
                detached(self._discover(node), self._log)
        if self._oids.get(node.name) != node.oid:  # it has gone meanwhile
            return
        self._undiscovered.pop(node.oid, None)
        routers, proxies = routers[:WORKERS_AT_MOST], proxies[:WORKERS_AT_MOST]
        self._workers[node.oid] = frozenset([*routers, *proxies])
        self._listener.workers_found(node, routers, proxies)
