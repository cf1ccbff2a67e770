"""What a management realm consists of, as frozen objects; the same for what is described and for what there is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from crossbar_cluster.core.expected import Rules

State = Literal["running", "stopping", "stopped"]
Match = Literal["exact", "prefix", "wildcard"]

#: Configuration of a web service as JSON text with sorted keys: unlike dictionaries, texts tell 1 from true.
Service = str


def service_of(config: Mapping[str, Any]) -> Service:
    return json.dumps(config, sort_keys=True)


@dataclass(frozen=True)
class Permission:
    """What a role may do with the URIs that match one."""

    match: Match = "exact"
    allow: frozenset[str] = frozenset()  #: call, register, publish, subscribe
    disclose: frozenset[str] = frozenset()  #: caller, publisher
    cache: bool = False


#: URI -> permission. The release keeps one permission a URI, whatever it is matched as.
Role = Mapping[str, Permission]


@dataclass(frozen=True)
class Limits:
    """Of a node in a router cluster: numbers of router workers."""

    softlimit: int | None = None
    hardlimit: int | None = None


@dataclass(frozen=True)
class Place:
    """Where an application realm runs."""

    routercluster: str
    workergroup: str
    webcluster: str

    def __str__(self) -> str:
        return f"worker group {self.workergroup} of {self.routercluster}, web cluster {self.webcluster}"


@dataclass(frozen=True)
class Realm:
    """An application realm.

    :ivar place: described: None, it is not to be started yet. Actual: None, it has never been started.
    """

    roles: frozenset[str] = frozenset()
    place: Place | None = None
    state: State = "running"


@dataclass(frozen=True)
class RouterCluster:
    """
    :ivar expected: the nodes that join it by themselves once they are paired, by name and pattern.
    """

    nodes: Mapping[str, Limits] = field(default_factory=dict)
    groups: Mapping[str, int] = field(default_factory=dict)  #: worker group -> scale
    state: State = "running"
    expected: Rules[Limits] = field(default_factory=dict)


@dataclass(frozen=True)
class Endpoint:
    """Where the proxies of a web cluster listen."""

    port: int | None  #: None: each proxy takes a free one
    shared: bool = True

    def __str__(self) -> str:
        return f"port {self.port or 'any'}{', shared' if self.shared else ', not shared'}"


@dataclass(frozen=True)
class WebCluster:
    """
    :ivar expected: as of a router cluster.
    """

    endpoint: Endpoint
    nodes: Mapping[str, int] = field(default_factory=dict)  #: node -> how many proxy workers
    services: Mapping[str, Service] = field(default_factory=dict)  #: by path
    state: State = "running"
    expected: Rules[int] = field(default_factory=dict)


@dataclass(frozen=True)
class Configuration:
    """All of it, by name."""

    roles: Mapping[str, Role] = field(default_factory=dict)
    realms: Mapping[str, Realm] = field(default_factory=dict)
    routerclusters: Mapping[str, RouterCluster] = field(default_factory=dict)
    webclusters: Mapping[str, WebCluster] = field(default_factory=dict)
