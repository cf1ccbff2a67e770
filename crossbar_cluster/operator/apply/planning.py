"""Compares what is to be with what there is, and orders the steps from one to the other. Pure.

What is as described plans to nothing. What the file does not describe is left alone, and told; with ``prune`` it is
removed, after everything else. What the master cannot change is stopped, and made or started anew: a realm that is to
run elsewhere, and a web cluster that is to listen elsewhere, together with the realms on it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

from crossbar_cluster.core.expected import Rules
from crossbar_cluster.operator.apply.model import Configuration, Limits, Place, Realm, RouterCluster, WebCluster
from crossbar_cluster.operator.apply.steps import (
    AddGroup,
    AddRealmRole,
    Create,
    CreateWebCluster,
    Delete,
    ExpectNodes,
    Key,
    Kind,
    RemoveGroup,
    RemoveNode,
    RemovePermission,
    RemoveRealmRole,
    RemoveService,
    ScaleGroup,
    SetPermission,
    SetRouterNode,
    SetService,
    SetWebNode,
    Start,
    StartRealm,
    Step,
    Stop,
    keys_of,
)

_T = TypeVar("_T")


@dataclass(frozen=True)
class Plan:
    """What is to be done, and what is not.

    :ivar left: removals that are not made without ``prune``.
    """

    steps: tuple[Step, ...] = ()
    left: tuple[Step, ...] = ()


def plan(desired: Configuration, actual: Configuration, *, prune: bool = False) -> Plan:
    """The steps that make ``actual`` what ``desired`` says. A realm without a place is left as it runs, or does not."""
    replaced = {
        name
        for name, web in desired.webclusters.items()
        if name in actual.webclusters and actual.webclusters[name].endpoint != web.endpoint
    }
    stops, now = _stop_realms(desired, actual, replaced)
    stopped = keys_of(stops)
    teardown, now = _take_down(now, replaced, stopped)
    additions = (*_additions(desired, now, replaced), *_restarts(desired, actual, replaced, prune))
    removals = tuple(_removals(desired, now, stopped))
    held = {step for step in removals if prune and _is_held(step, desired, now)}
    made = tuple(step for step in removals if step not in held) if prune else ()
    return Plan((*stops, *teardown, *additions, *made), tuple(held) if prune else removals)


def _stop_realms(desired: Configuration, actual: Configuration, replaced: set[str]) -> tuple[list[Step], Configuration]:
    """Stop the realms that cannot stay where they run, whether the file describes them or not."""
    steps: list[Step] = []
    realms = dict(actual.realms)
    for name, realm in actual.realms.items():
        wanted = desired.realms.get(name)
        uprooted = realm.place is not None and realm.place.webcluster in replaced
        if realm.state == "stopping" and (uprooted or (wanted and wanted.place)):
            why = "as it was told to before"
        elif realm.state == "running" and uprooted:
            why = "while its web cluster is made anew: its clients have to join again"
        elif realm.state == "running" and wanted and wanted.place and wanted.place != realm.place:
            why = f"to move from {realm.place}: its clients have to join again"
        else:
            continue
        steps.append(Stop("realm", name, why))
        realms[name] = replace(realm, state="stopped")
    return steps, replace(actual, realms=realms)


def _restarts(desired: Configuration, actual: Configuration, replaced: set[str], prune: bool) -> Iterator[Step]:
    """Start again what had to make way for a web cluster, and is not to be started by its description."""
    for name, realm in actual.realms.items():
        wanted = desired.realms.get(name)
        kept = not prune if wanted is None else wanted.place is None
        if kept and realm.state == "running" and realm.place and realm.place.webcluster in replaced:
            yield StartRealm(name, realm.place)


def _take_down(now: Configuration, replaced: set[str], stopped: tuple[Key, ...]) -> tuple[list[Step], Configuration]:
    steps: list[Step] = []
    for name in sorted(replaced):
        steps += _delete_web_cluster(name, now.webclusters[name], "to be made anew", stopped)
    kept = {name: web for name, web in now.webclusters.items() if name not in replaced}
    return steps, replace(now, webclusters=kept)


# -- what is to be there ------------------------------------------------------------------------------------------


def _additions(desired: Configuration, now: Configuration, replaced: set[str]) -> Iterator[Step]:
    for name, role in desired.roles.items():
        there = now.roles.get(name)
        if there is None:
            yield Create("role", name)
        for uri, permission in role.items():
            before = (there or {}).get(uri)
            if before != permission:
                yield SetPermission(name, uri, permission, before)
    for name, cluster in desired.routerclusters.items():
        yield from _router_cluster(name, cluster, now.routerclusters.get(name))
    for name, web in desired.webclusters.items():
        yield from _web_cluster(name, web, now.webclusters.get(name), name in replaced)
    for name, realm in desired.realms.items():
        yield from _realm(name, realm, now.realms.get(name))


def _router_cluster(name: str, wanted: RouterCluster, there: RouterCluster | None) -> Iterator[Step]:
    if there is None:
        yield Create("routercluster", name)
        there = RouterCluster(state="stopped")
    for node, limits in _differing(wanted.nodes, there.nodes):
        yield SetRouterNode(name, node, limits, there.nodes.get(node))
    yield from _expect("routercluster", name, wanted.expected, there.expected)
    for group, scale in _differing(wanted.groups, there.groups):
        before = there.groups.get(group)
        yield AddGroup(name, group, scale) if before is None else ScaleGroup(name, group, scale, before)
    yield from _start("routercluster", name, there)


def _web_cluster(name: str, wanted: WebCluster, there: WebCluster | None, again: bool) -> Iterator[Step]:
    if there is None:
        yield CreateWebCluster(name, wanted.endpoint, again)
        there = WebCluster(wanted.endpoint, state="stopped")
    for node, parallel in _differing(wanted.nodes, there.nodes):
        yield SetWebNode(name, node, parallel, there.nodes.get(node))
    yield from _expect("webcluster", name, wanted.expected, there.expected)
    for path, service in _differing(wanted.services, there.services):
        yield SetService(name, path, service, there.services.get(path))
    yield from _start("webcluster", name, there)


def _expect(kind: Kind, name: str, wanted: Rules[Limits | int], there: Rules[Limits | int]) -> Iterator[Step]:
    # The order matters as well: of two patterns that match, the first goes before the second.
    if (expected := tuple(wanted.items())) != (before := tuple(there.items())):
        yield ExpectNodes(kind, name, expected, before or None)


def _start(kind: Kind, name: str, there: RouterCluster | WebCluster) -> Iterator[Step]:
    if there.state == "stopping":
        yield Stop(kind, name, "as it was told to before")
    if there.state != "running":
        yield Start(kind, name)


def _realm(name: str, wanted: Realm, there: Realm | None) -> Iterator[Step]:
    if there is None:
        yield Create("realm", name)
        there = Realm(state="stopped")
    for role in sorted(wanted.roles - there.roles):
        yield AddRealmRole(name, role)
    if wanted.place and there.state == "stopped":
        yield StartRealm(name, wanted.place, wanted.roles)


# -- what is not --------------------------------------------------------------------------------------------------


def _is_held(step: Step, desired: Configuration, now: Configuration) -> bool:
    """Whether something has to stay because a realm runs on it that has no other place yet."""
    places = [r.place for name, r in now.realms.items() if name in desired.realms and not desired.realms[name].place]
    for place in places:
        match step:
            case RemoveGroup(cluster=cluster, group=group):
                held = place is not None and (cluster, group) == (place.routercluster, place.workergroup)
            case (
                Stop(kind=kind, name=cluster)
                | Delete(kind=kind, name=cluster)
                | RemoveNode(kind=kind, cluster=cluster)
                | ExpectNodes(kind=kind, cluster=cluster)
            ):
                held = place is not None and _stands_on(place, kind, cluster) and _is_gone(kind, cluster, desired)
            case RemoveService(cluster=cluster):
                held = place is not None and place.webcluster == cluster and cluster not in desired.webclusters
            case _:
                held = False
        if held:
            return True
    return False


def _stands_on(place: Place, kind: str, cluster: str) -> bool:
    return (kind, cluster) in (("routercluster", place.routercluster), ("webcluster", place.webcluster))


def _is_gone(kind: str, cluster: str, desired: Configuration) -> bool:
    return cluster not in (desired.routerclusters if kind == "routercluster" else desired.webclusters)


def _removals(desired: Configuration, now: Configuration, stopped: tuple[Key, ...]) -> Iterator[Step]:
    """What nothing depends on any more goes first: realms, then clusters, then roles.

    :param stopped: keys of the steps that have stopped realms which may have run on what is removed.
    """
    gone: list[Step] = []
    for name, realm in now.realms.items():
        wanted = desired.realms.get(name)
        inside: list[Step] = [
            RemoveRealmRole(name, role) for role in sorted(realm.roles - (wanted.roles if wanted else set()))
        ]
        if wanted is None and realm.state != "stopped":
            gone.append(Stop("realm", name, "to be deleted"))
        gone += inside
        if wanted is None:
            gone.append(Delete("realm", name, keys_of(inside)))
    yield from gone
    before = (*stopped, *keys_of(step for step in gone if isinstance(step, Stop | Delete)))
    for name, web in now.webclusters.items():
        wanted_web = desired.webclusters.get(name)
        if wanted_web is None:
            yield from _delete_web_cluster(name, web, "to be deleted", before)
        else:
            yield from (RemoveService(name, path) for path in web.services if path not in wanted_web.services)
            yield from (RemoveNode("webcluster", name, node) for node in web.nodes if node not in wanted_web.nodes)
    for name, cluster in now.routerclusters.items():
        wanted_cluster = desired.routerclusters.get(name)
        deleted = wanted_cluster is None
        if deleted and cluster.state != "stopped":
            yield Stop("routercluster", name, "to be deleted", before)
        kept = wanted_cluster or RouterCluster()
        inside = list(_expect("routercluster", name, {}, cluster.expected)) if deleted else []
        inside += [RemoveGroup(name, group, before) for group in cluster.groups if group not in kept.groups]
        inside += [RemoveNode("routercluster", name, node) for node in cluster.nodes if node not in kept.nodes]
        yield from inside
        if deleted:
            yield Delete("routercluster", name, keys_of(inside))
    for name, role in now.roles.items():
        wanted_role = desired.roles.get(name)
        users = keys_of(step for step in gone if isinstance(step, RemoveRealmRole) and step.role == name)
        after = users if wanted_role is None else ()
        inside = [RemovePermission(name, uri, after) for uri in role if uri not in (wanted_role or {})]
        yield from inside
        if wanted_role is None:
            yield Delete("role", name, (*after, *keys_of(inside)))


def _delete_web_cluster(name: str, web: WebCluster, why: str, after: tuple[Key, ...]) -> list[Step]:
    """:param after: keys of the steps that make room for it."""
    steps: list[Step] = [Stop("webcluster", name, why, after)] if web.state != "stopped" else []
    inside: list[Step] = list(_expect("webcluster", name, {}, web.expected))
    inside += [RemoveService(name, path) for path in web.services]
    inside += [RemoveNode("webcluster", name, node) for node in web.nodes]
    return [*steps, *inside, Delete("webcluster", name, (*after, *keys_of(inside)))]


def _differing(wanted: Mapping[str, _T], there: Mapping[str, _T]) -> Iterator[tuple[str, _T]]:
    for name, value in wanted.items():
        if there.get(name) != value:
            yield name, value
