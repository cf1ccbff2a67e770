"""What a proxy worker should run, what it runs, and the steps from one to the other. Pure.

A proxy has *connections* to router workers, *routes* that send the clients of a realm and role to a connection, and one
transport on which clients connect. What is desired comes from the master's database, what is observed from the worker
itself. The planned state plans to nothing. Only connections that carry the master's prefix are ever stopped, and only
routes that lead to such connections.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain
from typing import Any

from crossbar_cluster.core.worker import START_WORKER, STOP_WORKER, Plan, WorkerKey, plan_of

#: The release's name for the one transport of a proxy worker.
TRANSPORT_ID = "primary"
CONNECTION_PREFIX = "cnc_"
#: How the names of proxy workers begin.
PROXY_PREFIX = "cpw-"
#: What the release keeps in a web service's record and does not take in its configuration.
OF_SERVICE_RECORD = frozenset({"oid", "label", "description", "tags", "cluster_oid", "webcluster_oid", "path"})

Endpoint = tuple[str, int]  # host and port
Pair = tuple[str, str]  # role and connection id: what a route consists of


def proxy_prefix(webcluster_oid: object) -> str:
    """How the names of a web cluster's proxy workers begin. :param webcluster_oid: a UUID, or its text."""
    return f"{PROXY_PREFIX}{str(webcluster_oid)[:8]}-"


@dataclass(frozen=True)
class RouterLife:
    """A router worker as a proxy has to know it, to tell it from whoever else answers at its address."""

    node: str  #: authid
    worker: str
    pubkey: str | None  #: of its node (hex), which it has to prove; None: it runs the plain release and cannot
    life: str | None = None  #: another one for each start of its process; None: not known, or it does not tell


@dataclass(frozen=True)
class Backend:
    """A router worker that clients of a realm are to be sent to."""

    connection_id: str
    router: WorkerKey
    endpoint: Endpoint | None = None  #: where it is, as far as anybody knows
    confirmed: bool = False  #: it is known to listen there now. One that is not may be there all the same: it is left
    # as it is.
    identity: RouterLife | None = None  #: who is to be found there


@dataclass(frozen=True)
class RoutedRealm:
    """A realm as a proxy is to serve it."""

    name: str
    roles: tuple[str, ...]  #: names of the roles that clients can have
    backends: tuple[Backend, ...]

    @property
    def pairs(self) -> set[Pair]:
        """What its routes are to consist of."""
        return {(role, backend.connection_id) for role in self.roles for backend in self.backends}


@dataclass(frozen=True)
class DesiredProxy:
    """A proxy worker as it is configured."""

    key: WorkerKey
    node: str  #: the node's authid
    transport: Mapping[str, Any]  #: configuration of its transport, without services
    services: Mapping[str, Mapping[str, Any]]  #: path -> configuration of the web service
    realms: tuple[RoutedRealm, ...]

    @property
    def backends(self) -> dict[str, Backend]:
        """Connection id -> backend, of all realms."""
        return {backend.connection_id: backend for realm in self.realms for backend in realm.backends}

    def uses(self, router: WorkerKey) -> bool:
        """Whether clients are to be sent to that router worker."""
        return any(backend.router == router for realm in self.realms for backend in realm.backends)

    def located(self, locate: Callable[[Backend], Backend]) -> DesiredProxy:
        """The same with every backend as ``locate`` knows it."""
        realms = (replace(realm, backends=tuple(map(locate, realm.backends))) for realm in self.realms)
        return replace(self, realms=tuple(realms))


