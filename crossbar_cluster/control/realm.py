"""Keeps one application realm as it is configured: its router workers serving, its proxies pointed at them.

Triggered by the arrival of a node that the realm has to do with, and by the sweep. One pass: read what is desired,
then for every router worker, and after that for every proxy worker, all at the same time: observe, plan, apply. What
goes wrong at one of them, or takes long, is tried again or goes on by itself (see `crew`); it never holds up another.
Ends where a node's own procedures begin.
"""

from __future__ import annotations

import time
from collections.abc import Hashable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any
from uuid import UUID

from autobahn.wamp.exception import TransportLost
from cfxdb.mrealm import WorkerGroupStatus

from crossbar_cluster.control.crew import Crew
from crossbar_cluster.control.desired import read_realm, realm_is_running, record_port
from crossbar_cluster.control.loop import Outcome, ReconcileLoop
from crossbar_cluster.control.nodes import (
    NO_SUCH_OBJECT,
    NO_SUCH_PROCEDURE,
    NO_SUCH_WORKER,
    START_WORKER_TIMEOUT_S,
    NodeCallFailed,
    NodeCalls,
    or_none,
)
from crossbar_cluster.core.realm import (
    LISTENING_PORTS,
    DesiredRealm,
    ObservedProxy,
    ObservedRouter,
    Placement,
    ProxyStep,
    ProxyWorker,
    RepointConnection,
    RouterStep,
    StartConnection,
    StartListener,
    StartRealm,
    StartRole,
    StartRoute,
    StartWorker,
    plan_proxy,
    plan_router,
)
from crossbar_cluster.proxy.connections import known_endpoint_of

#: How long a proxy tries to reach a router worker before it tells the client.
CONNECT_TIMEOUT_S = 5


@dataclass(frozen=True)
class _Done:
    """What a pass did at one worker."""

    applied: int  #: number of steps
    port: int | None = None  #: where a router worker listens; None: it does not yet


class NotRepointed(Exception):
    """A proxy cannot be told that a router has moved. The message says which, and what to do."""


class NoAddress(Exception):
    """A router cannot be reached because nobody knows where it is."""


