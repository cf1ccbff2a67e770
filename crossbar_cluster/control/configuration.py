"""What is configured in a management realm, as frozen objects, and the records of its nodes.

It knows every worker that is to run (`routers`, `proxies`), so what follows from it is found by key and not by
searching. `reader` makes it from the master's databases.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from uuid import UUID

from cfxdb.mrealm.types import STATUS_BY_CODE, STATUS_RUNNING, STATUS_STARTING, STATUS_STOPPING

from crossbar_cluster.core.proxy import DesiredProxy, Endpoint, RouterLife
from crossbar_cluster.core.router import DesiredRouter
from crossbar_cluster.core.worker import WorkerKey

ACTIVE = (STATUS_STARTING, STATUS_RUNNING)
#: What people call a kind of unit.
TITLES = {"arealm": "application realm", "routercluster": "router cluster", "webcluster": "web cluster"}


@dataclass(frozen=True)
class NodeRecord:
    """A node of the management realm as it is on record."""

    oid: UUID
    name: str  #: its authid
    pubkey: str  #: hex
    address: str | None  #: in its canonical spelling; None: there is none, or it is none
    address_source: str | None
    address_since: int | None  #: ns since the epoch


@dataclass(frozen=True)
class Group:
    """A router worker group and where its workers are placed."""

    oid: UUID
    name: str
    cluster_oid: UUID
    scale: int
    placements: Mapping[UUID, WorkerKey]  #: by placement oid


@dataclass(frozen=True)
class Unit:
    """Something that is started and stopped as a whole: an application realm, a router cluster, a web cluster."""

    kind: str  #: "arealm", "routercluster" or "webcluster"
    oid: UUID
    name: str
    status: int
    workers: frozenset[WorkerKey] = frozenset()  #: those that have to be in order for it to run
    members: frozenset[UUID] = frozenset()  #: nodes of a cluster
    group_oid: UUID | None = None  #: of an application realm
    webcluster_oid: UUID | None = None  #: of an application realm

    @property
    def title(self) -> str:
        """What people call it."""
        return f"{TITLES[self.kind]} {self.name}"

    @property
    def active(self) -> bool:
        return self.status in ACTIVE

    @property
    def status_name(self) -> str:
        return str(STATUS_BY_CODE.get(self.status, self.status))


@dataclass(frozen=True)
class Configuration:
    """Everything that is configured in a management realm."""

    nodes: Mapping[UUID, NodeRecord] = field(default_factory=dict)
    groups: Mapping[UUID, Group] = field(default_factory=dict)
    units: tuple[Unit, ...] = ()
    routers: Mapping[WorkerKey, DesiredRouter] = field(default_factory=dict)
    proxies: Mapping[WorkerKey, DesiredProxy] = field(default_factory=dict)
    conflicts: tuple[str, ...] = ()  #: what cannot be as it is configured
    recorded: Mapping[WorkerKey, Endpoint] = field(default_factory=dict)
    #: router workers -> where they were to be found according to the records

    @cached_property
    def is_changing(self) -> bool:
        """Whether anything is starting or stopping."""
        return any(unit.status in (STATUS_STARTING, STATUS_STOPPING) for unit in self.units)

    @cached_property
    def peers(self) -> dict[str, str]:
        """All nodes that are paired: authid -> public key (hex)."""
        return {node.name: node.pubkey for node in self.nodes.values()}

    def has(self, router: RouterLife) -> bool:
        """Whether the router worker's node is paired, with the key that the worker has to prove, if any."""
        return self.peers.get(router.node, "") == router.pubkey or (router.pubkey is None and router.node in self.peers)

    def desired(self, key: WorkerKey) -> DesiredRouter | DesiredProxy | None:
        """What a worker is to run; None: it is not to run."""
        return self.routers.get(key) or self.proxies.get(key)