@dataclass(frozen=True)
class ObservedProxy:
    """A proxy worker as it describes itself."""

    running: bool = False
    listening: bool = False  #: its transport is started
    services: frozenset[str] = frozenset()  #: paths
    connections: Mapping[str, Endpoint] = field(default_factory=dict)  #: connection id -> where it leads
    routes: Mapping[str, Mapping[str, Mapping[str, str]]] = field(default_factory=dict)
    #: realm -> route id -> role -> connection id
    identities: Mapping[str, RouterLife | None] | None = None
    #: connection id -> who is to be found there; None: a worker of the plain release does not tell
    leaving: Mapping[str, frozenset[str]] = field(default_factory=dict)
    #: connection id -> realms of clients that are still there although no route leads there for them any more
    most_clients: int | None = None  #: how many can be connected; None: it does not tell
    troubles: tuple[str, ...] = ()  #: what it, or its host, lacks itself, for people
    limits_met: Mapping[str, int] = field(default_factory=dict)  #: limit of clients -> how often, in this life of it

    @cached_property
    def used(self) -> frozenset[str]:
        """The connections over which clients are sent, or on which they still are."""
        routed = (route.values() for routes in self.routes.values() for route in routes.values())
        return frozenset(chain(self.leaving, *routed))

    def uses(self, connection_id: str, realm: str | None = None) -> bool:
        """Whether clients (of the realm) are sent over that connection, or are still there."""
        if realm is None:
            return connection_id in self.used
        routes = self.routes.get(realm, {}).values()
        return realm in self.leaving.get(connection_id, ()) or any(connection_id in route.values() for route in routes)


@dataclass(frozen=True)
class StartConnection:
    """Tell the proxy worker of a router worker."""

    connection_id: str
    endpoint: Endpoint
    identity: RouterLife | None = None

    def __str__(self) -> str:
        return f"connection {self.connection_id} started to {at(self.endpoint)}"


@dataclass(frozen=True)
class RepointConnection:
    """Tell the proxy worker that a router worker is to be found elsewhere, or has a new life."""

    connection_id: str
    endpoint: Endpoint
    was: Endpoint
    identity: RouterLife | None = None

    def __str__(self) -> str:
        if self.was == self.endpoint:
            return f"connection {self.connection_id} renewed: its router has been started anew at {at(self.endpoint)}"
        return f"connection {self.connection_id} re-pointed from {at(self.was)} to {at(self.endpoint)}"


@dataclass(frozen=True)
class StartRoute:
    """Let the proxy worker use a connection for these roles of the realm."""

    realm: str
    connection_id: str
    roles: tuple[str, ...]

    def __str__(self) -> str:
        return f"realm {self.realm} ({', '.join(self.roles)}) routed to {self.connection_id}"


@dataclass(frozen=True)
class StartTransport:
    """Let the proxy worker listen for clients."""

    def __str__(self) -> str:
        return "listening for clients"


@dataclass(frozen=True)
class StartService:
    """Start a web service of the transport."""

    path: str

    def __str__(self) -> str:
        return f"web service {self.path!r} started"


@dataclass(frozen=True)
class StopRoute:
    """Let the proxy worker use a route no more."""

    realm: str
    route_id: str

    def __str__(self) -> str:
        return f"{self.route_id} of realm {self.realm} stopped"


@dataclass(frozen=True)
class StopConnection:
    """Let the proxy worker forget a router worker."""

    connection_id: str

    def __str__(self) -> str:
        return f"connection {self.connection_id} stopped"


@dataclass(frozen=True)
class StopService:
    """Stop a web service of the transport."""

    path: str

    def __str__(self) -> str:
        return f"web service {self.path!r} stopped"


def at(endpoint: Endpoint) -> str:
    """Host and port as people write them."""
    host, port = endpoint
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def plan_proxy(desired: DesiredProxy | None, observed: ObservedProxy, expelled: frozenset[str] = frozenset()) -> Plan:
    """The stages that make a proxy worker serve what is desired; for None, those that end it.

    What leads clients to a backend comes first, each connection a strand of its own; then the transport opens; what is
    no longer wanted goes last, so that a realm has no moment without a route.

    :param expelled: connections to routers that have been unpaired: better no route than one that leads there.
    """
    if desired is None:
        return STOP_WORKER if observed.running else ()
    if not observed.running:
        return START_WORKER
    backends = [backend for _, backend in sorted(desired.backends.items())]
    kept = {realm.name: _useful_routes(realm.pairs, observed.routes.get(realm.name, {})) for realm in desired.realms}
    services = [StartService(path) for path in sorted(desired.services) if path not in observed.services]
    frontend = [[service] for service in services] if observed.listening else [[StartTransport(), *services]]
    return plan_of(
        [_connection_strand(backend, desired, observed, kept) for backend in backends],
        frontend,
        [_removals(desired, observed, kept, expelled)],
    )


