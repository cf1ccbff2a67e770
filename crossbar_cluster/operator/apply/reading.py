"""The file that ``apply`` takes: what may stand in it, and what it describes.

Everything is checked before the master is asked anything. What names stand for must be described in the file, except
nodes: those come and go, and a name or pattern of nodes means whatever is paired by then (`resolve`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from crossbar_cluster.core.expected import Rules, in_order, is_pattern, meant, meant_by
from crossbar_cluster.core.limits import NAMES
from crossbar_cluster.core.router import DISCLOSED, VERBS
from crossbar_cluster.operator.apply.kinds import (
    Fields,
    Items,
    Named,
    NamedOrListed,
    OneOf,
    Several,
    Text,
    Truth,
    Whole,
    guess,
)
from crossbar_cluster.operator.apply.model import (
    Configuration,
    Endpoint,
    Limits,
    Permission,
    Place,
    Realm,
    Role,
    RouterCluster,
    Service,
    WebCluster,
    service_of,
)
from crossbar_cluster.operator.apply.source import Json, Problem, Problems, Word, compose

#: Types of web services, as the release's ``WebClusterManager`` knows them.
SERVICES = (
    "websocket", "websocket-reverseproxy", "static", "json", "nodeinfo", "redirect", "reverseproxy", "path", "cgi",
    "wsgi", "caller", "publisher", "archive", "wap",
)  # fmt: skip
MAX_SCALE = 128  # as in the release
MAX_LIMIT = 1_000_000
MAX_OF_CLIENT = 2**40

_CLUSTER = Text(  # the release's pattern of configuration items
    "the name of a cluster",
    "[a-z][a-z0-9_]{2,63}",
    "3 to 64 small letters, digits and underscores, a letter first",
)
_GROUP = Text(
    "the name of a worker group", r"[^\s.#/]{1,64}", "1 to 64 characters, none of them a space, '.', '#' or '/'"
)
_NAME = Text("a name", r"[^\s#]+", "something without spaces and '#'")
_NODE = Text("the name of a node", r"\S+", "something without spaces")
_PATH = Text("the path of a web service", r"[a-z0-9A-Z_\-]+|/", "/ or letters, digits, '_' and '-', without a slash")

#: What one client may have and do (of a service of type websocket).
_LIMITS = Fields("limits", {name: Whole(name, 1, MAX_OF_CLIENT) for name in NAMES})
_SERVICE = Fields("a web service", {"type": OneOf("type", SERVICES), "limits": _LIMITS}, frozenset({"type"}), open=True)
_PERMISSION = Fields(
    "a permission",
    {
        "uri": Text("a URI", r"[^\s#]*", "something without spaces and '#'"),
        "match": OneOf("match", ("exact", "prefix", "wildcard")),
        "allow": Several("allow", VERBS),
        "disclose": Several("disclose", DISCLOSED),
        "cache": Truth("cache"),
    },
    frozenset({"uri"}),
)
# The release takes an authmethod with a realm's role and keeps it nowhere: it would only look as if it protected.
_NO_AUTHMETHOD = " (how clients get which role is said by `auth` of a web service)"
_REALM = Fields(
    "an application realm",
    {
        "roles": Items("roles", _NAME, _NO_AUTHMETHOD),
        "workergroup": Text("a worker group"),
        "webcluster": Text("a web cluster"),
    },
    frozenset({"workergroup", "webcluster"}),
)
_LIMIT = {name: Whole(name, 1, MAX_LIMIT) for name in ("softlimit", "hardlimit")}
_ROUTERCLUSTER = Fields(
    "a router cluster",
    {
        "nodes": NamedOrListed("nodes", _NODE, Fields("a node of a router cluster", _LIMIT)),
        "workergroups": Named(
            "worker groups", _GROUP, Fields("a worker group", {"scale": Whole("scale", 1, MAX_SCALE)})
        ),
    },
)
_WEBCLUSTER = Fields(
    "a web cluster",
    {
        "port": Whole("port", 1, 65535),
        "shared": Truth("shared"),
        "nodes": NamedOrListed(
            "nodes", _NODE, Fields("a node of a web cluster", {"parallel": Whole("parallel", 1, 128)})
        ),
        "services": Named(
            "web services",
            _PATH,
            Fields(
                "a web service", {"type": OneOf("type", SERVICES), "limits": _LIMITS}, frozenset({"type"}), open=True
            ),
        ),
    },
    frozenset({"port"}),
)
_FILE = Fields(
    "the file",
    {
        "roles": Named("roles", _NAME, Items("a role", _PERMISSION)),
        "realms": Named("realms", _NAME, _REALM),
        "routerclusters": Named("router clusters", _CLUSTER, _ROUTERCLUSTER),
        "webclusters": Named("web clusters", _CLUSTER, _WEBCLUSTER),
    },
)

_T = TypeVar("_T")


class Invalid(Exception):
    """The file is not right.

    :ivar problems: all of it, in the order of the file.
    """

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__(f"{len(problems)} problems")
        self.problems = sorted(problems)


@dataclass(frozen=True)
class DescribedRouters:
    nodes: Rules[Limits] = field(default_factory=dict)
    groups: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class DescribedProxies:
    endpoint: Endpoint
    nodes: Rules[int] = field(default_factory=dict)
    services: Mapping[str, Service] = field(default_factory=dict)


@dataclass(frozen=True)
class Description:
    """What the file describes."""

    roles: Mapping[str, Role] = field(default_factory=dict)
    realms: Mapping[str, Realm] = field(default_factory=dict)
    routerclusters: Mapping[str, DescribedRouters] = field(default_factory=dict)
    webclusters: Mapping[str, DescribedProxies] = field(default_factory=dict)


@dataclass(frozen=True)
class Pending:
    """A part that cannot be brought about yet."""

    what: str
    why: str


def json_schema() -> Json:
    """What may stand in the file, for editors."""
    title = "What crossbar-cluster apply brings about"
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": title, **_FILE.schema()}


def read(text: str) -> Description:
    """:raises Invalid:"""
    problems = Problems()
    root = compose(text, problems)
    content = _FILE.read(root, problems) if root is not None else {}
    if problems.found:  # what refers to something that is not right would only be told twice
        raise Invalid(problems.found)
    description = _Describing(content, problems).description()
    if problems.found:
        raise Invalid(problems.found)
    return description


class _Describing:
    """Makes a description of what has been read, and looks at what one part says of another."""

    def __init__(self, content: dict[str, Any], problems: Problems) -> None:
        self._roles = content.get("roles", {})
        self._realms = content.get("realms", {})
        self._routers = content.get("routerclusters", {})
        self._webs = content.get("webclusters", {})
        self._problems = problems

    def description(self) -> Description:
        return Description(
            {str(name): self._role(permissions) for name, permissions in self._roles.items()},
            {str(name): self._realm(realm) for name, realm in self._realms.items()},
            {str(name): self._router_cluster(cluster) for name, cluster in self._routers.items()},
            {str(name): self._web_cluster(cluster) for name, cluster in self._webs.items()},
        )

    def _role(self, permissions: list[dict[str, Any]]) -> Role:
        role: dict[str, Permission] = {}
        for permission in permissions:
            uri = permission["uri"]
            if uri in role:
                self._problems.add(uri, f"the role has a permission for {str(uri)!r} already: one a URI is kept")
            role[str(uri)] = Permission(
                permission.get("match", "exact"),
                permission.get("allow", frozenset()),
                permission.get("disclose", frozenset()),
                permission.get("cache", False),
            )
        return role

    def _realm(self, realm: dict[str, Any]) -> Realm:
        roles = realm.get("roles", [])
        for role in roles:
            self._known("role", role, self._roles)
        self._known("web cluster", realm["webcluster"], self._webs)
        cluster, group = self._group(realm["workergroup"])
        return Realm(frozenset(map(str, roles)), Place(cluster, group, str(realm["webcluster"])))

    def _group(self, reference: Word) -> tuple[str, str]:
        """``group``, or ``cluster/group`` where several clusters have one of that name."""
        groups = [
            (str(name), str(g)) for name, cluster in self._routers.items() for g in cluster.get("workergroups", {})
        ]
        found = [place for place in groups if reference in (place[1], "/".join(place))]
        if len(found) == 1:
            return found[0]
        if found:
            named = " or ".join("/".join(place) for place in found)
            self._problems.add(reference, f"several router clusters have a worker group {reference!s}: write {named}")
        else:
            self._known("worker group", reference, [group for _, group in groups])
        return "", ""

    def _known(self, what: str, name: Word, known: Collection[str]) -> None:
        if name not in known:
            there = f"described are {', '.join(sorted(known))}" if known else "none is described"
            self._problems.add(name, f"there is no {what} {name!s} in this file: {there}{guess(name, known)}")

    def _router_cluster(self, cluster: dict[str, Any]) -> DescribedRouters:
        groups = cluster.get("workergroups", {})
        return DescribedRouters(
            {str(name): Limits(**limits) for name, limits in cluster.get("nodes", {}).items()},
            {str(name): group.get("scale", 1) for name, group in groups.items()},
        )

    def _web_cluster(self, cluster: dict[str, Any]) -> DescribedProxies:
        shared = cluster.get("shared", True)
        nodes = cluster.get("nodes", {})
        for name, settings in nodes.items():
            if settings.get("parallel", 1) > 1 and not shared:
                self._problems.add(name, "several proxy workers on a node need a port that is shared: true")
        services = cluster.get("services", {})
        return DescribedProxies(
            Endpoint(cluster["port"], shared),
            {str(name): settings.get("parallel", 1) for name, settings in nodes.items()},
            {str(path): service_of(config) for path, config in services.items()},
        )


def resolve(description: Description, paired: Collection[str]) -> tuple[Configuration, tuple[Pending, ...]]:
    """What is to be, given the nodes that are paired by now, and what has to wait for others.

    A realm is started as soon as its router cluster and its web cluster have a node each.
    """
    pending: list[Pending] = []
    routers, webs = {}, {}
    for name, cluster in description.routerclusters.items():
        nodes = _matching(f"router cluster {name}", cluster.nodes, paired, pending)
        routers[name] = RouterCluster(nodes, cluster.groups, expected=cluster.nodes)
    for name, web in description.webclusters.items():
        proxies = _matching(f"web cluster {name}", web.nodes, paired, pending)
        webs[name] = WebCluster(web.endpoint, proxies, web.services, expected=web.nodes)
    realms = {}
    for name, realm in description.realms.items():
        place = realm.place
        assert place is not None  # a described realm has one
        empty = [
            what
            for what, rules, found in (
                (f"router cluster {place.routercluster}", description.routerclusters[place.routercluster].nodes,
                 routers[place.routercluster].nodes),
                (f"web cluster {place.webcluster}", description.webclusters[place.webcluster].nodes,
                 webs[place.webcluster].nodes),
            )
            if rules and not found
        ]  # fmt: skip
        if empty:
            pending.append(Pending(f"start of realm {name}", f"no node yet in {' and '.join(empty)}"))
        realms[name] = Realm(realm.roles, None if empty else place)
    return Configuration(description.roles, realms, routers, webs), tuple(pending)


def _matching(what: str, rules: Rules[_T], paired: Collection[str], pending: list[Pending]) -> dict[str, _T]:
    """The nodes that are meant."""
    for rule, _ in in_order(rules):
        if not meant_by(rule, paired):
            why = "matches no node that is paired" if is_pattern(rule) else "is not paired yet"
            pending.append(Pending(f"node {rule} of {what}", why))
    return meant(rules, paired)
