"""The planner of proxy workers: steps for differences, convergence, and that no realm loses its last good route."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from crossbar_cluster.core.proxy import (
    Backend,
    DesiredProxy,
    ObservedProxy,
    RepointConnection,
    RoutedRealm,
    RouterLife,
    StartConnection,
    StartRoute,
    StartService,
    StartTransport,
    StopConnection,
    StopRoute,
    StopService,
    at,
    plan_proxy,
)
from crossbar_cluster.core.worker import StartWorker, StopWorker, WorkerKey, steps_of

KEY = WorkerKey(UUID(int=1), "cpw-1-0")
ROUTER1, ROUTER2 = WorkerKey(UUID(int=11), "group_1"), WorkerKey(UUID(int=12), "group_2")
HERE, THERE, ELSEWHERE = ("10.0.0.1", 10000), ("10.0.0.2", 10000), ("10.0.0.3", 10001)
ONE = Backend("cnc_1", ROUTER1, HERE, confirmed=True)
FIRST_LIFE = RouterLife("router1", "group_1", "aa" * 32, "1")
SECOND_LIFE = replace(FIRST_LIFE, life="2")
TWO = Backend("cnc_2", ROUTER2, THERE, confirmed=True)
REALM = RoutedRealm("realm1", ("anonymous",), (ONE,))
DESIRED = DesiredProxy(KEY, "proxy1", {}, {"ws": {"type": "websocket"}}, (REALM,))
SERVING = ObservedProxy(
    True, True, frozenset({"ws"}), {"cnc_1": HERE}, {"realm1": {"route000": {"anonymous": "cnc_1"}}}
)
STARTED = [StartConnection("cnc_1", HERE), StartRoute("realm1", "cnc_1", ("anonymous",))]


def with_backends(*backends: Backend) -> DesiredProxy:
    return replace(DESIRED, realms=(replace(REALM, backends=backends),))


@pytest.mark.parametrize(
    ("desired", "observed", "steps"),
    [
        pytest.param(DESIRED, SERVING, [], id="as-configured"),
        pytest.param(DESIRED, ObservedProxy(), [StartWorker()], id="no-worker"),
        pytest.param(None, SERVING, [StopWorker()], id="not-wanted"),
        pytest.param(None, ObservedProxy(), [], id="not-wanted-and-not-there"),
        pytest.param(
            DESIRED,
            ObservedProxy(running=True),
            [*STARTED, StartTransport(), StartService("ws")],
            id="routes-come-first",
        ),
        pytest.param(
            with_backends(replace(ONE, endpoint=THERE)),
            SERVING,
            [RepointConnection("cnc_1", THERE, HERE)],
            id="the-router-has-moved",
        ),
        pytest.param(
            with_backends(replace(ONE, endpoint=("10.0.0.1", 10001))),
            SERVING,
            [RepointConnection("cnc_1", ("10.0.0.1", 10001), HERE)],
            id="the-router-has-another-port",
        ),
        pytest.param(
            with_backends(replace(ONE, identity=SECOND_LIFE)),
            replace(SERVING, identities={"cnc_1": FIRST_LIFE}),
            [RepointConnection("cnc_1", HERE, HERE, SECOND_LIFE)],
            id="the-router-has-a-new-life",
        ),
        pytest.param(
            with_backends(replace(ONE, identity=FIRST_LIFE)),
            replace(SERVING, identities={"cnc_1": FIRST_LIFE}),
            [],
            id="the-router-has-the-same-life",
        ),
        pytest.param(
            with_backends(replace(ONE, identity=FIRST_LIFE)), SERVING, [], id="a-released-proxy-tells-of-no-life"
        ),
        pytest.param(
            with_backends(replace(ONE, identity=SECOND_LIFE, confirmed=False)),
            replace(SERVING, identities={"cnc_1": FIRST_LIFE}),
            [],
            id="a-life-that-is-not-known-to-listen-stays",
        ),
        pytest.param(
            with_backends(replace(ONE, endpoint=THERE, confirmed=False)), SERVING, [], id="not-known-to-listen-stays"
        ),
        pytest.param(with_backends(), SERVING, [], id="the-last-route-stays"),
        pytest.param(with_backends(Backend("cnc_1", ROUTER1)), SERVING, [], id="not-known-at-all-stays"),
        pytest.param(
            with_backends(replace(ONE, confirmed=False)),
            replace(SERVING, connections={}, routes={}),
            STARTED,
            id="tried-where-it-was-last-seen",
        ),
        pytest.param(
            with_backends(ONE, TWO),
            SERVING,
            [StartConnection("cnc_2", THERE), StartRoute("realm1", "cnc_2", ("anonymous",))],
            id="another-backend",
        ),
        pytest.param(
            with_backends(TWO),
            SERVING,
            [StartConnection("cnc_2", THERE), StartRoute("realm1", "cnc_2", ("anonymous",))],
            id="the-new-backend-first",
        ),
        pytest.param(
            with_backends(TWO),
            replace(
                SERVING,
                connections={"cnc_1": HERE, "cnc_2": THERE},
                routes={"realm1": {"route000": {"anonymous": "cnc_1"}, "route001": {"anonymous": "cnc_2"}}},
            ),
            [StopRoute("realm1", "route000"), StopConnection("cnc_1")],
            id="then-the-old-one-goes",
        ),
        pytest.param(
            with_backends(replace(TWO, confirmed=False)),
            replace(
                SERVING,
                connections={"cnc_1": HERE, "cnc_2": THERE},
                routes={"realm1": {"route000": {"anonymous": "cnc_1"}, "route001": {"anonymous": "cnc_2"}}},
            ),
            [],
            id="but-not-for-one-that-may-not-be-there",
        ),
        pytest.param(
            replace(DESIRED, realms=()),
            SERVING,
            [StopRoute("realm1", "route000"), StopConnection("cnc_1")],
            id="the-realm-has-stopped",
        ),
        pytest.param(
            DESIRED,
            replace(SERVING, routes={"realm1": {f"route00{n}": {"anonymous": "cnc_1"} for n in (0, 1)}}),
            [StopRoute("realm1", "route001")],
            id="a-route-twice",
        ),
        pytest.param(
            DESIRED,
            replace(SERVING, routes={"realm1": {"route000": {"anonymous": "cnc_1", "user": "cnc_1"}}}),
            [StartRoute("realm1", "cnc_1", ("anonymous",))],
            id="a-role-less",
        ),
        pytest.param(
            DESIRED,
            replace(
                SERVING,
                connections={"cnc_1": HERE, "byhand": ELSEWHERE},
                routes={**SERVING.routes, "other": {"route7": {"anonymous": "byhand"}}},
            ),
            [],
            id="an-operators-own-stays",
        ),
        pytest.param(
            replace(DESIRED, services={}), SERVING, [StopService("ws")], id="a-web-service-less"
        ),
    ],
)  # fmt: skip
def test_plan(desired: DesiredProxy | None, observed: ObservedProxy, steps: list[Any]) -> None:
    assert list(steps_of(plan_proxy(desired, observed))) == steps


def test_a_connection_that_fails_holds_up_no_other() -> None:
    first, *_ = plan_proxy(with_backends(ONE, TWO), ObservedProxy(running=True))
    assert [strand[0] for strand in first] == [StartConnection("cnc_1", HERE), StartConnection("cnc_2", THERE)]


def test_which_proxies_a_router_worker_concerns() -> None:
    assert DESIRED.uses(ROUTER1)
    assert not DESIRED.uses(ROUTER2)


def test_a_connection_is_used_while_a_route_or_a_client_is_on_it() -> None:
    routes = {"realm1": {"route000": {"anonymous": "cnc_1"}}, "realm2": {}}
    observed = ObservedProxy(running=True, routes=routes, leaving={"cnc_2": frozenset({"realm2"})})
    assert [observed.uses("cnc_1"), observed.uses("cnc_1", "realm1"), observed.uses("cnc_1", "realm2")] == [
        True,
        True,
        False,
    ]
    assert [observed.uses("cnc_2"), observed.uses("cnc_2", "realm1"), observed.uses("cnc_2", "realm2")] == [
        True,
        False,
        True,
    ]
    assert not observed.uses("cnc_3")


def test_addresses_are_written_as_people_write_them() -> None:
    assert at(HERE) == "10.0.0.1:10000"
    assert at(("fd00::7", 10000)) == "[fd00::7]:10000"


def carry_out(observed: ObservedProxy, step: Any, new_route: int) -> ObservedProxy:
    """What the worker shows after the step. Fails where a worker would refuse it."""
    connections = dict(observed.connections)
    routes = {realm: dict(by_id) for realm, by_id in observed.routes.items()}
    services = set(observed.services)
    match step:
        case StartWorker():
            assert not observed.running
            return ObservedProxy(running=True)
        case StopWorker():
            assert observed.running
            return ObservedProxy()
        case StartConnection(connection_id, endpoint):
            assert connection_id not in connections
            connections[connection_id] = endpoint
        case RepointConnection(connection_id, endpoint, was):
            assert connections[connection_id] == was
            connections[connection_id] = endpoint
        case StartRoute(realm, connection_id, roles):
            assert connection_id in connections
            routes.setdefault(realm, {})[f"new{new_route:04}"] = dict.fromkeys(roles, connection_id)
        case StartTransport():
            assert not observed.listening
            return replace(observed, listening=True)
        case StartService(path):
            assert observed.listening
            assert path not in services
            services.add(path)
        case StopRoute(realm, route_id):
            del routes[realm][route_id]
            if not routes[realm]:
                del routes[realm]
        case StopConnection(connection_id):
            del connections[connection_id]
        case StopService(path):
            services.remove(path)
    return replace(observed, connections=connections, routes=routes, services=frozenset(services))


def serving(observed: ObservedProxy, realm: RoutedRealm) -> set[str]:
    """Roles of the realm that have a route to a backend that is where it is said to be."""
    good = {
        b.connection_id
        for b in realm.backends
        if b.confirmed and observed.connections.get(b.connection_id) == b.endpoint
    }
    routes = observed.routes.get(realm.name, {}).values()
    return {role for route in routes for role, connection_id in route.items() if connection_id in good}


def converge(desired: DesiredProxy | None, observed: ObservedProxy, fails: Sequence[bool]) -> ObservedProxy:
    """Observe, plan and carry out until nothing is planned; a step fails where ``fails`` says so, once."""
    failures = list(fails)
    count = 0
    for _ in range(8 + len(fails)):
        plan = plan_proxy(desired, observed)
        if not plan:
            return observed
        for strand in (strand for stage in plan for strand in stage):
            for step in strand:
                if failures and failures.pop():
                    break
                before = observed
                observed = carry_out(observed, step, count := count + 1)
                if desired and not isinstance(step, StopWorker):
                    for realm in desired.realms:
                        lost = serving(before, realm) - serving(observed, realm)
                        assert not lost & set(realm.roles), f"{step} took the last good route of {lost}"
    raise AssertionError(f"no end of steps: {plan_proxy(desired, observed)}")


ENDPOINTS = [HERE, THERE, ELSEWHERE]
ROUTERS = {"cnc_1": ROUTER1, "cnc_2": ROUTER2, "cnc_3": WorkerKey(UUID(int=13), "group_3")}
connection_ids = st.sampled_from([*ROUTERS, "byhand"])
role_names = st.sampled_from(["anonymous", "user", "former"])


@st.composite
def backends_known(draw: st.DrawFn) -> dict[str, Backend]:
    """Where each router worker is: the same for all realms."""
    endpoints = {c: draw(st.sampled_from([None, *ENDPOINTS])) for c in ROUTERS}
    return {c: Backend(c, r, endpoints[c], bool(endpoints[c]) and draw(st.booleans())) for c, r in ROUTERS.items()}


@st.composite
def desired_proxies(draw: st.DrawFn) -> DesiredProxy | None:
    if draw(st.integers(0, 9)) == 0:
        return None
    known = draw(backends_known())
    realms = [
        RoutedRealm(
            name,
            tuple(sorted(draw(st.sets(st.sampled_from(["anonymous", "user"]))))),
            tuple(known[c] for c in sorted(draw(st.sets(st.sampled_from(sorted(ROUTERS)))))),
        )
        for name in sorted(draw(st.sets(st.sampled_from(["realm1", "realm2"]))))
    ]
    services = {path: {} for path in draw(st.sets(st.sampled_from(["ws", "info"])))}
    return DesiredProxy(KEY, "proxy1", {}, services, tuple(realms))


@st.composite
def observed_proxies(draw: st.DrawFn) -> ObservedProxy:
    if draw(st.integers(0, 9)) == 0:
        return ObservedProxy()
    connections = draw(st.dictionaries(connection_ids, st.sampled_from(ENDPOINTS)))
    listening = draw(st.booleans())
    used = st.sampled_from(sorted(connections)) if connections else st.nothing()
    a_route = st.dictionaries(role_names, used, min_size=1)
    route_ids = st.sampled_from([f"route{n:03}" for n in range(5)])
    by_id = st.dictionaries(route_ids, a_route, min_size=1) if connections else st.nothing()
    names = st.sampled_from(["realm1", "realm2", "stopped"])
    routes = draw(st.dictionaries(names, by_id)) if connections else {}
    services = frozenset(draw(st.sets(st.sampled_from(["ws", "old"])))) if listening else frozenset()
    return ObservedProxy(True, listening, services, connections, routes)


@given(desired_proxies(), observed_proxies())
def test_the_planned_state_plans_to_nothing(desired: DesiredProxy | None, observed: ObservedProxy) -> None:
    reached = converge(desired, observed, ())
    assert reached.running == (desired is not None)
    if desired is None:
        return
    assert reached.services == set(desired.services)
    for realm in desired.realms:
        for backend in realm.backends:
            if backend.confirmed:
                assert reached.connections[backend.connection_id] == backend.endpoint
    for realm in desired.realms:
        if any(backend.confirmed for backend in realm.backends):
            assert serving(reached, realm) >= set(realm.roles)


@given(desired_proxies(), observed_proxies(), st.lists(st.booleans(), max_size=12))
def test_any_failed_step_still_converges(
    desired: DesiredProxy | None, observed: ObservedProxy, fails: list[bool]
) -> None:
    failed, smooth = converge(desired, observed, fails), converge(desired, observed, ())
    assert (failed.running, failed.services, failed.connections) == (
        smooth.running,
        smooth.services,
        smooth.connections,
    )

    def pairs(proxy: ObservedProxy) -> set[tuple[str, str, str]]:
        return {
            (realm, role, c) for realm, by_id in proxy.routes.items() for r in by_id.values() for role, c in r.items()
        }

    assert pairs(failed) == pairs(smooth)


@given(desired_proxies(), observed_proxies())
def test_what_the_master_did_not_start_is_left_alone(desired: DesiredProxy | None, observed: ObservedProxy) -> None:
    assume(desired is not None)
    byhand = {name for name, by_id in observed.routes.items() for r in by_id.values() if "byhand" in r.values()}
    for step in steps_of(plan_proxy(desired, observed)):
        assert step != StopConnection("byhand")
        if isinstance(step, StopRoute) and step.realm in byhand:
            assert "byhand" not in observed.routes[step.realm][step.route_id].values()


def test_no_route_leads_to_a_router_that_is_unpaired():
    """Nobody else may serve the realm: better no route than one that leads to somebody who is not of this cluster."""
    expelled = frozenset({"cnc_1"})
    steps = list(steps_of(plan_proxy(with_backends(), SERVING, expelled)))
    assert steps == [StopRoute("realm1", "route000"), StopConnection("cnc_1")]
    replaced = steps_of(plan_proxy(with_backends(TWO), SERVING, expelled))
    assert [type(step) for step in replaced] == [StartConnection, StartRoute, StopRoute, StopConnection]
    assert list(steps_of(plan_proxy(DESIRED, SERVING, frozenset({"cnc_9"})))) == []