def _useful_routes(wanted: set[Pair], routes: Mapping[str, Mapping[str, str]]) -> dict[str, Mapping[str, str]]:
    """Those of a realm's routes that consist of wanted pairs only and add one that no earlier route has."""
    useful: dict[str, Mapping[str, str]] = {}
    covered: set[Pair] = set()
    for route_id, route in sorted(routes.items()):
        pairs = set(route.items())
        if pairs and pairs <= wanted and not pairs <= covered:
            useful[route_id] = route
            covered |= pairs
    return useful


def _pairs_of(routes: Mapping[str, Mapping[str, str]]) -> set[Pair]:
    return {pair for route in routes.values() for pair in route.items()}


def _connection_strand(
    backend: Backend,
    desired: DesiredProxy,
    observed: ObservedProxy,
    kept: Mapping[str, Mapping[str, Mapping[str, str]]],
) -> list[Any]:
    """The steps for one connection and the routes over it.

    A backend that is not known to listen now is not pointed elsewhere; a proxy that does not know it at all tries it
    where it was last seen, which is better than no route.
    """
    if backend.endpoint is None:
        return []
    steps: list[Any] = []
    was = observed.connections.get(backend.connection_id)
    if was is None:
        steps.append(StartConnection(backend.connection_id, backend.endpoint, backend.identity))
    elif backend.confirmed and (was != backend.endpoint or _is_another(backend, observed)):
        steps.append(RepointConnection(backend.connection_id, backend.endpoint, was, backend.identity))
    for realm in desired.realms:
        if backend in realm.backends:
            routed = _pairs_of(kept[realm.name])
            missing = tuple(role for role in sorted(realm.roles) if (role, backend.connection_id) not in routed)
            if missing:
                steps.append(StartRoute(realm.name, backend.connection_id, missing))
    return steps


def _is_another(backend: Backend, observed: ObservedProxy) -> bool:
    """Whether a proxy worker takes somebody else, or another life, for the backend."""
    told = observed.identities
    return told is not None and told.get(backend.connection_id) != backend.identity


def _removals(
    desired: DesiredProxy,
    observed: ObservedProxy,
    kept: Mapping[str, Mapping[str, Mapping[str, str]]],
    expelled: frozenset[str],
) -> list[Any]:
    realms = {realm.name: realm for realm in desired.realms}
    steps: list[Any] = []
    used = set(desired.backends)
    for name, routes in sorted(observed.routes.items()):
        served = _served_roles(realms[name], kept[name], observed) if name in realms else set()
        for route_id, route in sorted(routes.items()):
            ours = all(connection_id.startswith(CONNECTION_PREFIX) for connection_id in route.values())
            needed = {role for role in route if name in realms and role in realms[name].roles} - served
            if ours and (not needed or expelled.issuperset(route.values())) and route_id not in kept.get(name, {}):
                steps.append(StopRoute(name, route_id))
            else:
                used |= set(route.values())
    connections = (c for c in sorted(observed.connections) if c.startswith(CONNECTION_PREFIX))
    steps += [StopConnection(connection_id) for connection_id in connections if connection_id not in used]
    if observed.listening:
        steps += [StopService(path) for path in sorted(observed.services - set(desired.services))]
    return steps


def _served_roles(realm: RoutedRealm, kept: Mapping[str, Mapping[str, str]], observed: ObservedProxy) -> set[str]:
    """The roles of a realm that can do without any other route: one that stays leads to a backend known to listen.

    It is what is observed that counts: a route that is only planned may fail to start.
    """
    listening = {
        backend.connection_id
        for backend in realm.backends
        if backend.confirmed and backend.endpoint == observed.connections.get(backend.connection_id)
    }
    return {role for role, connection_id in _pairs_of(kept) if connection_id in listening}
