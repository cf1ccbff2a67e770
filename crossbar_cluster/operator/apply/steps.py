"""What can be done to a management realm, step by step: what each changes, in words, and what it depends on.

A step has a key, of what it brings about. When it fails, the steps that need its key are not taken, and so on; all
others are. Nothing is taken from what was to be stopped and has not been: it is in use. Steps are pure: `carrying`
knows the calls.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Literal

from crossbar_cluster.operator.apply.model import Endpoint, Limits, Permission, Place, Service

Sign = Literal["+", "~", "-"]
Kind = Literal["routercluster", "webcluster", "realm"]
Key = tuple[str, ...]

TITLES = {"role": "role", "routercluster": "router cluster", "webcluster": "web cluster", "realm": "realm"}


@dataclass(frozen=True)
class Step:
    """One change. Its text is what the diff says of it."""

    sign: ClassVar[Sign]

    @property
    def key(self) -> Key:
        raise NotImplementedError

    @property
    def needs(self) -> tuple[Key, ...]:
        """Keys of other steps; those that are not in the plan are there already."""
        return ()


class _Set(Step):
    """What sets something anew, or instead of what it is now (`before`)."""

    before: object | None

    @property
    def sign(self) -> Sign:  # type: ignore[override]
        return "~" if self.before else "+"


@dataclass(frozen=True)
class Create(Step):
    """A role or a realm, with nothing in it yet; a router cluster, stopped."""

    sign = "+"
    kind: str
    name: str

    def __str__(self) -> str:
        return f"{TITLES[self.kind]} {self.name}"

    @property
    def key(self) -> Key:
        return (self.kind, self.name)


@dataclass(frozen=True)
class CreateWebCluster(Step):
    """A web cluster, stopped, with nothing in it yet."""

    sign = "+"
    name: str
    endpoint: Endpoint
    instead: bool = False  #: of one that has been deleted because it cannot be changed

    def __str__(self) -> str:
        return f"web cluster {self.name}: {self.endpoint}{' (made anew)' if self.instead else ''}"

    @property
    def key(self) -> Key:
        return ("webcluster", self.name)

    @property
    def needs(self) -> tuple[Key, ...]:
        return (("delete", "webcluster", self.name),)


@dataclass(frozen=True)
class Delete(Step):
    """Something that is stopped, and that nothing else uses."""

    sign = "-"
    kind: str
    name: str
    after: tuple[Key, ...] = ()  #: what has to be gone before

    def __str__(self) -> str:
        return f"{TITLES[self.kind]} {self.name}"

    @property
    def key(self) -> Key:
        return ("delete", self.kind, self.name)

    @property
    def needs(self) -> tuple[Key, ...]:
        return (("stop", self.kind, self.name), *self.after)


@dataclass(frozen=True)
class _OfPermission(Step):
    role: str
    uri: str

    def __str__(self) -> str:
        return f"permission {self.uri!r} of role {self.role}"

    @property
    def key(self) -> Key:
        return ("permission", self.role, self.uri)


@dataclass(frozen=True)
class SetPermission(_Set, _OfPermission):
    """A permission of a role, instead of the one that it has for that URI, if any."""

    permission: Permission
    before: Permission | None = None

    def __str__(self) -> str:
        was = f" (was: {told(self.before)})" if self.before else ""
        return f"{super().__str__()}: {told(self.permission)}{was}"

    @property
    def needs(self) -> tuple[Key, ...]:
        return (("role", self.role),)


@dataclass(frozen=True)
class RemovePermission(_OfPermission):
    sign = "-"
    after: tuple[Key, ...] = ()

    @property
    def needs(self) -> tuple[Key, ...]:
        return self.after


@dataclass(frozen=True)
class SetRouterNode(_Set, Step):
    """A node of a router cluster, with these limits from now on."""

    cluster: str
    node: str
    limits: Limits
    before: Limits | None = None

    def __str__(self) -> str:
        was = f" (was: {_limits(self.before) or 'no limit'})" if self.before else ""
        limits = _limits(self.limits) or ("no limit" if self.before else "")
        return f"node {self.node} in router cluster {self.cluster}{': ' if limits else ''}{limits}{was}"

    @property
    def key(self) -> Key:
        return ("node", self.cluster, self.node)

    @property
    def needs(self) -> tuple[Key, ...]:
        return (("routercluster", self.cluster),)


@dataclass(frozen=True)
class SetWebNode(_Set, Step):
    """A node of a web cluster, with so many proxy workers from now on."""

    cluster: str
    node: str
    parallel: int
    before: int | None = None

    def __str__(self) -> str:
        count = f": {self.parallel} proxy worker{'' if self.parallel == 1 else 's'}"
        return f"node {self.node} in web cluster {self.cluster}{count}{f' (was: {self.before})' if self.before else ''}"

    @property
    def key(self) -> Key:
        return ("webnode", self.cluster, self.node)

    @property
    def needs(self) -> tuple[Key, ...]:
        return (("webcluster", self.cluster),)


@dataclass(frozen=True)
class ExpectNodes(_Set, Step):
    """Which nodes join a cluster by themselves once they are paired, instead of those that do now.

    :ivar nodes: names and patterns, each with what such nodes are to be given.
    """

    kind: Kind
    cluster: str
    nodes: tuple[tuple[str, Limits | int], ...]
    before: tuple[tuple[str, Limits | int], ...] | None = None

    def __str__(self) -> str:
        was = f" (was: {_expected(self.before)})" if self.before else ""
        return f"nodes that join {TITLES[self.kind]} {self.cluster} by themselves: {_expected(self.nodes)}{was}"

    @property
    def key(self) -> Key:
        return ("expectednodes", self.kind, self.cluster)

    @property
    def needs(self) -> tuple[Key, ...]:
        return ((self.kind, self.cluster), ("stop", self.kind, self.cluster))


@dataclass(frozen=True)
class RemoveNode(Step):
    sign = "-"
    kind: Kind
    cluster: str
    node: str

    def __str__(self) -> str:
        return f"node {self.node} in {TITLES[self.kind]} {self.cluster}"

    @property
    def key(self) -> Key:
        return ("removenode", self.kind, self.cluster, self.node)

    @property
    def needs(self) -> tuple[Key, ...]:  # a node that is still expected would come back at once
        return (("stop", self.kind, self.cluster), ("expectednodes", self.kind, self.cluster))


@dataclass(frozen=True)
class _OfGroup(Step):
    cluster: str
    group: str

    def __str__(self) -> str:
        return f"worker group {self.group} of router cluster {self.cluster}"


@dataclass(frozen=True)
class AddGroup(_OfGroup):
    sign = "+"
    scale: int

    def __str__(self) -> str:
        return f"{super().__str__()}: scale {self.scale}"

    @property
    def key(self) -> Key:
        return ("workergroup", self.cluster, self.group)

    @property
    def needs(self) -> tuple[Key, ...]:
        return (("routercluster", self.cluster),)


@dataclass(frozen=True)
class ScaleGroup(_OfGroup):
    sign = "~"
    scale: int
    before: int

    def __str__(self) -> str:
        return f"{super().__str__()}: scale {self.scale} (was: {self.before})"

    @property
    def key(self) -> Key:
        return ("workergroup", self.cluster, self.group, "scale")


@dataclass(frozen=True)
class RemoveGroup(_OfGroup):
    sign = "-"
    after: tuple[Key, ...] = ()

    @property
    def key(self) -> Key:
        return ("removegroup", self.cluster, self.group)

    @property
    def needs(self) -> tuple[Key, ...]:
        return (("stop", "routercluster", self.cluster), *self.after)


@dataclass(frozen=True)
class _OfService(Step):
    cluster: str
    path: str

    def __str__(self) -> str:
        return f"web service {self.path!r} of web cluster {self.cluster}"


@dataclass(frozen=True)
class SetService(_Set, _OfService):
    """A web service at a path, instead of the one that is there, if any."""

    service: Service
    before: Service | None = None

    def __str__(self) -> str:
        what = f"{super().__str__()}: "
        if not self.before:
            return what + str(json.loads(self.service)["type"])
        return f"{what}{_difference(self.before, self.service)} (nobody new is let in at this path for some seconds)"

    @property
    def key(self) -> Key:
        return ("service", self.cluster, self.path)

    @property
    def needs(self) -> tuple[Key, ...]:
        return (("webcluster", self.cluster),)


@dataclass(frozen=True)
class RemoveService(_OfService):
    sign = "-"

    @property
    def key(self) -> Key:
        return ("removeservice", self.cluster, self.path)

    @property
    def needs(self) -> tuple[Key, ...]:
        return (("stop", "webcluster", self.cluster),)


@dataclass(frozen=True)
class _OfRealmRole(Step):
    realm: str
    role: str

    def __str__(self) -> str:
        return f"role {self.role} in realm {self.realm}"


@dataclass(frozen=True)
class AddRealmRole(_OfRealmRole):
    sign = "+"

    @property
    def key(self) -> Key:
        return ("realmrole", self.realm, self.role)

    @property
    def needs(self) -> tuple[Key, ...]:
        return (("realm", self.realm), ("role", self.role))


@dataclass(frozen=True)
class RemoveRealmRole(_OfRealmRole):
    sign = "-"

    @property
    def key(self) -> Key:
        return ("removerealmrole", self.realm, self.role)

    @property
    def needs(self) -> tuple[Key, ...]:
        return (("stop", "realm", self.realm),)


@dataclass(frozen=True)
class Start(Step):
    """A router cluster or a web cluster."""

    sign = "~"
    kind: Kind
    name: str

    def __str__(self) -> str:
        return f"{TITLES[self.kind]} {self.name}: started"

    @property
    def key(self) -> Key:
        return ("start", self.kind, self.name)

    @property
    def needs(self) -> tuple[Key, ...]:
        return ((self.kind, self.name), ("stop", self.kind, self.name))


@dataclass(frozen=True)
class StartRealm(Step):
    sign = "~"
    realm: str
    place: Place
    roles: frozenset[str] = frozenset()

    def __str__(self) -> str:
        return f"realm {self.realm}: started on {self.place}"

    @property
    def key(self) -> Key:
        return ("start", "realm", self.realm)

    @property
    def needs(self) -> tuple[Key, ...]:
        place = self.place
        return (
            ("realm", self.realm),
            ("stop", "realm", self.realm),
            ("routercluster", place.routercluster),
            ("workergroup", place.routercluster, place.workergroup),
            ("start", "routercluster", place.routercluster),
            ("webcluster", place.webcluster),
            ("start", "webcluster", place.webcluster),
            *(("realmrole", self.realm, role) for role in sorted(self.roles)),
        )


@dataclass(frozen=True)
class Stop(Step):
    """Something that runs, or is stopping already; the step ends when it is stopped."""

    sign = "~"
    kind: Kind
    name: str
    why: str
    after: tuple[Key, ...] = ()

    def __str__(self) -> str:
        return f"{TITLES[self.kind]} {self.name}: stopped, {self.why}"

    @property
    def key(self) -> Key:
        return ("stop", self.kind, self.name)

    @property
    def needs(self) -> tuple[Key, ...]:
        return self.after


def told(permission: Permission) -> str:
    """A permission in words."""
    words = [permission.match, f"may {' and '.join(sorted(permission.allow))}" if permission.allow else "may nothing"]
    words += [f"is told the {who}" for who in sorted(permission.disclose)] + ["cached"] * permission.cache
    return ", ".join(words)


def _limits(limits: Limits) -> str:
    pairs = (("soft", limits.softlimit), ("hard", limits.hardlimit))
    return ", ".join(f"{name} limit {limit}" for name, limit in pairs if limit is not None)


def _expected(nodes: Iterable[tuple[str, Limits | int]]) -> str:
    """Names and patterns; the usual is not told of them."""
    told = []
    for rule, given in nodes:
        usual = given == 1 if isinstance(given, int) else given == Limits()
        what = f"{given} proxy workers" if isinstance(given, int) else _limits(given)
        told.append(rule if usual else f"{rule} ({what})")
    return ", ".join(told) or "none"


def _difference(before: Service, after: Service) -> str:
    """Which keys of a web service change; their values may be secrets."""
    old, new = json.loads(before), json.loads(after)
    changed = (key for key in sorted({*old, *new}) if json.dumps(old.get(key), sort_keys=True)
               != json.dumps(new.get(key), sort_keys=True))  # fmt: skip
    return f"{', '.join(changed)} changed"


def keys_of(steps: Iterable[Step]) -> tuple[Key, ...]:
    return tuple(step.key for step in steps)
