"""Which nodes are members of which cluster: those that are expected by name or pattern join when they are paired.

The control plane settles memberships whenever configuration has changed, before it places router workers. Memberships
are only added here: a node that is expected no more stays until somebody removes it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import zlmdb
from autobahn.wamp.exception import ApplicationError
from cfxdb.mrealm import RouterClusterNodeMembership, WebClusterNodeMembership

from crossbar_cluster.control.configuration import TITLES
from crossbar_cluster.control.records import nodes_of
from crossbar_cluster.control.routerclusters import parse_oid, refuse_strangers
from crossbar_cluster.core.expected import Rules, meant

Settings = dict[str, int | None]
_SETTINGS = {"routercluster": ("softlimit", "hardlimit"), "webcluster": ("parallel",)}
_AT_MOST = 1_000_000


@zlmdb.table("d1d3f3a4-5bd4-4a2f-9a3e-0f0a8f6b7c21", marshal=dict, parse=dict)
class ExpectedNodes(zlmdb.MapUuidJson):  # type: ignore[misc]
    """Router or web cluster -> names and patterns of the nodes that join it once they are paired.

    A table of our own in the management realm's database: the release does not know it, and does not touch it.
    """


@dataclass(frozen=True)
class Joined:
    """A node that has become a member of a cluster."""

    node_oid: UUID
    node: str
    title: str  #: of the cluster

    def __str__(self) -> str:
        return f"Node {self.node} has joined {self.title}, which expects it"


class Memberships:
    """The nodes of all clusters of one management realm.

    :param db: the management realm's database (zlmdb), with its ``MrealmSchema``.
    :param gdb: the global database, with its ``GlobalSchema``: it knows the nodes.
    """

    def __init__(self, db: Any, schema: Any, gdb: Any, gschema: Any, mrealm_oid: UUID) -> None:
        self._db, self._schema = db, schema
        self._gdb, self._gschema = gdb, gschema
        self._mrealm_oid = mrealm_oid
        self._expected = db.attach_table(ExpectedNodes)

    def expect(self, cluster_oid: UUID, rules: Rules[Settings]) -> None:
        """Let the nodes of these names and patterns join the cluster once they are paired, and no others."""
        with self._db.begin(write=True) as txn:
            if rules:
                self._expected[txn, cluster_oid] = dict(rules)
            else:
                del self._expected[txn, cluster_oid]

    def expected(self, cluster_oid: UUID) -> Rules[Settings]:
        with self._db.begin() as txn:
            return dict(self._expected[txn, cluster_oid] or {})

    def settle(self) -> list[Joined]:
        """Have all expected nodes join that have not; nothing is written if there are none."""
        oids = {n.authid: n.oid for n in nodes_of(self._gdb, self._gschema, self._mrealm_oid) if n.authid}
        with self._db.begin() as txn:
            if not (self._deleted(txn) or any(True for _ in self._lacking(txn, oids))):
                return []
        joined = []
        with self._db.begin(write=True) as txn:  # looks again: something may have changed since
            for cluster_oid in self._deleted(txn):
                del self._expected[txn, cluster_oid]
            for kind, cluster, name, settings in list(self._lacking(txn, oids)):
                known = {key: settings.get(key) for key in _SETTINGS[kind]}
                record = _RECORDS[kind](cluster_oid=cluster.oid, node_oid=oids[name], **known)
                self._members(kind)[txn, (cluster.oid, oids[name])] = record
                joined.append(Joined(oids[name], name, f"{TITLES[kind]} {cluster.name}"))
        return joined

    def lasting(self, names: Mapping[UUID, str]) -> set[UUID]:
        """Those nodes that are members of a router cluster which would not have them join again by themselves.

        :param names: the nodes in question, and what they are called.
        """
        with self._db.begin() as txn:
            expected = {
                cluster_oid: set(meant(rules, names.values())) for cluster_oid, rules in self._expected.select(txn)
            }
            members = self._members("routercluster").select(txn, return_values=False)
            return {oid for cluster_oid, oid in members if names.get(oid) not in expected.get(cluster_oid, ())}

    def leave_all(self, node_oid: UUID) -> None:
        """Let a node be a member of no cluster any more."""
        with self._db.begin(write=True) as txn:
            for table in map(self._members, _RECORDS):
                for key in [key for key in table.select(txn, return_values=False) if key[1] == node_oid]:
                    del table[txn, key]

    def _deleted(self, txn: Any) -> list[UUID]:
        """Clusters that are no more, and still expect nodes."""
        return [oid for oid in self._expected.select(txn, return_values=False) if self._cluster(txn, oid)[1] is None]

    def _lacking(self, txn: Any, oids: Mapping[str, UUID]) -> Iterator[tuple[str, Any, str, Settings]]:
        """Kind of cluster, cluster, name and settings of each node that is paired and expected, but no member."""
        for cluster_oid, rules in self._expected.select(txn):
            kind, cluster = self._cluster(txn, cluster_oid)
            for name, settings in meant(rules, oids).items() if cluster else ():
                if self._members(kind)[txn, (cluster_oid, oids[name])] is None:
                    yield kind, cluster, name, settings

    def _cluster(self, txn: Any, oid: UUID) -> tuple[str, Any]:
        web = self._schema.webclusters[txn, oid]
        return ("webcluster", web) if web else ("routercluster", self._schema.routerclusters[txn, oid])

    def _members(self, kind: str) -> Any:
        return getattr(self._schema, f"{kind}_node_memberships")


_RECORDS = {"routercluster": RouterClusterNodeMembership, "webcluster": WebClusterNodeMembership}


# -- management calls -----------------------------------------------------------------------------------------------


def memberships_of(manager: Any) -> Memberships:
    """:param manager: the release's ``RouterClusterManager`` or ``WebClusterManager``."""
    return Memberships(manager.db, manager.schema, manager.gdb, manager.gschema, manager._mrealm_oid)


