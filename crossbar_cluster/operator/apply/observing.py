"""Asks the master what is configured in its management realm. Nothing is changed by it.

The master tells things in the order of their object ids, which are random: here they are in the order of their names.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from crossbar_cluster.core.proxy import OF_SERVICE_RECORD
from crossbar_cluster.core.router import DISCLOSED, VERBS
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
    State,
    WebCluster,
    service_of,
)
from crossbar_cluster.operator.apply.steps import TITLES, Key
from crossbar_cluster.operator.master import Refused, Session

_T = TypeVar("_T")
_STATES: Mapping[str, State] = {"STARTING": "running", "RUNNING": "running", "STOPPING": "stopping"}
#: What can be set for a web cluster beyond what a file describes: kept when one is made anew.
_FURTHER = ("tcp_", "tls_", "http_")


@dataclass
class Actual:
    """What there is.

    :ivar oids: object ids by key (see `steps.Key`); nodes as ``("node", name)``. `carrying` keeps them current.
    :ivar further: web cluster -> settings that no file describes.
    """

    configuration: Configuration
    oids: dict[Key, str]
    further: Mapping[str, Mapping[str, Any]]


async def paired_nodes(session: Session) -> dict[str, str]:
    """Name -> object id of every node of the management realm."""
    records = await _each(session.call("get_node", oid) for oid in await session.call("get_nodes"))
    return {record["authid"]: record["oid"] for record in records if record["authid"]}


async def observe(session: Session) -> Actual:
    """:raises CannotAsk: :raises Refused: two things have the same name, so that none can be told from the other."""
    return await _Observing(session).actual()


class _Observing:
    def __init__(self, session: Session) -> None:
        self._call = session.call
        self._session = session
        self._oids: dict[Key, str] = {}
        self._names: dict[str, str] = {}  # of nodes, roles and clusters, by object id
        self._groups: dict[str, tuple[str, str]] = {}  # object id -> router cluster and worker group
        self._further: dict[str, Mapping[str, Any]] = {}

    async def actual(self) -> Actual:
        for name, oid in (await paired_nodes(self._session)).items():
            self._note(("node", name), oid)
        roles = await self._all("role", "arealm.list_roles", "arealm.get_role")
        routers = await self._all(
            "routercluster", "routercluster.list_routerclusters", "routercluster.get_routercluster"
        )
        webs = await self._all("webcluster", "webcluster.list_webclusters", "webcluster.get_webcluster")
        realms = await self._all("realm", "arealm.list_arealms", "arealm.get_arealm")
        configuration = Configuration(
            routerclusters={name: await self._router_cluster(record) for name, record in routers.items()},
            webclusters={name: await self._web_cluster(record) for name, record in webs.items()},
            roles={name: await self._role(record) for name, record in roles.items()},
            realms={name: await self._realm(record) for name, record in realms.items()},
        )
        return Actual(configuration, self._oids, self._further)

    def _note(self, key: Key, oid: str) -> None:
        self._oids[key] = oid
        self._names[oid] = key[-1]

    async def _all(self, kind: str, list_them: str, get: str) -> dict[str, dict[str, Any]]:
        records = await _each(self._call(get, oid) for oid in await self._call(list_them))
        found: dict[str, dict[str, Any]] = {}
        for record in records:
            name = record["name"]
            if name in found:
                raise Refused(
                    f"there are two {TITLES[kind]}s named {name}, {found[name]['oid']} and {record['oid']}: delete one"
                )
            found[name] = record
            self._note((kind, name), record["oid"])
        return dict(sorted(found.items()))

    async def _role(self, record: Mapping[str, Any]) -> Role:
        role = {}
        for permission in await self._call("arealm.get_role_permissions_by_uri", record["oid"]):
            uri = permission["uri"]
            self._oids["permission", record["name"], uri] = permission["oid"]
            role[uri] = Permission(
                permission["match"] or "exact",
                frozenset(verb for verb in VERBS if permission[f"allow_{verb}"]),
                frozenset(who for who in DISCLOSED if permission[f"disclose_{who}"]),
                bool(permission["cache"]),
            )
        return role

    async def _realm(self, record: Mapping[str, Any]) -> Realm:
        roles = await self._call("arealm.list_arealm_roles", record["oid"])
        group = self._groups.get(record["workergroup_oid"])
        web = self._names.get(record["webcluster_oid"])
        place = Place(*group, web) if group and web else None
        return Realm(frozenset(self._names[oid] for oid in roles if oid in self._names), place, _state(record))

    async def _router_cluster(self, record: Mapping[str, Any]) -> RouterCluster:
        oid, name = record["oid"], record["name"]
        nodes = await self._members("routercluster", oid)
        groups = await _each(
            self._call("routercluster.get_routercluster_workergroup", oid, group)
            for group in await self._call("routercluster.list_routercluster_workergroups", oid)
        )
        for group in groups:
            self._oids["workergroup", name, group["name"]] = group["oid"]
            self._groups[group["oid"]] = (name, group["name"])
        return RouterCluster(
            {node: Limits(m["softlimit"] or None, m["hardlimit"] or None) for node, m in nodes.items()},
            dict(sorted((group["name"], group["scale"]) for group in groups)),
            _state(record),
            {
                rule: Limits(given.get("softlimit"), given.get("hardlimit"))
                for rule, given in (await self._call("routercluster.get_expected_nodes", oid)).items()
            },
        )

    async def _web_cluster(self, record: Mapping[str, Any]) -> WebCluster:
        oid, name = record["oid"], record["name"]
        nodes = await self._members("webcluster", oid)
        listed = await self._call("webcluster.list_webcluster_services", oid)
        services = await _each(
            self._call("webcluster.get_webcluster_service", oid, service) for service in listed.values()
        )
        for service in services:
            self._oids["service", name, service["path"]] = service["oid"]
        self._further[name] = {k: v for k, v in record.items() if k.startswith(_FURTHER) and v is not None}
        return WebCluster(
            Endpoint(record["tcp_port"] or None, bool(record["tcp_shared"])),
            {node: m["parallel"] or 1 for node, m in nodes.items()},
            dict(sorted((s["path"], _service(s)) for s in services)),
            _state(record),
            {
                rule: given.get("parallel") or 1
                for rule, given in (await self._call("webcluster.get_expected_nodes", oid)).items()
            },
        )

    async def _members(self, kind: str, oid: str) -> dict[str, dict[str, Any]]:
        """Node name -> membership. Nodes that are paired no more have no name, and are none of ours."""
        listed = await self._call(f"{kind}.list_{kind}_nodes", oid)
        present = sorted((node for node in listed if node in self._names), key=self._names.__getitem__)
        found = await _each(self._call(f"{kind}.get_{kind}_node", oid, node) for node in present)
        return {self._names[node]: membership for node, membership in zip(present, found, strict=True)}


def _service(record: Mapping[str, Any]) -> Service:
    return service_of({key: value for key, value in record.items() if key not in OF_SERVICE_RECORD})


def _state(record: Mapping[str, Any]) -> State:
    return _STATES.get(record["status"], "stopped")


async def _each(calls: Iterable[Awaitable[_T]]) -> list[_T]:
    """The answers of several calls made at once."""
    return list(await asyncio.gather(*calls))
