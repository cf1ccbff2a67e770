"""The answer of ``get_cluster_status``: one document, whose names are stable. Times are ns since the epoch."""

from __future__ import annotations

from typing import Literal, NotRequired, TypedDict


class Master(TypedDict):
    realm: str  #: the management realm
    key: NotRequired[str | None]  #: its public key (hex), by which nodes know it
    started: int
    crossbar: str  #: version of the release
    crossbar_cluster: str
    passes: int  #: of its reconcilers, since the start
    calls: int  #: to nodes
    failures: int


class Node(TypedDict):
    oid: str
    name: str
    pubkey: str  #: hex
    status: Literal["online", "offline", "gone"]  #: gone: paired by a token, away, missed by nobody
    since: int | None
    address: str | None
    address_source: Literal["environment", "default"] | None
    address_since: int | None
    knows_master_by: NotRequired[str | None]  #: where it has the master's key from; None: it asks for no proof


class Placement(TypedDict):
    node: str
    worker: str


class Group(TypedDict):
    oid: str  #: of the worker group
    group: str
    cluster_oid: str
    cluster: str
    scale: int  #: router workers that it is to have
    placements: list[Placement]


class Realm(TypedDict):
    name: str
    status: Literal["STARTING", "RUNNING", "STOPPING", "STOPPED"]
    group: str | None
    webcluster: str | None


class WebCluster(TypedDict):
    name: str
    status: str
    nodes: list[str]


class Connection(TypedDict):
    id: str
    host: str
    port: int


class Route(TypedDict):
    realm: str
    roles: dict[str, str]  #: role -> id of the connection


class _AnyWorker(TypedDict):
    node: str
    worker: str
    state: Literal["converged", "changed", "waiting", "failed", "unknown"]
    reason: str  #: empty when converged
    since: int | None
    kind: Literal["router", "proxy"]


class Worker(_AnyWorker, total=False):
    """What is in it is there only when the master has seen it."""

    port: int | None  #: of a router
    realms: list[str]  #: of a router
    links: list[Connection]  #: of a router: to the others of its group
    services: list[str]  #: of a proxy: its paths
    connections: list[Connection]  #: of a proxy
    routes: list[Route]  #: of a proxy
    most_clients: int | None  #: of a proxy: how many its descriptors allow
    limits_met: dict[str, int]  #: limit -> how often clients have met it since the worker was started


class Problem(TypedDict):
    object: str
    reason: str


class Status(TypedDict):
    now: int  #: the master's clock
    master: Master
    nodes: list[Node]
    groups: list[Group]
    realms: list[Realm]
    webclusters: list[WebCluster]
    workers: list[Worker]
    problems: list[Problem]  #: empty: the cluster is as it is configured


class Scaled(TypedDict):
    """The answer of ``scale_workergroup``."""

    workergroup: dict[str, object]  #: as of ``get_routercluster_workergroup``
    changes: list[PlacementChange]
    missing: int  #: workers that no node may take yet


class PlacementChange(TypedDict):
    """What became of one placement: an element of the answers of ``move_placements`` and its like."""

    group: str
    worker: str
    what: Literal["placed", "moved", "removed"]
    from_node: str | None
    to_node: str | None
