"""Carries out the steps of a plan: one after the other, each as management calls, each told when it is done.

A step that fails ends those that need it and no other. When the master cannot be asked any more, all the rest fails.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from crossbar_cluster.core.proxy import proxy_prefix
from crossbar_cluster.core.router import DISCLOSED, VERBS
from crossbar_cluster.operator.apply.model import Limits, Permission
from crossbar_cluster.operator.apply.observing import Actual
from crossbar_cluster.operator.apply.steps import (
    AddGroup,
    AddRealmRole,
    Create,
    CreateWebCluster,
    Delete,
    ExpectNodes,
    Key,
    RemoveGroup,
    RemoveNode,
    RemovePermission,
    RemoveRealmRole,
    RemoveService,
    ScaleGroup,
    SetPermission,
    SetRouterNode,
    SetService,
    SetWebNode,
    Start,
    StartRealm,
    Step,
    Stop,
)
from crossbar_cluster.operator.master import CannotAsk, Refused, Session

STOP_TIMEOUT_S = 60.0
SERVICE_TIMEOUT_S = 30.0
POLL_S = 0.2

# What the release calls them.
_PROCEDURES = {"routercluster": "routercluster", "webcluster": "webcluster", "realm": "arealm", "role": "role"}
_MANAGERS = {"routercluster": "routercluster", "webcluster": "webcluster", "realm": "arealm", "role": "arealm"}


@dataclass(frozen=True)
class Outcome:
    """What became of a step; ``reason`` unless it is done."""

    step: Step
    what: Literal["done", "failed", "not done"]
    reason: str = ""


class _NotInTime(Exception):
    pass


async def carry_out(
    steps: Sequence[Step], session: Session, actual: Actual, tell: Callable[[Outcome], None]
) -> list[Outcome]:
    """:param tell: is told each outcome as soon as it is known."""
    outcomes: list[Outcome] = []
    broken: dict[Key, Step] = {}
    lost = ""
    carrying = _Carrying(session, actual)
    for step in steps:
        missing = next((broken[key] for key in step.needs if key in broken), None)
        if missing or lost:
            outcome = Outcome(step, "not done", lost or f"it needs: {missing}")
        else:
            try:
                await carrying.carry_out(step)
                outcome = Outcome(step, "done")
            except (Refused, _NotInTime) as e:
                outcome = Outcome(step, "failed", str(e))
            except CannotAsk as e:
                lost = "the master cannot be asked any more"
                outcome = Outcome(step, "failed", str(e))
        if outcome.what != "done":
            broken[step.key] = step
        outcomes.append(outcome)
        tell(outcome)
    return outcomes


class _Carrying:
    """Knows the calls of each step, and the object ids of what they make."""

    def __init__(self, session: Session, actual: Actual) -> None:
        self._session = session
        self._call = session.call
        self._oids = actual.oids
        self._further = actual.further

    async def carry_out(self, step: Step) -> None:
        match step:
            case Create("role", name):
                await self._make(step.key, "arealm.create_role", {"name": name})
            case Create("realm", name):
                await self._make(step.key, "arealm.create_arealm", {"name": name})
            case Create(_, name):
                await self._make(step.key, "routercluster.create_routercluster", {"name": name})
            case CreateWebCluster(name, endpoint):
                settings = {"name": name, "tcp_port": endpoint.port, "tcp_shared": endpoint.shared}
                further = self._further.get(name, {})
                await self._make(step.key, "webcluster.create_webcluster", {**further, **settings})
            case Delete(kind, name):
                oid = self._oids.pop((kind, name))
                await self._call(f"{_MANAGERS[kind]}.delete_{_PROCEDURES[kind]}", oid)
            case Start(kind, name):
                await self._call(f"{kind}.start_{kind}", self._oids[kind, name])
            case StartRealm(realm, place):
                group = self._oids["workergroup", place.routercluster, place.workergroup]
                web = self._oids["webcluster", place.webcluster]
                await self._call("arealm.start_arealm", self._oids["realm", realm], group, web)
            case Stop(kind, name):
                await self._stop(kind, name)
            case SetPermission() | RemovePermission() | AddRealmRole() | RemoveRealmRole():
                await self._rights(step)
            case _:
                await self._inside_clusters(step)

    async def _make(self, key: Key, procedure: str, *args: Any) -> None:
        self._oids[key] = (await self._call(procedure, *args))["oid"]

    async def _rights(self, step: Step) -> None:
        match step:
            case SetPermission(role, uri, permission):
                # The release has no way to change one, and its index by URI holds one: the old one goes first. The
                # control plane waits for configuration to be quiet for a moment, and sees both as one change.
                if step.before:
                    await self._remove_permission(role, uri)
                await self._make(
                    step.key, "arealm.add_role_permission", self._oids["role", role], uri, _settings(permission)
                )
            case RemovePermission(role, uri):
                await self._remove_permission(role, uri)
            case AddRealmRole(realm, role):
                await self._call("arealm.add_arealm_role", self._oids["realm", realm], self._oids["role", role], {})
            case RemoveRealmRole(realm, role):
                await self._call("arealm.remove_arealm_role", self._oids["realm", realm], self._oids["role", role])

    async def _remove_permission(self, role: str, uri: str) -> None:
        oid = self._oids.pop(("permission", role, uri))
        await self._call("arealm.remove_role_permission", self._oids["role", role], oid)

    async def _inside_clusters(self, step: Step) -> None:
        match step:
            case SetRouterNode(cluster, node, limits):
                await self._add_node("routercluster", cluster, node, _of_node(limits))
            case SetWebNode(cluster, node, parallel):
                await self._add_node("webcluster", cluster, node, _of_node(parallel))
            case ExpectNodes(kind, cluster, nodes):
                rules = {rule: _of_node(given) for rule, given in nodes}
                await self._call(f"{kind}.expect_nodes", self._oids[kind, cluster], rules)
            case RemoveNode(kind, cluster, node):
                await self._call(f"{kind}.remove_{kind}_node", self._oids[kind, cluster], self._oids["node", node])
            case AddGroup(cluster, group, scale):
                oid = self._oids["routercluster", cluster]
                config = {"name": group, "scale": scale, "cluster_oid": oid}
                await self._make(step.key, "routercluster.add_routercluster_workergroup", oid, config)
            case ScaleGroup(cluster, group, scale):
                await self._call("routercluster.scale_workergroup", *self._group(cluster, group), scale)
            case RemoveGroup(cluster, group):
                await self._call("routercluster.remove_routercluster_workergroup", *self._group(cluster, group))
            case SetService(cluster, path, service):
                await self._set_service(cluster, path, json.loads(service), change=step.before is not None)
            case RemoveService(cluster, path):
                await self._remove_service(cluster, path)
            case _:
                raise AssertionError(f"nobody knows how to do {step}")

    async def _add_node(self, kind: str, cluster: str, node: str, config: dict[str, Any]) -> None:
        await self._call(f"{kind}.add_{kind}_node", self._oids[kind, cluster], self._oids["node", node], config)

    def _group(self, cluster: str, group: str) -> tuple[str, str]:
        return self._oids["routercluster", cluster], self._oids["workergroup", cluster, group]

    async def _remove_service(self, cluster: str, path: str) -> None:
        oid = self._oids.pop(("service", cluster, path))
        await self._call("webcluster.remove_webcluster_service", self._oids["webcluster", cluster], oid)

    async def _set_service(self, cluster: str, path: str, config: dict[str, Any], change: bool) -> None:
        oid = self._oids["webcluster", cluster]
        if change:
            await self._remove_service(cluster, path)
        # Proxies know a web service by its path: one with another configuration is a new one only to those that have
        # dropped the old one. There may be an old one even if none is on record: this may have been broken off before.
        why = f"proxies still have the former web service after {SERVICE_TIMEOUT_S:g} s; apply again to go on"
        await self._until(lambda: self._has_dropped(oid, path), SERVICE_TIMEOUT_S, why)
        await self._make(("service", cluster, path), "webcluster.add_webcluster_service", oid, path, config)

    async def _has_dropped(self, webcluster_oid: str, path: str) -> bool:
        status = await self._session.cluster_status()
        online = {node["name"] for node in status["nodes"] if node["status"] == "online"}
        prefix = proxy_prefix(webcluster_oid)
        return not any(
            worker["worker"].startswith(prefix) and worker["node"] in online and path in worker.get("services", ())
            for worker in status["workers"]
        )

    async def _stop(self, kind: str, name: str) -> None:
        oid = self._oids[kind, name]
        procedure = _PROCEDURES[kind]

        async def status() -> str:
            return str((await self._call(f"{procedure}.get_{procedure}", oid))["status"])

        if await status() in ("STARTING", "RUNNING"):
            await self._call(f"{procedure}.stop_{procedure}", oid)

        async def has_stopped() -> bool:
            return await status() == "STOPPED"

        why = f"it is still stopping after {STOP_TIMEOUT_S:g} s: `crossbar-cluster status` says why"
        await self._until(has_stopped, STOP_TIMEOUT_S, why)

    async def _until(self, condition: Callable[[], Awaitable[bool]], within_s: float, why: str) -> None:
        deadline = time.monotonic() + within_s
        while not await condition():
            if time.monotonic() > deadline:
                raise _NotInTime(why)
            await asyncio.sleep(POLL_S)


def _of_node(given: Limits | int) -> dict[str, Any]:
    """A node's settings in a cluster."""
    if isinstance(given, Limits):
        return {"softlimit": given.softlimit, "hardlimit": given.hardlimit}
    return {"parallel": given}


def _settings(permission: Permission) -> dict[str, Any]:
    verbs = {f"allow_{verb}": verb in permission.allow for verb in VERBS}
    disclosed = {f"disclose_{who}": who in permission.disclose for who in DISCLOSED}
    return {"match": permission.match, **verbs, **disclosed, "cache": permission.cache}
