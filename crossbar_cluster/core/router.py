"""What a router worker should run, what it runs, and the steps from one to the other. Pure.

What is desired comes from the master's database, what is observed from the worker itself. The planned state plans to
nothing. Only what carries an id that the master gives (`REALM_PREFIX`, `ROLE_PREFIX`) is ever stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from crossbar_cluster.core.digest import digest
from crossbar_cluster.core.mesh import ObservedLink, links_to_drop, plan_links
from crossbar_cluster.core.proxy import Backend
from crossbar_cluster.core.worker import START_WORKER, STOP_WORKER, Plan, WorkerKey, plan_of

#: Where router workers listen for proxies: the first of these that is free, as in the release.
LISTENING_PORTS = range(10000, 10101)

REALM_PREFIX = "rlm_"
ROLE_PREFIX = "rle_"
#: The role that router-to-router links have; no client has it.
RLINK_ROLE = "rlink"

#: What a permission of a role allows, and whom it discloses, as the release names them.
VERBS = ("call", "register", "publish", "subscribe")
DISCLOSED = ("caller", "publisher")


Peer = tuple[str, str]  # a node: authid and public key (hex)


@dataclass(frozen=True)
class Role:
    """A role of a realm with the configuration that a router worker takes."""

    id: str  #: its run-time id on the worker
    config: Mapping[str, Any]

    @property
    def name(self) -> str:
        return str(self.config["name"])


@dataclass(frozen=True)
class Realm:
    """An application realm as a router worker is to run it."""

    id: str  #: its run-time id on the worker
    name: str
    roles: tuple[Role, ...]


@dataclass(frozen=True)
class DesiredRouter:
    """A router worker as it is configured."""

    key: WorkerKey
    node: str  #: the node's authid
    realms: tuple[Realm, ...]
    peers: tuple[Peer, ...] = ()  #: every node that may connect to it
    links: tuple[Backend, ...] = ()  #: the other workers of its group, and where they are
    routers: tuple[str, ...] = ()  #: authids of their nodes, which may link themselves with it
    serves: tuple[tuple[str, tuple[str, ...]], ...] = ()
    #: authids of nodes with proxies, and names of the realms whose clients each may bring

    @property
    def principals(self) -> dict[str, dict[str, Any]]:
        """Who may connect to the listener, as a router worker takes it: each node with its own key."""
        return {authid: {"role": RLINK_ROLE, "authorized_keys": [key]} for authid, key in self.peers}

    @property
    def access(self) -> list[Any]:
        """Who may connect to the listener, who of them may link, and who may bring clients of which realms."""
        return [self.principals, list(self.routers), {authid: list(realms) for authid, realms in self.serves}]

    def access_on(self, observed: ObservedRouter | None) -> list[Any]:
        """`access`, as far as the worker can be told it: one of a version before knows nothing of realms."""
        return self.access if observed is None or observed.by_realm else self.access[:2]

    @property
    def transport_id(self) -> str:
        return transport_id(self.key.worker)

    @property
    def connection_id(self) -> str:
        """What proxies call their connection to this worker."""
        return connection_id(self.node, self.key.worker)

    def located(self, locate: Callable[[Backend], Backend]) -> DesiredRouter:
        """The same with every other worker of the group as ``locate`` knows it."""
        return replace(self, links=tuple(map(locate, self.links)))

    def admitting(
        self, observed: ObservedRouter | None, paired: Iterable[Peer], guests: frozenset[Peer] = frozenset()
    ) -> DesiredRouter:
        """The same with the nodes that it is linked with, and with guests, as long as they are paired.

        A worker that leaves the group still has clients for a while. They are to reach the others, and be reached by
        them, until the link to it is dropped, which waits for that.

        :param paired: all nodes.
        :param guests: nodes that may connect although they are not to, because they still have clients here.
        """
        links = (observed and observed.links) or {}
        linked = {(r.node, r.pubkey) for r in (link.router for link in links.values()) if r and r.pubkey}
        if {authid for authid, _ in linked} <= set(self.routers) and guests <= set(self.peers):
            return self
        still = (linked | guests) & set(paired)
        routers = {*self.routers, *(authid for authid, _ in still & linked)}
        serves = dict(self.serves) | {
            authid: tuple(sorted(r.name for r in self.realms)) for authid, _ in still & guests
        }
        return replace(
            self,
            peers=tuple(sorted({*self.peers, *still})),
            routers=tuple(sorted(routers)),
            serves=tuple(sorted(serves.items())),
        )

    def links_to(self, router: WorkerKey) -> bool:
        """Whether it is to be linked with that router worker."""
        return any(other.router == router for other in self.links)


def transport_id(worker: str) -> str:
    """The run-time id of a router worker's listener for proxies."""
    return f"tnp_{worker}"


def connection_id(node: str, worker: str) -> str:
    """The name that proxies have for the backend connection to a router worker."""
    return f"cnc_{node}_{worker}"


