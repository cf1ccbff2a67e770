"""The control plane of a management realm: one reconciler for each worker, and what they have in common.

Owns which nodes are there, what is configured, where router workers listen, and which reconcilers there are. Triggered
by the sessions of nodes, by everything that the managers publish when configuration changes, by what nodes report, and
by a slow sweep. All of these only mark; its own pass (`_pass`) and those of the workers do the work.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from random import uniform
from typing import Any
from uuid import UUID

from autobahn.wamp.exception import TransportLost
from cfxdb.mrealm.types import STATUS_STOPPED
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from crossbar_cluster.control import lifecycle
from crossbar_cluster.control.configuration import Configuration, NodeRecord, Unit
from crossbar_cluster.control.databases import databases_of, warnings_of
from crossbar_cluster.control.gone_nodes import FORGET, GoneNodes
from crossbar_cluster.control.heartbeat_logs import KEEP, HeartbeatLogs
from crossbar_cluster.control.heartbeats import Heartbeats
from crossbar_cluster.control.inbox import Inbox
from crossbar_cluster.control.loop import CONVERGED, RETRY_AT_MOST_S, Outcome, ReconcileLoop, State
from crossbar_cluster.control.memberships import Memberships
from crossbar_cluster.control.nodes import NodeCallFailed, NodeCalls
from crossbar_cluster.control.placements import Placements
from crossbar_cluster.control.presence import NodePresence
from crossbar_cluster.control.proxy_worker import ProxyReconciler
from crossbar_cluster.control.reader import ConfigurationReader
from crossbar_cluster.control.records import record_port
from crossbar_cluster.control.router_worker import RouterReconciler
from crossbar_cluster.control.witnesses import Witnesses
from crossbar_cluster.core.news import News
from crossbar_cluster.core.proxy import PROXY_PREFIX, Backend, Endpoint, ObservedProxy, RouterLife, proxy_prefix
from crossbar_cluster.core.worker import WorkerKey

SWEEP_S = (54.0, 66.0)  # between these, so that masters that were started together do not sweep together
#: Configuration is changed by several calls in a row.
QUIET_S = 0.1
PURGE_PAUSE_S = 0.1

Reconciler = RouterReconciler | ProxyReconciler


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
        self.reconcilers: dict[WorkerKey, Reconciler] = {}
        self.started_ns = time.time_ns()
        self.problems: list[str] = []  #: what keeps the plane itself from its work
        self._controller = controller
        self._reader = ConfigurationReader(controller)
        self.presence = NodePresence(self, self.calls, self._reader, log, reactor.seconds)
        self.databases = databases_of(controller)
        databases = (controller.db, controller.schema, controller.gdb, controller.gschema)
        self._memberships = Memberships(*databases, controller._mrealm_oid)
        self.placements = Placements(*databases, controller._mrealm_oid, self.is_online)
        self._nodes: dict[UUID, NodeRecord] = {}  #: records read since the configuration was
        self._listening: dict[WorkerKey, tuple[Endpoint, str | None]] = {}  #: where router workers were last seen, and
        # in which life; None: they run the plain release
        self._confirmed: set[WorkerKey] = set()  #: those that have been seen to since their node is there
        self._logs = HeartbeatLogs(controller.db, controller.schema, KEEP.seconds(os.environ))
        self._gone = GoneNodes(
            controller,
            self._memberships,
            self.placements,
            FORGET.seconds(os.environ),
            self.presence.is_online,
            Witnesses(self).signs_of,
        )
        self._unmissed: frozenset[UUID] = frozenset()  #: nodes, as of the configuration: see `GoneNodes.unmissed`
        self._purging = False
        self._read_after_write = -1  #: the last write to the global database before the configuration was read
        self._changed = True  #: configuration may have changed since it was read
        self._sweep_at_s = 0.0
        self._news = News()
        heartbeats = Heartbeats(controller.db, controller.schema, controller._mrealm_oid, reactor, log)
        self.inbox = Inbox(self, self.presence, heartbeats, reactor, log)
        self.loop = ReconcileLoop(self._pass, reactor, self._unexpected, "plane")

    def start(self) -> None:
        self.loop.start()

    def stop(self) -> None:
        """No further work: the management session has ended, and its successor starts a plane of its own."""
        self.loop.stop()
        for reconciler in self.reconcilers.values():
            reconciler.loop.stop()
        self.inbox.stop()

    # -- what happens -------------------------------------------------------------------------------------------

    def configuration_changed(self) -> None:
        """A management call has changed something in the database."""
        self._changed = True
        self.loop.mark(QUIET_S)

    def look_for_pairings(self) -> None:
        """Another process of the master pairs and unpairs nodes: read the configuration if that has been written to.

        Called when it says so, and every 10 s in case that was missed.
        """
        if self._reader.last_write() != self._read_after_write:
            self.configuration_changed()

    def look_at_router(self, connection_id: str, proxy: str) -> None:
        """A proxy node (authid) does not get through to a router worker."""
        for key, router in self.configuration.routers.items():
            if router.connection_id == connection_id and proxy in dict(router.peers):
                self._mark([key], QUIET_S, is_news=False)

    def look_at_links(self, node: str, worker: str) -> None:
        """A link of a router worker has come up, or is lost."""
        routers = self.configuration.routers.items()
        self._mark((key for key, r in routers if (r.node, key.worker) == (node, worker)), QUIET_S, is_news=False)

    # -- what is told of nodes (`control.presence.Listener`) ----------------------------------------------------

    def look_at(self, node: NodeRecord, quiet_s: float, *, is_news: bool) -> None:
        self._nodes[node.oid] = node
        self._mark(self._keys_on(node.oid), quiet_s, is_news=is_news)
        if node.oid not in self.configuration.nodes:
            self.configuration_changed()
        self.settled()

    def node_began(self, node_oid: UUID) -> None:
        self._gone.is_back(node_oid)
        for key in self._keys_on(node_oid):
            self.reconcilers[key].node_began()

    def node_ended(self, node_oid: UUID) -> None:
        self._confirmed -= {key for key in self._confirmed if key.node_oid == node_oid}
        self._mark(self._keys_on(node_oid))

    def workers_found(self, node: NodeRecord, routers: Iterable[str], proxies: Iterable[str]) -> None:
        """Those that are not to run get a reconciler, which ends them if the master has started them."""
        if self.loop.running:
            managed = (worker for worker in proxies if worker.startswith(PROXY_PREFIX))
            for kind, workers in ((RouterReconciler, routers), (ProxyReconciler, managed)):
                for key in (WorkerKey(node.oid, worker) for worker in workers):
                    if key not in self.reconcilers:
                        self._reconcile(kind, key, node.name)
            self.settled()

    def _keys_on(self, node_oid: UUID) -> list[WorkerKey]:
        return [key for key in self.reconcilers if key.node_oid == node_oid]

    def _mark(self, keys: Iterable[WorkerKey], quiet_s: float = 0.0, *, is_news: bool = True) -> None:
        for key in list(keys):
            if key in self.reconcilers:
                self.reconcilers[key].loop.mark(quiet_s, is_news=is_news)

    # -- what the reconcilers of workers need (`control.worker.Plane`) ------------------------------------------

    def node(self, oid: UUID) -> NodeRecord | None:
        return self._nodes.get(oid)

    def is_online(self, oid: UUID) -> bool:
        record = self.node(oid)
        return record is not None and self.presence.is_online(record.name)

    def is_gone(self, oid: UUID) -> bool:
        """Whether a node is away and nobody misses it: it may have been replaced, and will be forgotten."""
        return oid in self._unmissed and not self.is_online(oid) and not self._gone.sign_of(oid)

    def cut_off(self) -> Iterator[tuple[str, str]]:
        """The nodes that do not reach this master although others have clients of them: their names, and who."""
        for oid in self._unmissed:
            record, sign = self.configuration.nodes.get(oid), self._gone.sign_of(oid)
            if record and sign and not self.presence.is_online(record.name):
                yield record.name, sign.reason

    def router_listens(self, key: WorkerKey, port: int | None, life: str | None) -> None:
        """Proxies that send clients there, and routers linked with it, are pointed there at once, if that is news."""
        record = self.node(key.node_oid)
        if port is None or record is None or record.address is None:
            self._confirmed.discard(key)
            return
        listening = ((record.address, port), life)
        if self._listening.get(key) == listening and key in self._confirmed:
            return
        self._listening[key] = listening
        self._confirmed.add(key)
        self._mark(proxy for proxy, desired in self.configuration.proxies.items() if desired.uses(key))
        self._mark(router for router, desired in self.configuration.routers.items() if desired.links_to(key))
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

    def is_used(self, connection_id: str, realm: str | None = None) -> bool:
        for key, reconciler in self.reconcilers.items():
            observed = reconciler.observed
            uses = isinstance(observed, ObservedProxy) and observed.uses(connection_id, realm)
            if uses and self.is_online(key.node_oid):
                return True
        return False

    def located(self, backend: Backend) -> Backend:
        key = backend.router
        record = self.node(key.node_oid)
        endpoint, life = self._listening.get(key, (self.configuration.recorded.get(key), None))
        # a router worker that has not been seen yet has to prove itself: only what is known to run the plain release
        # is taken by its name
        proves = life is not None or key not in self._listening
        identity = RouterLife(record.name, key.worker, record.pubkey if proves else None, life) if record else None
        return replace(backend, endpoint=endpoint, confirmed=key in self._confirmed, identity=identity)

    def settled(self) -> None:
        if self.configuration.is_changing:
            self.loop.mark(QUIET_S)

    def forget(self, key: WorkerKey) -> None:
        if self.configuration.desired(key) is None and key in self.reconcilers:
            self.reconcilers.pop(key).loop.stop()
            self._listening.pop(key, None)
            self._confirmed.discard(key)
            self.settled()

    # -- the plane's own pass -----------------------------------------------------------------------------------

    async def _pass(self) -> Outcome:
        sweeping = self.reactor.seconds() >= self._sweep_at_s
        if sweeping:
            self._sweep_at_s = self.reactor.seconds() + uniform(*SWEEP_S)
            if self._gone.forget_after_s:
                self._sweep_at_s = min(self._sweep_at_s, self.reactor.seconds() + self._gone.forget_after_s)
            Deferred.fromCoroutine(self._purge_logs())
            await self._catch_up()
            Deferred.fromCoroutine(self._forget_gone())
            if not self.loop.running:  # stopped meanwhile: a successor may be at work already
                return CONVERGED
        problems: list[str] = []
        if sweeping or self._changed:
            problems += self._settle()
            self._read_after_write = self._reader.last_write()
            self.configuration, before = self._reader.read(), self.configuration
            self._unmissed = frozenset(self._gone.unmissed())
            self._changed = False
            self._nodes = dict(self.configuration.nodes)
            self.presence.keep(self.configuration.peers)
            self._follow(before)
        if sweeping:
            self._mark(self.reconcilers)
            self.inbox.tidy()
        problems += self._advance()
        self.problems = problems
        for problem in self._news.of([*problems, *self.configuration.conflicts, *warnings_of(self.databases)]):
            self.log.warn("Management realm: {problem}", problem=problem)
        again_s = max(0.0, self._sweep_at_s - self.reactor.seconds())
        if problems:
            self._changed = True
            return Outcome(State.FAILED, problems[0], min(again_s, RETRY_AT_MOST_S))
        return Outcome(State.CONVERGED, again_s=again_s)

    async def _catch_up(self) -> None:
        try:
            came, gone = await self.presence.catch_up()
        except NodeCallFailed as e:
            self._unexpected(e)
            return
        for oid, authid in came:
            self._controller.tell_node_came(oid, authid)
        for oid, authid in gone:
            self._controller.tell_node_went(oid, authid)

    def _settle(self) -> list[str]:
        """Bring memberships and placements in line with what is configured. :returns: what keeps it from that."""
        try:
            joined = self._memberships.settle()
            moved = self.placements.settle([member.node_oid for member in joined])
            for change in (*joined, *moved):
                self.log.info("{change}", change=change)
        except Exception as e:
            self.log.debug("memberships and placements: {error!r}", error=e)
            return [f"nodes and router workers cannot be brought in line: {e!r}. Is the master's database full?"]
        return []

    def _follow(self, before: Configuration) -> None:
        """Have a reconciler for each worker that is to run, and let those look whose configuration is another."""
        for key, router in self.configuration.routers.items():
            if key not in self.reconcilers:
                self._reconcile(RouterReconciler, key, router.node)
        for key, proxy in self.configuration.proxies.items():
            if key not in self.reconcilers:
                self._reconcile(ProxyReconciler, key, proxy.node)
        self._mark(k for k in self.reconcilers if self.configuration.desired(k) != before.desired(k))
        # A worker that was to go, and is to stay after all before it has ended, has a new record and no news to tell.
        # Without a port that record says that nobody is on it yet.
        for key in (self._confirmed & self.configuration.routers.keys()) - self.configuration.recorded.keys():
            (_, port), _ = self._listening[key]
            self._record_port(key, port)

    def _reconcile(self, kind: type[RouterReconciler] | type[ProxyReconciler], key: WorkerKey, node: str) -> None:
        self.reconcilers[key] = kind(self, key, node)
        self.reconcilers[key].loop.start()

    async def _forget_gone(self) -> None:
        try:
            if self.loop.running and await self._gone.forget(self.reactor):
                self.configuration_changed()
        except Exception as e:
            self._unexpected(e)

    async def _purge_logs(self) -> None:
        """Delete old heartbeat logs bit by bit, giving way to everything else in between."""
        if self._purging:
            return
        self._purging = True
        try:
            while self.loop.running and self._logs.purge_some(time.time_ns()):
                await deferLater(self.reactor, PURGE_PAUSE_S)
        except Exception as e:
            self._unexpected(e)
        finally:
            self._purging = False

    def _advance(self) -> list[str]:
        """Put on record what has come to run, and what has come to a stop. :returns: what could not be."""
        cluster, problems = self.cluster(), []
        for unit in self.configuration.units:
            status = lifecycle.next_status(unit, cluster)
            if status is not None:
                try:
                    self._put_on_record(unit, status)
                except Exception as e:
                    problems.append(f"the status of the {unit.title} cannot be put on record: {e!r}")
        return problems

    def _put_on_record(self, unit: Unit, status: int) -> None:
        now_ns = time.time_ns()
        if not lifecycle.put_on_record(self._controller.db, self._controller.schema, unit, status, now_ns):
            return
        topic, payload = lifecycle.event_of(unit, status, now_ns)
        self.log.info("The {title} is {status} now", title=unit.title, status=payload["status"])
        if status == STATUS_STOPPED:
            self._controller.unit_stopped(unit.kind, unit.oid)
        self.configuration_changed()
        with suppress(TransportLost):  # nobody to tell; and nobody waits for who listens
            self._controller.publish(f"crossbarfabriccenter.mrealm.{topic}", payload)

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
        return lifecycle.Cluster(
            self.configuration,
            frozenset(self.reconcilers),
            self._is_settled,
            self.is_online,
            self.is_gone,
            self.presence.is_discovered,
        )

    def _is_settled(self, key: WorkerKey) -> bool:
        reconciler = self.reconcilers.get(key)
        return reconciler is not None and reconciler.loop.up_to_date and reconciler.condition.state is State.CONVERGED

    def _unexpected(self, error: Exception) -> None:
        self.log.failure("The control plane met an error and goes on: {error!r}", error=error)
