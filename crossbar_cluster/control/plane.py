"""The control plane of a management realm: one reconciler for each worker, and what they have in common.

Owns which nodes are there, what is configured, where router workers listen, and which reconcilers there are. Triggered
by the sessions of nodes, by everything that the managers publish when configuration changes, by what nodes report, and
by a slow sweep. All of these only mark; its own pass (`_pass`) and those of the workers do the work.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from random import uniform
from typing import Any
from uuid import UUID

from autobahn.wamp.exception import TransportLost
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.task import deferLater

from crossbar_cluster.control import lifecycle
from crossbar_cluster.control.configuration import Configuration, ConfigurationReader, NodeRecord, proxy_prefix
from crossbar_cluster.control.heartbeat_logs import HeartbeatLogs, keep_from_environment
from crossbar_cluster.control.loop import CONVERGED, Outcome, ReconcileLoop, State
from crossbar_cluster.control.nodes import NodeCallFailed, NodeCalls
from crossbar_cluster.control.placements import Placements
from crossbar_cluster.control.proxy_worker import ProxyReconciler
from crossbar_cluster.control.records import record_port
from crossbar_cluster.control.router_worker import RouterReconciler
from crossbar_cluster.core.news import News
from crossbar_cluster.core.proxy import Endpoint
from crossbar_cluster.core.sessions import NodeSessions
from crossbar_cluster.core.worker import WorkerKey

SWEEP_S = (54.0, 66.0)  # between these, so that masters that were started together do not sweep together
#: Configuration is changed by several calls in a row, a node of the plain release registers its procedures one by one.
QUIET_S = 0.1
QUIET_OF_NODE_S = 0.02
PURGE_PAUSE_S = 0.1

Reconciler = RouterReconciler | ProxyReconciler
NODE_ROLE = "node"


class ControlPlane:
    """Keeps the workers of a management realm as they are configured.

    :param controller: the release's ``MrealmController``.
    :param reactor: of its process.
    :param log: a txaio logger.
    """

    def __init__(self, controller: Any, reactor: Any, log: Any) -> None:
        self.log = log
        self.reactor = reactor
        self.calls = NodeCalls(controller, reactor)
        self.configuration = Configuration()
        self.sessions = NodeSessions()
        self.reconcilers: dict[WorkerKey, Reconciler] = {}
        self.started_ns = time.time_ns()
        self.problems: list[str] = []  #: what keeps the plane itself from its work
        self._controller = controller
        self._reader = ConfigurationReader(controller)
        self.placements = Placements(
            controller.db, controller.schema, controller.gdb, controller.gschema, controller._mrealm_oid
        )
        self._nodes: dict[UUID, NodeRecord] = {}  #: records read since the configuration was
        self._endpoints: dict[WorkerKey, Endpoint] = {}  #: where router workers were last seen to listen
        self._confirmed: set[WorkerKey] = set()  #: those that have been seen to since their node is there
        self._logs = HeartbeatLogs(controller.db, controller.schema, keep_from_environment(os.environ))
        self._sweep_at_s = 0.0
        self._news = News()
        self.loop = ReconcileLoop(self._pass, reactor, self._unexpected)

    def start(self) -> None:
        self.loop.start()

    def stop(self) -> None:
        """No further work: the management session has ended, and its successor starts a plane of its own."""
        self.loop.stop()
        for reconciler in self.reconcilers.values():
            reconciler.loop.stop()

    # -- what happens -------------------------------------------------------------------------------------------

    def configuration_changed(self) -> None:
        """A management call has changed something in the database."""
        self.loop.mark(QUIET_S)

    def session_joined(self, session: int, authid: str) -> UUID | None:
        """A node has joined. :returns: the node, if it was offline until now."""
        came = self.sessions.joined(session, authid, time.time_ns())
        oid = self._look_at(authid)
        return oid if came else None

    def session_left(self, session: int) -> UUID | None:
        """A session has ended. :returns: the node, if it is offline now."""
        authid = self.sessions.left(session, time.time_ns())
        return self._gone(authid) if authid else None

    def session_registered(self, session: int) -> None:
        """A session has registered a procedure: if it is a node's, it can be called now."""
        if authid := self.sessions.authid_of(session):
            self._look_at(authid, QUIET_OF_NODE_S)

    def something_ended_on(self, authid: str) -> None:
        """A node has reported that something on it, maybe a worker, has ended."""
        self._look_at(authid)

    def backend_unreachable(self, connection_id: str) -> None:
        """A proxy has reported that it does not get through to a router worker."""
        for key, router in self.configuration.routers.items():
            if router.connection_id == connection_id:
                self._mark([key])

    def _look_at(self, authid: str, quiet_s: float = 0.0) -> UUID | None:
        oid = self._reader.oid_of(authid)
        record = self._reader.read_node(oid) if oid else None
        if record is None:
            self.log.info("A node {authid} that is not paired with this management realm is ignored", authid=authid)
            return None
        self._nodes[record.oid] = record
        self._mark((key for key in self.reconcilers if key.node_oid == record.oid), quiet_s)
        if record.oid not in self.configuration.nodes or self._is_changing():
            self.loop.mark(QUIET_S)
        return record.oid

    def _gone(self, authid: str) -> UUID | None:
        oid = self._reader.oid_of(authid)
        if oid:
            self._confirmed -= {key for key in self._confirmed if key.node_oid == oid}
            self._mark(key for key in self.reconcilers if key.node_oid == oid)
        return oid

    def _mark(self, keys: Iterable[WorkerKey], quiet_s: float = 0.0) -> None:
        for key in list(keys):
            if key in self.reconcilers:
                self.reconcilers[key].loop.mark(quiet_s)

    # -- what the reconcilers of workers need (`control.worker.Plane`) ------------------------------------------

    def node(self, oid: UUID) -> NodeRecord | None:
        return self._nodes.get(oid)

    def is_online(self, oid: UUID) -> bool:
        record = self.node(oid)
        return record is not None and self.sessions.is_online(record.name)

    def router_listens(self, key: WorkerKey, port: int | None) -> None:
        """Proxies that send clients there are pointed there at once, if that is news."""
        record = self.node(key.node_oid)
        if port is None or record is None or record.address is None:
            self._confirmed.discard(key)
            return
        endpoint = (record.address, port)
        if self._endpoints.get(key) == endpoint and key in self._confirmed:
            return
        self._endpoints[key] = endpoint
        self._confirmed.add(key)
        self._mark(proxy for proxy, desired in self.configuration.proxies.items() if desired.uses(key))
        self._record_port(key, port)

    def _record_port(self, key: WorkerKey, port: int) -> None:
        try:
            oids = (
                o for g in self.configuration.groups.values() for o, placed in g.placements.items() if placed == key
            )
            for oid in oids:
                record_port(self._controller.db, self._controller.schema, oid, key.node_oid, port, time.time_ns())
        except Exception as e:  # the record is for others to read: a full database keeps no client from its router
            self._unexpected(e)

    def router_endpoint(self, key: WorkerKey) -> tuple[Endpoint | None, bool]:
        return self._endpoints.get(key) or self.configuration.recorded.get(key), key in self._confirmed

    def settled(self) -> None:
        if self._is_changing():
            self.loop.mark(QUIET_S)

    def forget(self, key: WorkerKey) -> None:
        if self.configuration.desired(key) is None and key in self.reconcilers:
            self.reconcilers.pop(key).loop.stop()
            self._endpoints.pop(key, None)
            self._confirmed.discard(key)
            self.settled()

    def _is_changing(self) -> bool:
        return any(unit.status_name in ("STARTING", "STOPPING") for unit in self.configuration.units)

    # -- the plane's own pass -----------------------------------------------------------------------------------

    async def _pass(self) -> Outcome:
        sweeping = self.reactor.seconds() >= self._sweep_at_s
        if sweeping:
            self._sweep_at_s = self.reactor.seconds() + uniform(*SWEEP_S)
            await self._list_sessions()
        self.problems = self._settle_placements()
        self.configuration, before = self._reader.read(), self.configuration
        self._nodes = dict(self.configuration.nodes)
        self._follow(before)
        await self._advance()
        if sweeping:
            self._mark(self.reconcilers)
            Deferred.fromCoroutine(self._purge_logs())
        for problem in self._news.of([*self.problems, *self._unlinked()]):
            self.log.warn("Management realm: {problem}", problem=problem)
        again_s = self._sweep_at_s - self.reactor.seconds()
        return Outcome(State.FAILED, self.problems[0], min(again_s, 5.0)) if self.problems else _until(again_s)

    async def _list_sessions(self) -> None:
        """Find the nodes that events have not told of: those that joined while this controller was starting."""
        self.sessions.begin_listing()
        try:
            listed = await self.calls.master("wamp.session.list", [NODE_ROLE])
            unknown = self.sessions.unknown(listed)
            asked = [Deferred.fromCoroutine(self._authid_of(session)) for session in unknown]
            authids = [authid for _, authid in await DeferredList(asked)] if asked else []
        except NodeCallFailed as e:
            self._unexpected(e)
            return
        found = dict.fromkeys(listed) | dict(zip(unknown, authids, strict=True))
        came, gone = self.sessions.end_listing(found, time.time_ns())
        for authid in came:
            if oid := self._look_at(authid):
                await self._controller.node_came(oid, authid)
        for authid in gone:
            if oid := self._gone(authid):
                await self._controller.node_went(oid, authid)

    async def _authid_of(self, session: int) -> str | None:
        try:
            details = await self.calls.master("wamp.session.get", session)
        except NodeCallFailed:  # it has ended meanwhile
            return None
        return str(details["authid"]) if details.get("authrole") == NODE_ROLE else None

    def _settle_placements(self) -> list[str]:
        try:
            changes = self.placements.settle()
        except Exception as e:
            self.log.debug("placements: {error!r}", error=e)
            return [f"placements of router workers cannot be brought in line: {e!r}. Is the master's database full?"]
        for change in changes:
            self.log.info("{change}", change=change)
        return []

    def _follow(self, before: Configuration) -> None:
        """Have a reconciler for each worker that is to run, and let those look whose configuration is another."""
        routers = {key: (RouterReconciler, desired) for key, desired in self.configuration.routers.items()}
        proxies = {key: (ProxyReconciler, desired) for key, desired in self.configuration.proxies.items()}
        for key, (kind, desired) in (routers | proxies).items():
            if key not in self.reconcilers:
                self.reconcilers[key] = kind(self, key, desired.node)
                self.reconcilers[key].loop.start()
        self._mark(k for k in self.reconcilers if self.configuration.desired(k) != before.desired(k))

    def _unlinked(self) -> list[str]:
        """Realms that run on several router workers, which is nothing that the master could mend."""
        placed = {oid: len(group.placements) for oid, group in self.configuration.groups.items()}
        on = [(u.name, placed.get(u.group_oid, 0)) for u in self.configuration.units if u.active and u.group_oid]
        return [
            f"realm {name} is on {count} router workers, which are not linked with each other yet: clients on "
            "different ones cannot reach each other. Use a worker group with scale 1"
            for name, count in on
            if count > 1
        ]

    async def _purge_logs(self) -> None:
        """Delete old heartbeat logs bit by bit, giving way to everything else in between."""
        try:
            while self.loop.running and self._logs.purge_some(time.time_ns()):
                await deferLater(self.reactor, PURGE_PAUSE_S)
        except Exception as e:
            self._unexpected(e)

    async def _advance(self) -> None:
        """Put on record what has come to run, and what has come to a stop."""
        for unit, status in [(u, lifecycle.next_status(u, self.cluster())) for u in self.configuration.units]:
            now_ns = time.time_ns()
            if status is None or not lifecycle.put_on_record(
                self._controller.db, self._controller.schema, unit, status, now_ns
            ):
                continue
            topic, payload = lifecycle.event_of(unit, status, now_ns)
            self.log.info("{kind} {name} is {status} now", kind=unit.kind, name=unit.name, status=payload["status"])
            self._controller.unit_changed(unit.kind, unit.oid, stopped=payload["status"] == "STOPPED")
            try:
                self._controller.publish(f"crossbarfabriccenter.mrealm.{topic}", payload)
            except TransportLost:  # nobody to tell; and nobody waits for who listens
                return

    def proxy_workers(self, webcluster_oid: UUID, running: bool) -> list[tuple[str, str]]:
        """Node and name of each proxy worker of a web cluster. :param running: only those that were seen to run."""
        prefix = proxy_prefix(webcluster_oid)
        keys = (key for key in self.configuration.proxies if key.worker.startswith(prefix))
        return [(str(k.node_oid), k.worker) for k in keys if not running or self._is_running(k)]

    def _is_running(self, key: WorkerKey) -> bool:
        observed = self.reconcilers[key].observed if key in self.reconcilers else None
        return observed is not None and observed.running and self.is_online(key.node_oid)

    def cluster(self) -> lifecycle.Cluster:
        """The cluster as it is."""
        return lifecycle.Cluster(self.configuration, frozenset(self.reconcilers), self._is_settled, self.is_online)

    def _is_settled(self, key: WorkerKey) -> bool:
        reconciler = self.reconcilers.get(key)
        return reconciler is not None and reconciler.loop.up_to_date and reconciler.condition.state is State.CONVERGED

    def _unexpected(self, error: Exception) -> None:
        self.log.failure("The control plane met an error and goes on: {error!r}", error=error)


def _until(again_s: float) -> Outcome:
    return Outcome(CONVERGED.state, again_s=max(0.0, again_s))
