"""The plan of `crossbar-cluster apply`: it leads from what there is to what is described, whatever either is.

`Model` does to a management realm what the master does, and refuses what the master refuses.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crossbar_cluster.core.expected import meant
from crossbar_cluster.operator.apply.model import (
    Configuration,
    Endpoint,
    Limits,
    Permission,
    Place,
    Realm,
    RouterCluster,
    WebCluster,
)
from crossbar_cluster.operator.apply.planning import Plan, plan
from crossbar_cluster.operator.apply.steps import (
    AddGroup,
    AddRealmRole,
    Create,
    CreateWebCluster,
    Delete,
    ExpectNodes,
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
)


class Model:
    """A master. What it asserts, the master demands."""

    def __init__(self, configuration: Configuration) -> None:
        self.roles = {name: dict(role) for name, role in configuration.roles.items()}
        self.realms = dict(configuration.realms)
        self.routers = dict(configuration.routerclusters)
        self.webs = dict(configuration.webclusters)

    @property
    def configuration(self) -> Configuration:
        return Configuration(self.roles, self.realms, self.routers, self.webs)

    def take(self, steps: Iterable[Step]) -> "Model":
        for step in steps:
            self._take(step)
        return self

    def _table(self, kind: str) -> dict:
        return {"realm": self.realms, "routercluster": self.routers, "webcluster": self.webs, "role": self.roles}[kind]

    def _active(self) -> list[Place]:
        return [realm.place for realm in self.realms.values() if realm.state != "stopped" and realm.place]

    def _take(self, step: Step) -> None:
        match step:
            case Create("role", name):
                assert name not in self.roles
                self.roles[name] = {}
            case Create("realm", name):
                assert name not in self.realms
                self.realms[name] = Realm(state="stopped")
            case Create("routercluster", name):
                assert name not in self.routers
                self.routers[name] = RouterCluster(state="stopped")
            case CreateWebCluster(name, endpoint):
                assert name not in self.webs
                self.webs[name] = WebCluster(endpoint, state="stopped")
            case Delete(kind, name):
                self._delete(kind, name)
            case SetPermission(role, uri, permission, before):
                assert self.roles[role].get(uri) == before != permission
                self.roles[role][uri] = permission
            case RemovePermission(role, uri):
                del self.roles[role][uri]
            case SetRouterNode(cluster, node, limits, before):
                assert self.routers[cluster].nodes.get(node) == before != limits
                self._change("routercluster", cluster, nodes={**self.routers[cluster].nodes, node: limits})
            case SetWebNode(cluster, node, parallel, before):
                assert self.webs[cluster].nodes.get(node) == before != parallel
                self._change("webcluster", cluster, nodes={**self.webs[cluster].nodes, node: parallel})
            case ExpectNodes(kind, cluster, expected, before):
                assert tuple(self._table(kind)[cluster].expected.items()) == (before or ()) != expected
                self._change(kind, cluster, expected=dict(expected))
            case RemoveNode(kind, cluster, node):
                assert not meant(self._table(kind)[cluster].expected, [node]), "it would come back at once"
                self._change(kind, cluster, nodes=without(self._table(kind)[cluster].nodes, node))
            case AddGroup(cluster, group, scale):
                assert group not in self.routers[cluster].groups
                self._change("routercluster", cluster, groups={**self.routers[cluster].groups, group: scale})
            case ScaleGroup(cluster, group, scale, before):
                assert self.routers[cluster].groups[group] == before != scale
                self._change("routercluster", cluster, groups={**self.routers[cluster].groups, group: scale})
            case RemoveGroup(cluster, group):
                assert (cluster, group) not in [(place.routercluster, place.workergroup) for place in self._active()]
                self._change("routercluster", cluster, groups=without(self.routers[cluster].groups, group))
            case SetService(cluster, path, service, before):
                assert self.webs[cluster].services.get(path) == before != service
                self._change("webcluster", cluster, services={**self.webs[cluster].services, path: service})
            case RemoveService(cluster, path):
                self._change("webcluster", cluster, services=without(self.webs[cluster].services, path))
            case AddRealmRole(realm, role):
                assert role in self.roles and role not in self.realms[realm].roles
                self._change("realm", realm, roles=self.realms[realm].roles | {role})
            case RemoveRealmRole(realm, role):
                assert role in self.realms[realm].roles
                self._change("realm", realm, roles=self.realms[realm].roles - {role})
            case _:
                self._start_or_stop(step)

    def _start_or_stop(self, step: Step) -> None:
        match step:
            case Start(kind, name):
                assert self._table(kind)[name].state == "stopped"
                self._change(kind, name, state="running")
            case StartRealm(realm, place):
                assert self.realms[realm].state == "stopped"
                cluster = self.routers[place.routercluster]
                assert place.workergroup in cluster.groups
                assert cluster.state == self.webs[place.webcluster].state == "running"
                self._change("realm", realm, place=place, state="running")
            case Stop(kind, name):
                assert self._table(kind)[name].state != "stopped"
                if kind == "routercluster":
                    assert name not in [place.routercluster for place in self._active()]
                if kind == "webcluster":
                    assert name not in [place.webcluster for place in self._active()]
                self._change(kind, name, state="stopped")
            case _:
                raise AssertionError(step)

    def _delete(self, kind: str, name: str) -> None:
        thing = self._table(kind)[name]
        if kind == "role":
            assert not thing, "its permissions would be left behind"
            assert not any(name in realm.roles for realm in self.realms.values())
        else:
            assert thing.state == "stopped"
            assert not (thing.roles if kind == "realm" else thing.nodes), "memberships would be left behind"
        del self._table(kind)[name]
        self._forget(kind, name)

    def _forget(self, kind: str, name: str) -> None:
        """A realm that is stopped is on record where it ran last; what is not there any more is no place."""
        for realm, record in self.realms.items():
            if record.place and getattr(record.place, kind, None) == name:
                self.realms[realm] = replace(record, place=None)

    def _change(self, kind: str, name: str, **changes) -> None:
        self._table(kind)[name] = replace(self._table(kind)[name], **changes)


def without(mapping: Mapping, key: str) -> dict:
    assert key in mapping
    return {k: v for k, v in mapping.items() if k != key}


# -- any configuration --------------------------------------------------------------------------------------------

few = {"max_size": 3}
PAIRED = ["aaa", "bbb", "ccc"]
names = st.sampled_from(PAIRED)


@st.composite
def node_rules(draw, given, described) -> tuple[dict, dict]:
    """Nodes that are members of a cluster, and those that are expected there: all of these that are paired are."""
    rules = draw(st.dictionaries(st.sampled_from(["aaa", "b*", "*", "ddd"]), given, **few))
    others = {} if described else draw(st.dictionaries(names, given, **few))
    return {**others, **meant(rules, PAIRED)}, rules


permissions = st.builds(
    Permission,
    st.sampled_from(["exact", "prefix"]),
    st.frozensets(st.sampled_from(["call", "publish"])),
    st.frozensets(st.just("caller")),
    st.booleans(),
)
states = st.sampled_from(["running", "stopping", "stopped"])


def configurations(*, described: bool) -> st.SearchStrategy[Configuration]:
    """:param described: as a file describes it: all of it is to run."""

    @st.composite
    def draw_one(draw) -> Configuration:
        state = st.just("running") if described else states
        roles = draw(
            st.dictionaries(names, st.dictionaries(st.sampled_from(["", "x", "y"]), permissions, **few), **few)
        )
        limits = st.builds(Limits, st.none(), st.sampled_from([None, 2]))
        routers = draw(
            st.dictionaries(
                names,
                st.builds(
                    lambda nodes, *more: RouterCluster(nodes[0], *more, expected=nodes[1]),
                    node_rules(limits, described),
                    st.dictionaries(names, st.integers(1, 2), **few),
                    state,
                ),
                **few,
            )
        )
        web = st.builds(
            lambda endpoint, nodes, *more: WebCluster(endpoint, nodes[0], *more, expected=nodes[1]),
            st.builds(Endpoint, st.integers(1, 2)),
            node_rules(st.integers(1, 2), described),
            st.dictionaries(names, st.sampled_from(['{"type": "a"}', '{"type": "b"}']), **few),
            state,
        )
        webs = draw(st.dictionaries(names, web, **few))
        places = [Place(c, g, w) for c, cluster in routers.items() for g in cluster.groups for w in webs]
        if not described:  # the master stops a cluster only when no realm runs on it
            places = [p for p in places if routers[p.routercluster].state == webs[p.webcluster].state == "running"]
        realms = {}
        for name in draw(st.sets(names)) if places or not described else ():
            place = draw(st.sampled_from([*places, None]) if places else st.none())
            of_realm = "stopped" if place is None and not described else draw(state)
            chosen = draw(st.frozensets(st.sampled_from(sorted(roles)))) if roles else frozenset()
            realms[name] = Realm(chosen, place, of_realm)
        return Configuration(roles, realms, routers, webs)

    return draw_one()


def is_as_described(desired: Configuration, actual: Configuration, before: Configuration) -> None:
    """Whether all that is described is there, and what is not is as it was."""
    for name, role in desired.roles.items():
        assert {**actual.roles[name], **role} == actual.roles[name]
    for kind in ("routerclusters", "webclusters"):
        for name, cluster in getattr(desired, kind).items():
            there = getattr(actual, kind)[name]
            assert there.state == "running"
            assert tuple(there.expected.items()) == tuple(cluster.expected.items()), "in this order"
            for part in ("nodes", "groups" if kind == "routerclusters" else "services"):
                assert {**getattr(there, part), **getattr(cluster, part)} == getattr(there, part)
    for name, web in desired.webclusters.items():
        assert actual.webclusters[name].endpoint == web.endpoint
    for name, realm in desired.realms.items():
        assert realm.roles <= actual.realms[name].roles
        if realm.place:
            assert (actual.realms[name].place, actual.realms[name].state) == (realm.place, "running")


def is_left_alone(desired: Configuration, actual: Configuration, before: Configuration) -> None:
    for table in ("roles", "realms", "routerclusters", "webclusters"):
        for name, there in getattr(before, table).items():
            if name not in getattr(desired, table):
                now = getattr(actual, table)[name]
                uprooted = table == "realms" and there.place and there.place.webcluster in desired.webclusters
                assert now == there or (uprooted and there.state == "stopping") or now.place is None
    for name, realm in before.realms.items():
        if realm.state == "running":
            assert actual.realms[name].state == "running", "what ran runs"


@given(configurations(described=True), configurations(described=False))
@settings(max_examples=80, deadline=None)
def test_a_plan_leads_to_what_is_described_and_touches_nothing_else(desired, actual):
    made = Model(actual).take(plan(desired, actual).steps).configuration
    is_as_described(desired, made, actual)
    is_left_alone(desired, made, actual)
    assert plan(desired, made).steps == ()


@given(configurations(described=True), configurations(described=False))
@settings(max_examples=80, deadline=None)
def test_with_prune_nothing_else_is_there(desired, actual):
    planned = plan(desired, actual, prune=True)
    made = Model(actual).take(planned.steps).configuration
    is_as_described(desired, made, actual)
    assert plan(desired, made, prune=True).steps == ()
    assert made.realms.keys() == desired.realms.keys()
    assert made.roles == desired.roles
    if all(realm.place for realm in desired.realms.values()):
        assert made == desired
        assert planned.left == ()


@given(configurations(described=True))
def test_what_is_as_described_plans_to_nothing(desired):
    assert plan(desired, desired) == plan(desired, desired, prune=True) == Plan()


@given(configurations(described=True), configurations(described=False), st.booleans(), st.data())
@settings(max_examples=80, deadline=None)
def test_a_step_that_fails_ends_what_depends_on_it_and_nothing_else(desired, actual, prune, data):
    if steps := plan(desired, actual, prune=prune).steps:
        fails(data.draw(st.sampled_from(steps)), desired, actual, prune)


def fails(failing: Step, desired: Configuration, actual: Configuration, prune: bool) -> None:
    """The model refuses, as the master would, what makes no sense without the step. A later plan makes up for it."""
    model, broken = Model(actual), set()
    for step in plan(desired, actual, prune=prune).steps:
        if step == failing or broken.intersection(step.needs):
            broken.add(step.key)
        else:
            model.take([step])
    is_whole(desired, actual, model.configuration)
    later = plan(desired, model.configuration, prune=prune).steps
    is_as_described(desired, model.take(later).configuration, actual)


def is_whole(desired: Configuration, before: Configuration, now: Configuration) -> None:
    """Whether what was to be deleted, and is still in use, is as it was."""
    for table in ("webclusters", "routerclusters", "realms"):
        for name, there in getattr(before, table).items():
            kept = getattr(now, table).get(name)
            if name not in getattr(desired, table) and kept and there.state == kept.state == "running":
                assert kept == there
    for name, role in before.roles.items():
        if name not in desired.roles and any(name in realm.roles for realm in now.realms.values()):
            assert now.roles[name] == role


# -- what people do ---------------------------------------------------------------------------------------------

PLACE = Place("routers", "group1", "web")
CALL = Permission("prefix", frozenset({"call"}))
WHOLE = Configuration(
    {"guest": {"": CALL}},
    {"realm1": Realm(frozenset({"guest"}), PLACE)},
    {"routers": RouterCluster({"router1": Limits()}, {"group1": 1, "group2": 1})},
    {"web": WebCluster(Endpoint(8080), {"proxy1": 1}, {"ws": '{"type": "websocket"}'})},
)


def texts(steps: Iterable[Step]) -> list[str]:
    return [f"{step.sign} {step}" for step in steps]


def test_from_nothing():
    assert texts(plan(WHOLE, Configuration()).steps) == [
        "+ role guest",
        "+ permission '' of role guest: prefix, may call",
        "+ router cluster routers",
        "+ node router1 in router cluster routers",
        "+ worker group group1 of router cluster routers: scale 1",
        "+ worker group group2 of router cluster routers: scale 1",
        "~ router cluster routers: started",
        "+ web cluster web: port 8080, shared",
        "+ node proxy1 in web cluster web: 1 proxy worker",
        "+ web service 'ws' of web cluster web: websocket",
        "~ web cluster web: started",
        "+ realm realm1",
        "+ role guest in realm realm1",
        "~ realm realm1: started on worker group group1 of routers, web cluster web",
    ]


def test_to_nothing():
    assert plan(Configuration(), WHOLE).steps == ()
    assert texts(plan(Configuration(), WHOLE, prune=True).steps) == [
        "~ realm realm1: stopped, to be deleted",
        "- role guest in realm realm1",
        "- realm realm1",
        "~ web cluster web: stopped, to be deleted",
        "- web service 'ws' of web cluster web",
        "- node proxy1 in web cluster web",
        "- web cluster web",
        "~ router cluster routers: stopped, to be deleted",
        "- worker group group1 of router cluster routers",
        "- worker group group2 of router cluster routers",
        "- node router1 in router cluster routers",
        "- router cluster routers",
        "- permission '' of role guest",
        "- role guest",
    ]


@pytest.mark.parametrize("failing", plan(Configuration(), WHOLE, prune=True).steps, ids=str)
def test_nothing_is_taken_from_what_could_not_be_stopped(failing):
    fails(failing, Configuration(), WHOLE, prune=True)


@pytest.mark.parametrize("failing", plan(WHOLE, Configuration()).steps, ids=str)
def test_what_could_not_be_made_is_not_used(failing):
    fails(failing, WHOLE, Configuration(), prune=False)


def test_changes_in_place_stop_nothing():
    changed = Configuration(
        {"guest": {"": Permission("prefix", frozenset({"call", "publish"}), cache=True)}},
        WHOLE.realms,
        {"routers": RouterCluster({"router1": Limits(None, 3)}, {"group1": 2, "group2": 1})},
        {"web": WebCluster(Endpoint(8080), {"proxy1": 2}, {"ws": '{"debug": true, "type": "websocket"}'})},
    )
    assert texts(plan(changed, WHOLE).steps) == [
        "~ permission '' of role guest: prefix, may call and publish, cached (was: prefix, may call)",
        "~ node router1 in router cluster routers: hard limit 3 (was: no limit)",
        "~ worker group group1 of router cluster routers: scale 2 (was: 1)",
        "~ node proxy1 in web cluster web: 2 proxy workers (was: 1)",
        "~ web service 'ws' of web cluster web: debug changed (nobody new is let in at this path for some seconds)",
    ]


def test_nodes_that_are_to_join_by_themselves():
    expecting = replace(
        WHOLE,
        routerclusters={"routers": replace(WHOLE.routerclusters["routers"], expected={"router1": Limits(2, None)})},
        webclusters={"web": replace(WHOLE.webclusters["web"], expected={"proxy*": 1, "big": 4})},
    )
    assert texts(plan(expecting, WHOLE).steps) == [
        "+ nodes that join router cluster routers by themselves: router1 (soft limit 2)",
        "+ nodes that join web cluster web by themselves: proxy*, big (4 proxy workers)",
    ]
    fewer = replace(expecting, webclusters={"web": replace(WHOLE.webclusters["web"], expected={"big": 4})})
    assert texts(plan(fewer, expecting).steps) == [
        "~ nodes that join web cluster web by themselves: big (4 proxy workers) (was: proxy*, big (4 proxy workers))"
    ]
    [forgotten] = plan(WHOLE, fewer).steps[1:]
    assert str(forgotten).startswith("nodes that join web cluster web by themselves: none (was: big")


def test_a_realm_moves():
    place = replace(PLACE, workergroup="group2")
    moved = replace(WHOLE, realms={"realm1": Realm(frozenset({"guest"}), place)})
    stop, start = texts(plan(moved, WHOLE).steps)
    assert stop.startswith("~ realm realm1: stopped, to move from worker group group1 of routers")
    assert "its clients have to join again" in stop
    assert start == f"~ realm realm1: started on {place}"


def test_a_web_cluster_listens_elsewhere_with_all_its_realms():
    web = replace(WHOLE.webclusters["web"], endpoint=Endpoint(8081))
    steps = plan(Configuration(webclusters={"web": web}), WHOLE).steps
    assert texts(steps)[0].startswith("~ realm realm1: stopped, while its web cluster is made anew")
    assert "+ web cluster web: port 8081, shared (made anew)" in texts(steps)
    assert steps[-1] == StartRealm("realm1", PLACE), "though the file does not describe it"


def test_what_a_realm_still_runs_on_is_not_pruned():
    """Its new router cluster has no node yet."""
    others = {"others": RouterCluster({}, {"group1": 1})}
    desired = replace(WHOLE, realms={"realm1": Realm(frozenset({"guest"}), None)}, routerclusters=others)
    planned = plan(desired, WHOLE, prune=True)
    assert texts(planned.steps) == [
        "+ router cluster others",
        "+ worker group group1 of router cluster others: scale 1",
        "~ router cluster others: started",
        "- worker group group2 of router cluster routers",
    ]
    assert "- router cluster routers" in texts(planned.left)


@pytest.mark.parametrize("secret", ["hush"])
def test_the_configuration_of_a_web_service_is_not_told(secret):
    service = f'{{"auth": {{"ticket": "{secret}"}}, "type": "websocket"}}'
    changed = replace(WHOLE, webclusters={"web": replace(WHOLE.webclusters["web"], services={"ws": service})})
    told = texts(plan(changed, WHOLE).steps) + texts(plan(changed, Configuration()).steps)
    assert not [text for text in told if secret in text]
