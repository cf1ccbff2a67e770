"""The planner of router workers: steps for differences, and that carrying them out leaves nothing to plan."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossbar_cluster.core.digest import digest
from crossbar_cluster.core.mesh import ObservedLink
from crossbar_cluster.core.proxy import RouterLife
from crossbar_cluster.core.router import (
    DesiredRouter,
    ObservedRouter,
    Realm,
    ReplaceRealm,
    Role,
    StartListener,
    StartRealm,
    StartRole,
    StopRealm,
    StopRole,
    UpdatePrincipals,
    UpdateRole,
    plan_router,
)
from crossbar_cluster.core.worker import StartWorker, StopWorker, WorkerKey, steps_of

KEY = WorkerKey(UUID(int=11), "group_1")
RLINK = Role("rle_0_builtin_1", {"name": "rlink"})
ANONYMOUS = Role("rle_1", {"name": "anonymous", "permissions": [{"uri": "", "allow": {"call": True}}]})
CHANGED = replace(ANONYMOUS, config={"name": "anonymous", "permissions": []})
USER = Role("rle_2", {"name": "user"})
REALM1 = Realm("rlm_1", "realm1", (RLINK, ANONYMOUS))
REALM2 = Realm("rlm_2", "realm2", (RLINK, USER))
DESIRED = DesiredRouter(KEY, "router1", (REALM1,), (("proxy1", "aa"),))
RUNNING = ObservedRouter(
    True,
    {"rlm_1": {r.id: digest(dict(r.config)) for r in REALM1.roles}},
    {"rlm_1": "realm1"},
    10000,
    digest(DESIRED.access),
)

#: A router worker as one of the plain release shows itself: it does not tell the configuration of its roles.
OF_THE_RELEASE = ObservedRouter(True, {"rlm_1": {"rle_0_builtin_1": None, "rle_1": None}}, port=10000)


@pytest.mark.parametrize(
    ("desired", "observed", "steps"),
    [
        pytest.param(DESIRED, RUNNING, [], id="as-configured"),
        pytest.param(DESIRED, OF_THE_RELEASE, [], id="as-configured-on-the-release"),
        pytest.param(DESIRED, ObservedRouter(), [StartWorker()], id="no-worker"),
        pytest.param(None, ObservedRouter(), [], id="not-wanted-and-not-there"),
        pytest.param(None, RUNNING, [StopWorker()], id="not-wanted"),
        pytest.param(
            None, ObservedRouter(True, {"byhand": {}}, {"byhand": "r"}), [], id="an-operators-own-worker-stays"
        ),
        pytest.param(
            DESIRED,
            replace(RUNNING, realms={"rlm_9": {}}, names={"rlm_9": "realm1"}),
            [ReplaceRealm("rlm_9", REALM1), StartRole(REALM1, RLINK), StartRole(REALM1, ANONYMOUS)],
            id="a-former-realm-of-the-same-name",
        ),
        pytest.param(
            DESIRED,
            ObservedRouter(running=True),
            [StartRealm(REALM1), StartRole(REALM1, RLINK), StartRole(REALM1, ANONYMOUS), StartListener()],
            id="fresh",
        ),
        pytest.param(DESIRED, replace(RUNNING, port=None), [StartListener()], id="does-not-listen"),
        pytest.param(
            replace(DESIRED, realms=(REALM1, REALM2)),
            RUNNING,
            [StartRealm(REALM2), StartRole(REALM2, RLINK), StartRole(REALM2, USER)],
            id="another-realm",
        ),
        pytest.param(
            replace(DESIRED, realms=(replace(REALM1, roles=(RLINK, ANONYMOUS, USER)),)),
            RUNNING,
            [StartRole(replace(REALM1, roles=(RLINK, ANONYMOUS, USER)), USER)],
            id="another-role",
        ),
        pytest.param(
            replace(DESIRED, realms=(replace(REALM1, roles=(RLINK,)),)),
            RUNNING,
            [StopRole("rlm_1", "rle_1")],
            id="a-role-less",
        ),
        pytest.param(
            replace(DESIRED, realms=(replace(REALM1, roles=(RLINK, CHANGED)),)),
            RUNNING,
            [UpdateRole(replace(REALM1, roles=(RLINK, CHANGED)), CHANGED)],
            id="other-permissions",
        ),
        pytest.param(
            replace(DESIRED, realms=(replace(REALM1, roles=(RLINK, CHANGED)),)), OF_THE_RELEASE, [], id="not-told"
        ),
        pytest.param(
            replace(DESIRED, peers=(("proxy1", "aa"), ("proxy2", "bb"))),
            RUNNING,
            [UpdatePrincipals()],
            id="another-proxy",
        ),
        pytest.param(
            replace(DESIRED, serves=(("proxy1", ("realm1",)),)),
            RUNNING,
            [UpdatePrincipals()],
            id="a-proxy-with-clients-of-another-realm",
        ),
        pytest.param(
            replace(DESIRED, serves=(("proxy1", ("realm1",)),)),
            replace(RUNNING, access=digest(DESIRED.access[:2]), by_realm=False),
            [],
            id="a-worker-of-a-version-before-is-not-told-of-realms",
        ),
        pytest.param(
            replace(DESIRED, peers=()),
            replace(RUNNING, port=None),
            [StartListener()],
            id="a-listener-starts-with-its-principals",
        ),
        pytest.param(
            DESIRED,
            replace(RUNNING, realms={**RUNNING.realms, "rlm_9": {}}),
            [StopRealm("rlm_9")],
            id="a-realm-too-many",
        ),
        pytest.param(
            DESIRED,
            replace(RUNNING, realms={**RUNNING.realms, "byhand": {"rle_7": None}}),
            [],
            id="an-operators-own-realm-stays",
        ),
        pytest.param(
            DESIRED,
            replace(RUNNING, realms={"rlm_1": {**RUNNING.realms["rlm_1"], "byhand": None}}),
            [],
            id="an-operators-own-role-stays",
        ),
    ],
)
def test_plan(desired: DesiredRouter | None, observed: ObservedRouter, steps: list[Any]) -> None:
    assert list(steps_of(plan_router(desired, observed))) == steps


def test_the_listener_comes_after_all_realms() -> None:
    """A client that gets through before its realm is there is turned away for good."""
    realms, listener = plan_router(replace(DESIRED, realms=(REALM1, REALM2)), ObservedRouter(running=True))
    assert len(realms) == 2, "each realm is a strand of its own: one that fails holds up no other"
    assert listener == ((StartListener(),),)


def carry_out(desired: DesiredRouter | None, observed: ObservedRouter, step: Any) -> ObservedRouter:
    """What the worker shows after the step. Fails where a worker would refuse it."""
    realms = {realm_id: dict(roles) for realm_id, roles in observed.realms.items()}
    match step:
        case StartWorker():
            assert not observed.running
            return ObservedRouter(running=True)
        case StopWorker():
            assert observed.running
            return ObservedRouter()
        case ReplaceRealm(former_id, realm):
            del realms[former_id]
            assert realm.id not in realms
            realms[realm.id] = {}
            names = {i: name for i, name in observed.names.items() if i != former_id} | {realm.id: realm.name}
            return replace(observed, realms=realms, names=names)
        case StartRealm(realm):
            assert realm.id not in realms
            assert realm.name not in {observed.names.get(i) for i in realms}, "the worker has one router for each name"
            realms[realm.id] = {}
            return replace(observed, realms=realms, names={**observed.names, realm.id: realm.name})
        case StartRole(realm, role):
            assert role.id not in realms[realm.id]
            realms[realm.id][role.id] = digest(dict(role.config))
        case UpdateRole(realm, role):
            assert role.id in realms[realm.id]
            realms[realm.id][role.id] = digest(dict(role.config))
        case StopRole(realm_id, role_id):
            del realms[realm_id][role_id]
        case StopRealm(realm_id):
            del realms[realm_id]
        case StartListener() if desired:
            assert observed.port is None
            return replace(observed, port=10000, access=digest(desired.access))
        case UpdatePrincipals() if desired:
            assert observed.port is not None
            return replace(observed, access=digest(desired.access))
    return replace(observed, realms=realms)


ROLES = [RLINK, ANONYMOUS, USER, CHANGED]
some_roles = st.lists(st.sampled_from(ROLES), unique_by=lambda role: role.id, max_size=3).map(tuple)
some_realms = st.lists(
    st.builds(lambda n, roles: Realm(f"rlm_{n}", f"realm{n}", roles), st.integers(1, 3), some_roles),
    unique_by=lambda realm: realm.id,
    max_size=3,
).map(tuple)
some_peers = st.sampled_from([(), (("proxy1", "aa"),), (("proxy1", "aa"), ("proxy2", "bb"))])
desired_routers = st.one_of(
    st.none(), st.builds(DesiredRouter, st.just(KEY), st.just("router1"), some_realms, some_peers)
)
observed_roles = st.dictionaries(
    st.sampled_from([*(role.id for role in ROLES), "byhand"]),
    st.sampled_from([None, "another", *(digest(dict(role.config)) for role in ROLES)]),
)
#: Run-time ids that a worker may show, and the names of their realms. ``rlm_8`` is a former realm3.
NAMES = {"rlm_1": "realm1", "rlm_2": "realm2", "rlm_8": "realm3", "byhand": "another"}
observed_routers = st.one_of(
    st.just(ObservedRouter()),
    st.builds(
        ObservedRouter,
        st.just(True),
        st.dictionaries(st.sampled_from(sorted(NAMES)), observed_roles),
        st.sampled_from([NAMES, {}]),
        st.sampled_from([None, 10000]),
        st.sampled_from([None, digest({})]),
    ),
)


def converge(desired: DesiredRouter | None, observed: ObservedRouter, fails: Sequence[bool]) -> ObservedRouter:
    """Observe, plan and carry out until nothing is planned; a step fails where ``fails`` says so, once."""
    failures = list(fails)
    for _ in range(8 + len(fails)):
        plan = plan_router(desired, observed)
        if not plan:
            return observed
        for strand in (strand for stage in plan for strand in stage):
            for step in strand:
                if failures and failures.pop():
                    break
                observed = carry_out(desired, observed, step)
    raise AssertionError(f"no end of steps: {plan_router(desired, observed)}")


@given(desired_routers, observed_routers)
def test_the_planned_state_plans_to_nothing(desired: DesiredRouter | None, observed: ObservedRouter) -> None:
    reached = converge(desired, observed, ())
    assert reached.running == (desired is not None or (observed.running and not observed.managed))
    if desired:
        assert reached.port is not None
        for realm in desired.realms:
            assert {role.id for role in realm.roles} <= set(reached.realms[realm.id])


@given(desired_routers, observed_routers, st.lists(st.booleans(), max_size=12))
def test_any_failed_step_still_converges(
    desired: DesiredRouter | None, observed: ObservedRouter, fails: list[bool]
) -> None:
    assert converge(desired, observed, fails) == converge(desired, observed, ())


@given(desired_routers, observed_routers)
def test_what_the_master_did_not_start_is_left_alone(desired: DesiredRouter, observed: ObservedRouter) -> None:
    if desired is None:
        return
    stopped = [s for s in steps_of(plan_router(desired, observed)) if isinstance(s, StopRealm | StopRole)]
    assert all(s.realm_id != "byhand" and getattr(s, "role_id", "") != "byhand" for s in stopped)


def test_who_leaves_the_group_may_link_for_as_long_as_it_is_linked():
    """Its clients are there for a while. Who is unpaired is out at once."""
    gone, here = RouterLife("gone", "group_2", "bb", "life"), RouterLife("here", "group_3", "cc", "life")
    desired = replace(DESIRED, peers=(("here", "cc"), ("proxy1", "aa")), routers=("here",))
    links = {f"cnc_{router.node}": ObservedLink(("127.0.0.2", 10000), router) for router in (gone, here)}
    linked, paired = replace(RUNNING, links=links), [("gone", "bb"), ("here", "cc"), ("proxy1", "aa"), ("other", "dd")]
    still = desired.admitting(linked, paired)
    assert (still.peers, still.routers) == ((("gone", "bb"), ("here", "cc"), ("proxy1", "aa")), ("gone", "here"))
    a_proxy_as_well = replace(desired, peers=still.peers)
    assert a_proxy_as_well.admitting(linked, paired) == still
    for observed, nodes in ((None, paired), (RUNNING, paired), (linked, paired[1:]), (linked, [("gone", "new key")])):
        assert desired.admitting(observed, nodes) == desired


def test_a_proxy_that_still_has_clients_here_may_connect_but_not_link():
    desired = replace(DESIRED, peers=(("proxy1", "aa"),), routers=())
    paired = [("proxy1", "aa"), ("proxy2", "bb"), ("other", "cc")]
    guests = frozenset({("proxy1", "aa"), ("proxy2", "bb"), ("unpaired", "dd"), ("other", "former key")})
    still = desired.admitting(RUNNING, paired, guests)
    assert (still.peers, still.routers) == ((("proxy1", "aa"), ("proxy2", "bb")), ())
    assert desired.admitting(RUNNING, paired, frozenset({("proxy1", "aa")})) is desired
    assert desired.admitting(RUNNING, paired) is desired