class RealmReconciler:
    """Reconciler of one application realm.

    :param manager: the release's ``ApplicationRealmManager`` that the realm was started with.
    :param arealm_oid: the realm's object id.
    :param log: a txaio logger.
    """

    def __init__(self, manager: Any, arealm_oid: UUID, log: Any) -> None:
        self._manager = manager
        self._arealm_oid = arealm_oid
        self._log = log
        self._calls = NodeCalls(manager._session, manager._reactor)
        self._desired: DesiredRealm | None = None
        self._met: set[str] = set()  # problems of the last pass
        self._told: set[str] = set()  # those of them that the log has
        self._told_of_group = False
        self._unexpected_told: set[str] = set()
        self._failed_late: dict[Hashable, Exception] = {}
        self._crew: Crew[_Done] = Crew(manager._reactor, self._late)
        self.loop = ReconcileLoop(self._reconcile, manager._reactor, self._unexpected)

    def node_arrived(self, node_oid: UUID) -> None:
        """A node has joined: look at once, if this realm has to do with it or has not looked at anything yet."""
        if self._desired is None or self._desired.concerns(node_oid):
            self.loop.mark()

    # -- one pass -----------------------------------------------------------------------------------------------

    async def _reconcile(self) -> Outcome:
        desired = self._desired = read_realm(self._manager, self._arealm_oid)
        if desired is None:
            return Outcome.CONVERGED
        if len(desired.placements) > 1:
            self._tell_of_group(desired)
        routers = await self._crew.all_at_once({p.oid: partial(self._serve, desired, p) for p in desired.placements})
        backends = {
            placement.connection_id: (placement.address, done.port)
            for placement in desired.placements
            if isinstance(done := routers[placement.oid], _Done) and done.port and placement.address
        }
        proxies = await self._crew.all_at_once(
            {
                (proxy, connection_id): partial(self._point, desired, proxy, {connection_id: backend})
                for proxy in desired.proxies
                for connection_id, backend in backends.items()
            }
        )
        self._tell_problems(desired, self._problems(desired, {**routers, **proxies}))
        results = [*routers.values(), *proxies.values()]
        served = len(backends) == len(desired.placements) > 0
        if served and any(isinstance(result, _Done) for result in proxies.values()):
            self._announce_running()
        if any(isinstance(result, _Done) and result.applied for result in results):
            return Outcome.PROGRESSED
        converged = served and proxies and all(isinstance(result, _Done) for result in results)
        return Outcome.CONVERGED if converged else Outcome.WAITING

    def _late(self, part: Hashable, result: _Done | Exception) -> None:
        """A part of an earlier pass has ended: go on where it got something done; otherwise the loop will be back."""
        if isinstance(result, Exception):
            self._failed_late[part] = result
        else:
            self.loop.progressed()

    def _problems(self, desired: DesiredRealm, results: Mapping[Hashable, _Done | Exception | None]) -> list[Exception]:
        """What keeps the realm from being as configured: of this pass, and of parts that outlasted earlier ones."""
        ended = {part: result for part, result in results.items() if result is not None}
        self._failed_late = {part: e for part, e in self._failed_late.items() if part in results and part not in ended}
        problems = [
            result for result in (*ended.values(), *self._failed_late.values()) if isinstance(result, Exception)
        ]
        for placement in desired.placements:
            if isinstance(results[placement.oid], _Done) and not placement.address:
                problems.append(NoAddress(f"router {placement.node} has no address on record: no proxy can reach it"))
        return problems

    async def _serve(self, desired: DesiredRealm, placement: Placement) -> _Done:
        observed = await self._observe_router(desired, placement)
        steps = plan_router(desired, observed)
        port = observed.port
        for step in steps:
            port = await self._apply_to_router(desired, placement, step) or port
        if port is not None and port != placement.port:
            self._record_port(placement, port)
        return _Done(len(steps), port)

    def _record_port(self, placement: Placement, port: int) -> None:
        try:
            record_port(self._manager, placement.oid, port, WorkerGroupStatus.RUNNING, time.time_ns())
        except Exception as e:  # the record is for others to read: a full database keeps no client from its router
            self._unexpected(e)

    async def _observe_router(self, desired: DesiredRealm, placement: Placement) -> ObservedRouter:
        node, worker = placement.node, placement.worker
        if not await or_none(self._calls.node(node, "get_worker", worker), NO_SUCH_WORKER):
            return ObservedRouter()
        transport = await or_none(
            self._calls.worker(node, worker, "get_router_transport", placement.transport_id), NO_SUCH_OBJECT
        )
        realm = await or_none(self._calls.worker(node, worker, "get_router_realm", desired.realm_id), NO_SUCH_OBJECT)
        role_ids = set()
        for role in desired.roles if realm else ():
            call = self._calls.worker(node, worker, "get_router_realm_role", desired.realm_id, role.id)
            if await or_none(call, NO_SUCH_OBJECT):
                role_ids.add(role.id)
        return ObservedRouter(
            running=True,
            has_realm=bool(realm),
            role_ids=frozenset(role_ids),
            port=transport["config"]["endpoint"]["port"] if transport else None,
        )

    async def _apply_to_router(self, desired: DesiredRealm, placement: Placement, step: RouterStep) -> int | None:
        """Apply one step. :returns: the port that the worker listens on, if the step made it listen."""
        node, worker = placement.node, placement.worker
        match step:
            case StartWorker():
                options = {"env": {"inherit": ["PYTHONPATH"]}, "title": f"Managed router worker {worker}", "extra": {}}
                await self._calls.node(
                    node, "start_worker", worker, "router", options, timeout_s=START_WORKER_TIMEOUT_S
                )
            case StartRealm():
                await self._calls.worker(node, worker, "start_router_realm", desired.realm_id, {"name": desired.name})
            case StartRole(role):
                await self._calls.worker(
                    node, worker, "start_router_realm_role", desired.realm_id, role.id, dict(role.config)
                )
            case StartListener():
                config = {
                    "id": placement.transport_id,
                    "type": "rawsocket",
                    "endpoint": {"type": "tcp", "portrange": [LISTENING_PORTS[0], LISTENING_PORTS[-1]]},
                    "options": {},
                    "serializers": ["cbor"],
                    "auth": {"cryptosign-proxy": {"type": "static", "principals": dict(desired.principals)}},
                }
                started = await self._calls.worker(
                    node, worker, "start_router_transport", placement.transport_id, config
                )
                return int(started["config"]["endpoint"]["port"])
        return None

    async def _point(self, desired: DesiredRealm, proxy: ProxyWorker, backends: Mapping[str, tuple[str, int]]) -> _Done:
        observed = await self._observe_proxy(desired, proxy, backends)
        steps = plan_proxy(desired, backends, observed)
        for step in steps:
            await self._apply_to_proxy(desired, proxy, step)
        return _Done(len(steps))

    async def _observe_proxy(
        self, desired: DesiredRealm, proxy: ProxyWorker, backends: Mapping[str, tuple[str, int]]
    ) -> ObservedProxy:
        node, worker = proxy.node, proxy.worker
        routes = await or_none(
            self._calls.worker(node, worker, "list_proxy_realm_routes", desired.name), NO_SUCH_OBJECT
        )
        connections = {}
        for connection_id in backends:
            connection = await or_none(
                self._calls.worker(node, worker, "get_proxy_connection", connection_id), NO_SUCH_OBJECT
            )
            if connection:
                connections[connection_id] = known_endpoint_of(connection["config"])
        return ObservedProxy(connections, tuple(route["config"] for route in routes or ()))

    async def _apply_to_proxy(self, desired: DesiredRealm, proxy: ProxyWorker, step: ProxyStep) -> None:
        node, worker = proxy.node, proxy.worker
        match step:
            case StartConnection(connection_id, host, port):
                config = _connection_config(connection_id, host, port)
                await self._calls.worker(node, worker, "start_proxy_connection", connection_id, config)
            case RepointConnection(connection_id, host, port, was):
                config = _connection_config(connection_id, host, port)
                try:
                    await self._calls.worker(node, worker, "repoint_proxy_connection", connection_id, config)
                except NodeCallFailed as e:
                    if e.error != NO_SUCH_PROCEDURE:
                        raise
                    raise NotRepointed(
                        f"proxy {node}: connection {connection_id} stays at {was[0]}:{was[1]} although the router is "
                        f"at {host}:{port} now: this proxy runs without crossbar-cluster. Install it there, or "
                        "restart the proxy"
                    ) from e
                self._log.info(
                    "Proxy {node}: connection {connection_id} re-pointed from {was} to {now}",
                    node=node,
                    connection_id=connection_id,
                    was=f"{was[0]}:{was[1]}",
                    now=f"{host}:{port}",
                )
            case StartRoute(connection_id, roles):
                route = dict.fromkeys(roles, connection_id)
                await self._calls.worker(node, worker, "start_proxy_realm_route", desired.name, route)

    # -- what operators are told --------------------------------------------------------------------------------

    def _announce_running(self) -> None:
        arealm = realm_is_running(self._manager, self._arealm_oid, time.time_ns())
        if arealm is not None:
            started = {"oid": str(arealm.oid), "status": "RUNNING", "changed": arealm.changed}
            with suppress(TransportLost):  # nobody to tell; and nobody waits for who listens
                self._manager._session.publish(f"{self._manager._prefix}.on_arealm_started", started)

    def _tell_problems(self, desired: DesiredRealm, problems: list[Exception]) -> None:
        """Say, once, what keeps the realm from being as configured. A node on its way up is no news."""
        met = {
            str(p): p
            for p in problems
            if not (isinstance(p, NodeCallFailed) and (p.is_unreachable or p.is_done_already))
        }
        # a proxy that has just come back may not offer all of its procedures yet: only the second time counts
        sure = {text for text, p in met.items() if not isinstance(p, NotRepointed) or text in self._met}
        for problem in sorted(sure - self._told):
            self._log.warn("Realm {realm}: {problem} (will try again)", realm=desired.name, problem=problem)
        self._told = sure
        self._met = set(met)

    def _tell_of_group(self, desired: DesiredRealm) -> None:
        if not self._told_of_group:
            self._told_of_group = True
            self._log.warn(
                "Realm {realm} is on {count} router workers, which are not linked with each other yet: clients on "
                "different ones cannot reach each other. Use a worker group with scale 1.",
                realm=desired.name,
                count=len(desired.placements),
            )

    def _unexpected(self, error: Exception) -> None:
        if repr(error) not in self._unexpected_told:
            self._unexpected_told.add(repr(error))
            self._log.failure("Realm {oid}: a pass failed and is tried again", oid=str(self._arealm_oid))


def _connection_config(connection_id: str, host: str, port: int) -> dict[str, Any]:
    endpoint = {"type": "tcp", "host": host, "port": port, "timeout": CONNECT_TIMEOUT_S}
    return {
        "transport": {"type": "rawsocket", "endpoint": endpoint, "url": f"ws://{connection_id}", "serializer": "cbor"},
        "auth": {"cryptosign-proxy": {"type": "static"}},
    }
