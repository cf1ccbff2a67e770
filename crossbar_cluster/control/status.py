"""The management realm at a glance, as one document: what `crossbar-cluster status` shows.

Made of what the control plane knows, without asking any node.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

from crossbar_cluster import __version__
from crossbar_cluster.control import lifecycle
from crossbar_cluster.control.configuration import NodeRecord, Unit
from crossbar_cluster.control.databases import warnings_of
from crossbar_cluster.control.loop import State
from crossbar_cluster.core.proxy import ObservedProxy
from crossbar_cluster.core.router import ObservedRouter
from crossbar_cluster.core.worker import WorkerKey

if TYPE_CHECKING:
    from crossbar_cluster.control.plane import ControlPlane, Reconciler


def status_of(plane: ControlPlane, realm: str, key: str | None = None) -> dict[str, Any]:
    """The document. Times are nanoseconds since the epoch; see README.md for its fields.

    :param realm: name of the management realm.
    :param key: the master's public key (hex), if it can be read.
    """
    from crossbar import __version__ as release

    units = sorted(plane.configuration.units, key=lambda unit: unit.name)
    return {
        "now": time.time_ns(),
        "master": {
            "realm": realm,
            "key": key,
            "started": plane.started_ns,
            "crossbar": release,
            "crossbar_cluster": __version__,
            "passes": plane.loop.passes + sum(r.loop.passes for r in plane.reconcilers.values()),
            "calls": plane.calls.made,
            "failures": plane.calls.failed,
        },
        "nodes": [_node(plane, n) for n in sorted(plane.configuration.nodes.values(), key=lambda n: n.name)],
        "groups": list(_groups(plane)),
        "realms": [_realm(plane, unit) for unit in units if unit.kind == "arealm"],
        "webclusters": [_webcluster(plane, unit) for unit in units if unit.kind == "webcluster"],
        "workers": [_worker(plane, reconciler) for reconciler in _awaited(plane)],
        "problems": list(problems_of(plane)),
    }


def _awaited(plane: ControlPlane) -> list[Reconciler]:
    """Of all workers, but for those of nodes that have gone and are not missed."""
    awaited = (r for r in plane.reconcilers.values() if not plane.is_gone(r.key.node_oid))
    return sorted(awaited, key=lambda r: (r.node, r.key.worker))


def _node(plane: ControlPlane, recorded: NodeRecord) -> dict[str, Any]:
    record = plane.node(recorded.oid) or recorded
    return {
        "oid": str(record.oid),
        "name": record.name,
        "pubkey": record.pubkey,
        "status": status_of_node(plane, record),
        "since": plane.presence.since(record.name),
        "address": record.address,
        "address_source": record.address_source,
        "address_since": record.address_since,
        "knows_master_by": plane.presence.knows_master_by(record.name),
    }


def status_of_node(plane: ControlPlane, node: NodeRecord) -> Literal["online", "offline", "gone"]:
    if plane.presence.is_online(node.name):
        return "online"
    return "gone" if plane.is_gone(node.oid) else "offline"


def _groups(plane: ControlPlane) -> Iterator[dict[str, Any]]:
    clusters = {unit.oid: unit.name for unit in plane.configuration.units if unit.kind == "routercluster"}
    for group in sorted(plane.configuration.groups.values(), key=lambda group: group.name):
        placed = [{"node": _name_of(plane, key), "worker": key.worker} for key in sorted(group.placements.values())]
        cluster = clusters.get(group.cluster_oid, "")
        yield {
            "oid": str(group.oid),
            "group": group.name,
            "cluster_oid": str(group.cluster_oid),
            "cluster": cluster,
            "scale": group.scale,
            "placements": placed,
        }


def _name_of(plane: ControlPlane, key: WorkerKey) -> str:
    return plane.configuration.nodes[key.node_oid].name


def _realm(plane: ControlPlane, unit: Unit) -> dict[str, Any]:
    group = plane.configuration.groups.get(unit.group_oid) if unit.group_oid else None
    webclusters = (u.name for u in plane.configuration.units if u.oid == unit.webcluster_oid)
    return {
        "name": unit.name,
        "status": unit.status_name,
        "group": group.name if group else None,
        "webcluster": next(webclusters, None),
    }


def _webcluster(plane: ControlPlane, unit: Unit) -> dict[str, Any]:
    members = sorted(plane.configuration.nodes[oid].name for oid in unit.members)
    return {"name": unit.name, "status": unit.status_name, "nodes": members}


def _worker(plane: ControlPlane, reconciler: Reconciler) -> dict[str, Any]:
    condition, observed = reconciler.condition, reconciler.observed
    document: dict[str, Any] = {
        "node": reconciler.node,
        "worker": reconciler.key.worker,
        "kind": reconciler.kind.split()[0],
        "state": condition.state.value if condition.state else "unknown",
        "reason": _reason(reconciler),
        "since": time.time_ns() - int((plane.reactor.seconds() - condition.since_s) * 1e9),
    }
    if isinstance(observed, ObservedRouter):
        links = [(name, *link.endpoint) for name, link in sorted((observed.links or {}).items())]
        document |= {
            "port": observed.port,
            "realms": sorted(observed.names.get(i, i) for i in observed.realms),
            "links": [{"id": name, "host": host, "port": port} for name, host, port in links],
            "limits_met": dict(observed.limits_met),
        }
    elif isinstance(observed, ObservedProxy):
        connections = sorted(observed.connections.items())
        routes = [
            {"realm": realm, "roles": dict(route)}
            for realm, by_id in sorted(observed.routes.items())
            for _, route in sorted(by_id.items())
        ]
        document |= {
            "services": sorted(observed.services),
            "connections": [{"id": name, "host": host, "port": port} for name, (host, port) in connections],
            "routes": routes,
            "most_clients": observed.most_clients,
            "limits_met": dict(observed.limits_met),
        }
    return document


def _reason(reconciler: Reconciler) -> str:
    """Why a worker is not as configured; empty: it is, and nothing has happened since it was looked at."""
    if reconciler.condition.state is State.CONVERGED:
        return "" if reconciler.loop.up_to_date else "is being looked at"
    return reconciler.condition.reason or "is being brought in line"


def problems_of(plane: ControlPlane) -> Iterator[dict[str, str]]:
    """What is not as configured, and why. A proxy that has been replaced is missed by nobody."""
    if not plane.loop.up_to_date:
        yield {"object": "management realm", "reason": "configuration that has just changed is being read"}
    for problem in (*plane.problems, *plane.configuration.conflicts):
        yield {"object": "management realm", "reason": problem}
    for warning in warnings_of(plane.databases):
        yield {"object": "management realm", "reason": warning}
    for name, who in plane.cut_off():
        reason = f"it does not reach this master, and goes on serving ({who}): look at its log"
        yield {"object": f"node {name}", "reason": reason}
    for name, what in plane.inbox.limited():
        yield {"object": f"node {name}", "reason": f"it sends more {what} than this master takes: the rest is dropped"}
    for reconciler in _awaited(plane):
        if reason := _reason(reconciler):
            name = f"{reconciler.kind} {reconciler.key.worker} on {reconciler.node}"
            yield {"object": name, "reason": reason}
    for shortfall in plane.placements.shortfalls:
        name = f"worker group {shortfall.group}"
        if shortfall.missing:
            reason = f"{shortfall.missing} of its router workers have no node: add nodes to its router cluster"
            yield {"object": name, "reason": reason}
        for placed in shortfall.stranded:
            reason = (
                f"router worker {placed.worker} is on a node that is not in its router cluster, and no member may take "
                "it: add a node, raise a hard limit or undrain one"
            )
            yield {"object": name, "reason": reason}
    for unit in plane.configuration.units:
        if reason := _why_changing(plane, unit):
            yield {"object": unit.title, "reason": reason}


def _why_changing(plane: ControlPlane, unit: Unit) -> str:
    if unit.status_name == "STARTING":
        return "is starting: " + ("its workers are not all in order" if unit.workers else "it has no workers yet")
    if unit.status_name == "STOPPING":
        return "is stopping: " + (lifecycle.why_not_stopped(unit, plane.cluster()) or "almost there")
    return ""
