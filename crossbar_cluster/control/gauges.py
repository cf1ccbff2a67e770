"""The control planes of a master in numbers, at the moment when they are asked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from crossbar_cluster.control.databases import used
from crossbar_cluster.control.status import problems_of, status_of_node
from crossbar_cluster.core import metrics

if TYPE_CHECKING:
    from crossbar_cluster.control.plane import ControlPlane


def gauges_of(planes: Mapping[str, ControlPlane]) -> Iterator[tuple[metrics.Metric, Mapping[metrics.Values, float]]]:
    """:param planes: by the names of their management realms."""
    nodes: dict[metrics.Values, float] = {}
    for realm, plane in planes.items():
        counted = Counter(status_of_node(plane, node) for node in plane.configuration.nodes.values())
        nodes |= {(realm, status): counted[status] for status in ("online", "offline", "gone")}
    yield metrics.NODES, nodes
    groups = {realm: plane.configuration.groups.values() for realm, plane in planes.items()}
    yield metrics.PLACEMENTS, {(realm,): sum(len(group.placements) for group in g) for realm, g in groups.items()}
    shortfalls = {realm: plane.placements.shortfalls for realm, plane in planes.items()}
    yield metrics.PLACEMENTS_MISSING, {(realm,): sum(s.missing for s in short) for realm, short in shortfalls.items()}
    yield (
        metrics.PROBLEMS,
        {(realm,): sum(1 for _ in problems_of(plane)) for realm, plane in planes.items()},
    )
    yield metrics.NODES_LIMITED, {(realm,): len(set(plane.inbox.limited())) for realm, plane in planes.items()}
    databases = {(realm, name): db for realm, plane in planes.items() for name, db in plane.databases.items()}
    yield metrics.DATABASE_USED, {values: used(db) for values, db in databases.items()}
