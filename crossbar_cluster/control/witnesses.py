"""Who else knows a node that does not reach its master: the workers that have clients of it, or send clients there.

Asked by `gone_nodes` about nodes that it is to forget. A proxy that is cut off from its master goes on serving: the
routers tell of it. A router that is cut off is known by what proxies were last seen to use.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import UUID

from twisted.internet.defer import Deferred, DeferredList

from crossbar_cluster.control.configuration import Configuration
from crossbar_cluster.control.nodes import NodeCallFailed
from crossbar_cluster.control.router_worker import RouterReconciler
from crossbar_cluster.core.proxy import ObservedProxy
from crossbar_cluster.core.router import connection_id
from crossbar_cluster.core.worker import WorkerKey


@dataclass(frozen=True)
class Sign:
    """Why a node is not to be forgotten."""

    reason: str  #: for people
    seen: bool  #: others have clients of it; False: those who would know cannot be asked


class Plane(Protocol):
    """What is needed of the control plane."""

    reactor: Any
    log: Any
    configuration: Configuration

    @property
    def reconcilers(self) -> Mapping[WorkerKey, Any]:
        """All workers that are to run, or do."""

    def is_online(self, oid: UUID) -> bool:
        """Whether the node has a management session."""


class Witnesses:
    """The workers of a management realm that can tell of nodes."""

    def __init__(self, plane: Plane) -> None:
        self._plane = plane
        #: router workers -> when they last said whose clients they have (the reactor's time), and whose
        self._guests: dict[WorkerKey, tuple[float, frozenset[str]]] = {}

    async def signs_of(self, away: Mapping[str, float]) -> dict[str, Sign]:
        """Ask about nodes that are away. :returns: why not to forget them; those that nobody knows are left out.

        A router worker that cannot be asked has been asked before: what it said counts if the node was away by then.

        :param away: the nodes (authid), and since when they are away, in the reactor's time.
        """
        routers = [r for r in self._plane.reconcilers.values() if isinstance(r, RouterReconciler)]
        await self._ask(router for router in routers if self._plane.is_online(router.key.node_oid))
        self._guests = {r.key: self._guests[r.key] for r in routers if r.key in self._guests}
        hosts = {guest: r for r in routers for guest in self._guests.get(r.key, (0.0, ()))[1]}
        users = self._users(away)
        silent = min(routers, key=self._answered_s, default=None)
        signs: dict[str, Sign] = {}
        for name, since_s in away.items():
            user = users.get(name)
            if name in hosts:
                signs[name] = Sign(f"{_title(hosts[name])} has clients of it", seen=True)
            elif user is not None:
                signs[name] = Sign(f"{_title(user)} has clients on it", seen=True)
            elif silent is not None and self._answered_s(silent) < since_s:
                signs[name] = Sign(f"{_title(silent)} cannot be asked whether it has clients of it", seen=False)
        return signs

    def _users(self, away: Iterable[str]) -> dict[str, Any]:
        """Nodes (authid) -> a proxy worker that has clients on a router worker there."""
        reconcilers = self._plane.reconcilers.values()
        known = {connection_id(r.node, r.key.worker): r.node for r in reconcilers if isinstance(r, RouterReconciler)}
        # the longest first: the name of a node can be the beginning of another's
        names = sorted({*away, *self._plane.configuration.peers}, key=len, reverse=True)
        users: dict[str, Any] = {}
        for proxy in reconcilers:
            told = getattr(proxy.observed, "identities", None) or {}
            for used in _used(proxy.observed):
                router = told.get(used)
                begins = (name for name in names if used.startswith(connection_id(name, "")))
                node = router.node if router is not None else known.get(used) or next(begins, None)
                if node is not None:
                    users[node] = proxy
        return users

    def _answered_s(self, router: RouterReconciler) -> float:
        return self._guests.get(router.key, (float("-inf"), ()))[0]

    async def _ask(self, routers: Iterable[RouterReconciler]) -> None:
        asking = [Deferred.fromCoroutine(self._ask_one(router)) for router in list(routers)]
        if asking:
            await DeferredList(asking)

    async def _ask_one(self, router: RouterReconciler) -> None:
        asked_s = self._plane.reactor.seconds()
        try:
            self._guests[router.key] = (asked_s, await router.guests())
        except NodeCallFailed as e:
            self._plane.log.debug("{error}", error=e)


def _used(observed: Any) -> frozenset[str]:
    """The connections over which a proxy worker sends clients, or was last seen to."""
    return observed.used if isinstance(observed, ObservedProxy) else frozenset()


def _title(reconciler: Any) -> str:
    return f"{reconciler.kind} {reconciler.key.worker} on {reconciler.node}"