async def expect_nodes(manager: Any, kind: str, cluster_oid: str, rules: Any, details: Any) -> dict[str, Any]:
    """Let nodes join a cluster by themselves, by name and pattern.

    :param kind: "routercluster" or "webcluster".
    :raises ApplicationError: ``wamp.error.invalid_argument``, ``wamp.error.not_authorized``,
        ``crossbar.error.no_such_object``; nothing has changed then.
    """
    oid = parse_oid(cluster_oid, f"{kind}_oid")
    _check_rules(kind, rules)
    with manager.db.begin() as txn:
        cluster = getattr(manager.schema, f"{kind}s")[txn, oid]
    if cluster is None:
        raise ApplicationError("crossbar.error.no_such_object", f"no {TITLES[kind]} with oid {oid} found")
    refuse_strangers(manager, cluster, details)
    memberships_of(manager).expect(oid, rules)
    told = {"cluster_oid": str(oid), "nodes": rules}
    await manager._session.publish(f"{manager._prefix}.on_{kind}_nodes_expected", told, options=manager._PUBOPTS)
    return told


def expected_nodes(manager: Any, kind: str, cluster_oid: str) -> Rules[Settings]:
    """:raises ApplicationError: ``wamp.error.invalid_argument``."""
    return memberships_of(manager).expected(parse_oid(cluster_oid, f"{kind}_oid"))


def _check_rules(kind: str, rules: Any) -> None:
    known = _SETTINGS[kind]
    for rule, settings in rules.items() if isinstance(rules, dict) else [(rules, None)]:
        if not (isinstance(rule, str) and rule and isinstance(settings, dict) and _is_known(settings, known)):
            raise ApplicationError(
                "wamp.error.invalid_argument",
                f"nodes are expected as a mapping from names and patterns to {' and '.join(known)}, each a number "
                f"from 1 on or null; {rule!r}: {settings!r} is none",
            )


def _is_known(settings: Mapping[str, Any], known: tuple[str, ...]) -> bool:
    numbers = all(v is None or (type(v) is int and 1 <= v <= _AT_MOST) for v in settings.values())
    return numbers and set(settings) <= set(known)
