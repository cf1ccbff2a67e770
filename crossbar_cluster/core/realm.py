"""What an application realm needs on its router workers and on its proxies, and the steps that get it there.

Two planners, both pure: `plan_router` for one router worker of the realm's group, `plan_proxy` for one proxy worker of
its web cluster. What is desired comes from the master's database, what is observed from the nodes themselves. The
planned state plans to nothing. Nothing is ever removed here: a connection that another router still needs, or that a
slow router will need again, is no business of the realm that looks at it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

#: Where router workers listen for proxies: the first of these that is free, as in the release.
LISTENING_PORTS = range(10000, 10101)


@dataclass(frozen=True)
class Role:
    """A role of the realm with the configuration that a router worker takes."""

    id: str  #: its run-time id on the worker
    config: Mapping[str, Any]

    @property
    def name(self) -> str:
        return str(self.config["name"])


@dataclass(frozen=True)
class Placement:
    """A router worker of the realm's worker group: where it belongs."""

    oid: UUID
    node_oid: UUID
    node: str  #: the node's authid
    worker: str
    address: str | None  #: the node's cluster address on record
    port: int | None  #: the worker's listening port on record

    @property
    def connection_id(self) -> str:
        return f"cnc_{self.node}_{self.worker}"

    @property
    def transport_id(self) -> str:
        return f"tnp_{self.worker}"


@dataclass(frozen=True)
class ProxyWorker:
    """A proxy worker of the realm's web cluster."""

    node_oid: UUID
    node: str  #: the node's authid
    worker: str


@dataclass(frozen=True)
class DesiredRealm:
    """An application realm as it is configured."""

    oid: UUID
    name: str
    roles: tuple[Role, ...]
    placements: tuple[Placement, ...]
    proxies: tuple[ProxyWorker, ...]
    principals: Mapping[str, Any] = field(default_factory=dict)  #: who may connect to the router workers' listeners

    @property
    def realm_id(self) -> str:
        """The realm's run-time id on router workers."""
        return f"rlm_{str(self.oid)[:8]}"

    def concerns(self, node_oid: UUID) -> bool:
        """Whether a change at that node can change anything for this realm."""
        return node_oid in {p.node_oid for p in self.placements} | {p.node_oid for p in self.proxies}


@dataclass(frozen=True)
class ObservedRouter:
    """A router worker as its node describes it."""

    running: bool = False
    has_realm: bool = False
    role_ids: frozenset[str] = frozenset()
    port: int | None = None  #: where its listener for proxies really listens; None: it has none


@dataclass(frozen=True)
class ObservedProxy:
    """A proxy worker as it describes itself, as far as the realm is concerned."""

    connections: Mapping[str, tuple[str, int]] = field(default_factory=dict)  #: connection id -> host, port
    routes: tuple[Mapping[str, str], ...] = ()  #: each: role -> connection id


@dataclass(frozen=True)
class StartWorker:
    """Start the router worker."""


@dataclass(frozen=True)
class StartRealm:
    """Start the realm on the router worker."""


@dataclass(frozen=True)
class StartRole:
    """Start a role of the realm on the router worker."""

    role: Role


@dataclass(frozen=True)
class StartListener:
    """Let the router worker listen for proxies."""


@dataclass(frozen=True)
class StartConnection:
    """Tell the proxy worker of a router worker."""

    connection_id: str
    host: str
    port: int


@dataclass(frozen=True)
class RepointConnection:
    """Tell the proxy worker that a router worker is to be found elsewhere."""

    connection_id: str
    host: str
    port: int
    was: tuple[str, int]


@dataclass(frozen=True)
class StartRoute:
    """Let the proxy worker use a connection for these roles of the realm."""

    connection_id: str
    roles: tuple[str, ...]


RouterStep = StartWorker | StartRealm | StartRole | StartListener
ProxyStep = StartConnection | RepointConnection | StartRoute


def plan_router(desired: DesiredRealm, observed: ObservedRouter) -> list[RouterStep]:
    """The steps that make a router worker serve the realm, in order.

    A worker that has to be started is observed anew before anything else is done on it. It listens last: a client that
    gets through to a worker whose realm is not there yet is turned away for good.
    """
    if not observed.running:
        return [StartWorker()]
    steps: list[RouterStep] = []
    if not observed.has_realm:
        steps.append(StartRealm())
    steps += [StartRole(role) for role in desired.roles if not observed.has_realm or role.id not in observed.role_ids]
    if observed.port is None:
        steps.append(StartListener())
    return steps


def plan_proxy(
    desired: DesiredRealm, backends: Mapping[str, tuple[str, int]], observed: ObservedProxy
) -> list[ProxyStep]:
    """The steps that make a proxy worker send the realm's clients to ``backends``.

    :param backends: connection id -> host and port, of the router workers that are known to listen. One that is not
        known is left as it is: a good backend is never withheld because another is bad.
    """
    steps: list[ProxyStep] = []
    client_roles = tuple(sorted(role.name for role in desired.roles if role.name != "rlink"))
    for connection_id, (host, port) in sorted(backends.items()):
        was = observed.connections.get(connection_id)
        if was is None:
            steps.append(StartConnection(connection_id, host, port))
        elif was != (host, port):
            steps.append(RepointConnection(connection_id, host, port, was))
        routed = {role for route in observed.routes for role, used in route.items() if used == connection_id}
        unrouted = tuple(role for role in client_roles if role not in routed)
        if unrouted:
            steps.append(StartRoute(connection_id, unrouted))
    return steps