@dataclass(frozen=True)
class ObservedRouter:
    """A router worker as it describes itself."""

    running: bool = False
    realms: Mapping[str, Mapping[str, str | None]] = field(default_factory=dict)
    #: realm id -> role id -> digest of the role's configuration; None: a worker of the plain release does not tell
    names: Mapping[str, str] = field(default_factory=dict)  #: realm id -> name, as far as it tells
    port: int | None = None  #: where its listener for proxies really listens; None: it has none
    access: str | None = None  #: digest of `DesiredRouter.access`; None: a worker of the plain release
    life: str | None = None  #: another one for each start of its process; None: a worker of the plain release
    links: Mapping[str, ObservedLink] | None = None  #: by id; None: a worker of the plain release
    by_realm: bool = True  #: it can be told which node may bring clients of which realms
    limits_met: Mapping[str, int] = field(default_factory=dict)  #: limit of clients -> how often, in this life of it

    @property
    def managed(self) -> bool:
        """Whether the master has started it: it runs something with an id that the master gives."""
        return self.port is not None or any(realm_id.startswith(REALM_PREFIX) for realm_id in self.realms)


@dataclass(frozen=True)
class StartRealm:
    """Start a realm."""

    realm: Realm

    def __str__(self) -> str:
        return f"realm {self.realm.name} started"


@dataclass(frozen=True)
class ReplaceRealm:
    """Stop a realm that has the name of one to be started: the worker can run only one of a name."""

    former_id: str
    realm: Realm

    def __str__(self) -> str:
        return f"realm {self.realm.name} started in place of a former one"


@dataclass(frozen=True)
class StartRole:
    """Start a role of a realm."""

    realm: Realm
    role: Role

    def __str__(self) -> str:
        return f"role {self.role.name} of realm {self.realm.name} started"


@dataclass(frozen=True)
class UpdateRole:
    """Give a role of a realm other permissions."""

    realm: Realm
    role: Role

    def __str__(self) -> str:
        return f"role {self.role.name} of realm {self.realm.name} updated"


@dataclass(frozen=True)
class StartListener:
    """Listen for proxies."""

    def __str__(self) -> str:
        return "listening for proxies"


@dataclass(frozen=True)
class UpdatePrincipals:
    """Let others connect to the listener than until now."""

    def __str__(self) -> str:
        return "nodes that may connect updated"


@dataclass(frozen=True)
class StopRealm:
    """Stop a realm."""

    realm_id: str

    def __str__(self) -> str:
        return f"realm {self.realm_id} stopped"


@dataclass(frozen=True)
class StopRole:
    """Stop a role of a realm."""

    realm_id: str
    role_id: str

    def __str__(self) -> str:
        return f"role {self.role_id} of realm {self.realm_id} stopped"


def plan_router(
    desired: DesiredRouter | None, observed: ObservedRouter, expelled: frozenset[str] = frozenset()
) -> Plan:
    """The stages that make a router worker run what is desired; for None, those that end it.

    A worker that has to be started is observed anew before anything else is done on it. It listens last: a client that
    gets through to a worker whose realm is not there yet is turned away for good. Each realm is a strand of its own,
    and so is each link: one that cannot be started holds up no other, nor the listener.

    :param expelled: links to routers that have been unpaired.
    """
    if desired is None:
        return STOP_WORKER if observed.managed else ()
    if not observed.running:
        return START_WORKER
    realms = [_realm_strand(realm, observed) for realm in desired.realms]
    links = plan_links(desired.links, observed.links) if observed.links is not None else []
    return plan_of([*realms, *links], [_listener_strand(desired, observed)], [_removals(desired, observed, expelled)])


def _listener_strand(desired: DesiredRouter, observed: ObservedRouter) -> list[Any]:
    if observed.port is None:
        return [StartListener()]
    up_to_date = observed.access in (None, digest(desired.access_on(observed)))
    return [] if up_to_date else [UpdatePrincipals()]


def _realm_strand(realm: Realm, observed: ObservedRouter) -> list[Any]:
    if realm.id not in observed.realms:
        former = _former(realm, observed)
        start = ReplaceRealm(former, realm) if former else StartRealm(realm)
        return [start, *(StartRole(realm, role) for role in realm.roles)]
    running = observed.realms[realm.id]
    steps: list[Any] = []
    for role in realm.roles:
        if role.id not in running:
            steps.append(StartRole(realm, role))
        elif running[role.id] not in (None, digest(dict(role.config))):
            steps.append(UpdateRole(realm, role))
    return steps


def _former(realm: Realm, observed: ObservedRouter) -> str | None:
    """The id of another realm of the master's that runs under the name of this one."""
    same_name = (i for i, name in observed.names.items() if name == realm.name and i in observed.realms)
    return next((realm_id for realm_id in same_name if realm_id.startswith(REALM_PREFIX)), None)


def _removals(desired: DesiredRouter, observed: ObservedRouter, expelled: frozenset[str]) -> list[Any]:
    wanted = {realm.id: {role.id for role in realm.roles} for realm in desired.realms}
    names = {realm.name for realm in desired.realms}  # a former realm of the same name is replaced, not stopped
    steps: list[Any] = links_to_drop(desired.links, observed.links or {}, expelled)
    for realm_id, roles in sorted(observed.realms.items()):
        if realm_id in wanted:
            extra = sorted(r for r in roles if r.startswith(ROLE_PREFIX) and r not in wanted[realm_id])
            steps += [StopRole(realm_id, role_id) for role_id in extra]
        elif realm_id.startswith(REALM_PREFIX) and observed.names.get(realm_id) not in names:
            steps.append(StopRealm(realm_id))
    return steps
