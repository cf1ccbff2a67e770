"""What is starting comes to run, and what is stopping comes to a stop: realms, router clusters and web clusters.

The release sets STARTING and STOPPING when it is told to. RUNNING and STOPPED follow from what the workers do, and are
put on record here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any
from uuid import UUID

from cfxdb.mrealm.types import STATUS_BY_CODE, STATUS_RUNNING, STATUS_STARTING, STATUS_STOPPED, STATUS_STOPPING

from crossbar_cluster.control.configuration import Configuration, Unit
from crossbar_cluster.core.proxy import proxy_prefix
from crossbar_cluster.core.worker import WorkerKey

#: What the release calls its tables.
_TABLES = {"arealm": "arealms", "routercluster": "routerclusters", "webcluster": "webclusters"}


class Cluster:
    """What a decision needs to know of the cluster as it is."""

    def __init__(
        self,
        configuration: Configuration,
        known: frozenset[WorkerKey],
        is_settled: Callable[[WorkerKey], bool],
        is_online: Callable[[UUID], bool],
        is_gone: Callable[[UUID], bool],
        is_discovered: Callable[[UUID], bool],
    ) -> None:
        self.configuration = configuration
        self.known = known  #: workers that there are, or are to be
        self.is_settled = is_settled  #: whether a worker is as configured
        self.is_online = is_online  #: whether a node is there
        self.is_gone = is_gone  #: whether it is not, and nobody waits for it
        self.is_discovered = is_discovered  #: whether it is known what runs on it

    def at_rest(self, keys: frozenset[WorkerKey], nodes: Iterable[UUID]) -> bool:
        """Whether those of the workers that can be told anything have nothing left to do.

        A node that is away holds nothing up: what it runs is put in order when it is back.

        :param nodes: where there may be more of them.
        """
        return all(self.is_settled(k) or not self.is_online(k.node_oid) for k in keys & self.known) and all(
            self.is_discovered(oid) or not self.is_online(oid) for oid in {*nodes, *(k.node_oid for k in keys)}
        )


def next_status(unit: Unit, cluster: Cluster) -> int | None:
    """The status that a unit has reached; None: the one it has."""
    if unit.status == STATUS_STARTING and _runs(unit, cluster):
        return int(STATUS_RUNNING)
    if unit.status == STATUS_STOPPING and not why_not_stopped(unit, cluster):
        return int(STATUS_STOPPED)
    return None


def _runs(unit: Unit, cluster: Cluster) -> bool:
    if unit.kind == "arealm":
        routers = [key for key in unit.workers if key in cluster.configuration.routers]
        proxies = [key for key in unit.workers if key in cluster.configuration.proxies]
        return bool(routers) and all(map(cluster.is_settled, routers)) and any(map(cluster.is_settled, proxies))
    members = {oid for oid in unit.members if not cluster.is_gone(oid)} or unit.members
    workers = (key for key in unit.workers if key.node_oid in members)
    return all(map(cluster.is_online, members)) and all(map(cluster.is_settled, workers))


def why_not_stopped(unit: Unit, cluster: Cluster) -> str:
    """What a unit that is stopping is waiting for; empty: nothing."""
    if unit.kind == "routercluster":
        realms = [u.name for u in cluster.configuration.units if _runs_on(u, unit, cluster.configuration)]
        return f"realms run on it: {', '.join(sorted(realms))}. Stop them" if realms else ""
    workers = unit.workers
    if unit.kind == "webcluster":
        workers = frozenset(key for key in cluster.known if key.worker.startswith(proxy_prefix(unit.oid)))
    return "" if cluster.at_rest(workers, unit.members) else "its workers are being told"


def _runs_on(realm: Unit, cluster: Unit, configuration: Configuration) -> bool:
    group = configuration.groups.get(realm.group_oid) if realm.group_oid else None
    return realm.kind == "arealm" and realm.active and group is not None and group.cluster_oid == cluster.oid


def put_on_record(db: Any, schema: Any, unit: Unit, status: int, now_ns: int) -> bool:
    """Write a unit's new status. :returns: False when it has been given another one meanwhile; nothing is written."""
    table = getattr(schema, _TABLES[unit.kind])
    with db.begin(write=True) as txn:
        record = table[txn, unit.oid]
        if record is None or record.status != unit.status:
            return False
        record.status = status
        record.changed = now_ns
        table[txn, unit.oid] = record
    return True


def event_of(unit: Unit, status: int, now_ns: int) -> tuple[str, dict[str, Any]]:
    """The management event that tells of it: the end of its topic, and its payload."""
    what = "started" if status == STATUS_RUNNING else "stopped"
    payload = {"oid": str(unit.oid), "status": STATUS_BY_CODE[status], "changed": now_ns}
    return f"{unit.kind}.on_{unit.kind}_{what}", payload
