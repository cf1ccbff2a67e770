"""The planners: what is planned for which difference, and that carrying it out leaves nothing to plan."""

from collections.abc import Mapping
from dataclasses import replace
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from crossbar_cluster.core.realm import (
    DesiredRealm,
    ObservedProxy,
    ObservedRouter,
    Placement,
    ProxyStep,
    ProxyWorker,
    RepointConnection,
    Role,
    RouterStep,
    StartConnection,
    StartListener,
    StartRealm,
    StartRole,
    StartRoute,
    StartWorker,
    plan_proxy,
    plan_router,
)

RLINK = Role("rle_0_builtin_1", {"name": "rlink"})
ANONYMOUS = Role("rle_1", {"name": "anonymous"})
USER = Role("rle_2", {"name": "user"})
PLACEMENT = Placement(UUID(int=1), UUID(int=11), "router1", "group_1", "10.0.0.1", 10000)
PROXY = ProxyWorker(UUID(int=21), "proxy1", "cpw-1")
REALM = DesiredRealm(UUID(int=5), "realm1", (RLINK, ANONYMOUS), (PLACEMENT,), (PROXY,))
CONNECTION = PLACEMENT.connection_id
BACKENDS = {CONNECTION: ("10.0.0.1", 10000)}
SERVED = ObservedProxy(BACKENDS, ({"anonymous": CONNECTION},))

endpoints = st.tuples(st.sampled_from(["10.0.0.1", "10.0.0.2", "fd00::1", "router1"]), st.integers(10000, 10002))
connection_ids = st.sampled_from(["cnc_a", "cnc_b", "cnc_c"])
role_names = st.sampled_from(["anonymous", "user", "rlink"])
roles = st.lists(st.sampled_from([RLINK, ANONYMOUS, USER]), unique_by=lambda role: role.id, max_size=3).map(tuple)
observed_proxies = st.builds(
    ObservedProxy,
    st.dictionaries(connection_ids, endpoints),
    st.lists(st.dictionaries(role_names, connection_ids), max_size=4).map(tuple),
)
observed_routers = st.builds(
    ObservedRouter,
    st.booleans(),
    st.booleans(),
    st.frozensets(st.sampled_from([RLINK.id, ANONYMOUS.id, "rle_other"])),
    st.one_of(st.none(), st.integers(10000, 10002)),
)


def after_router(observed: ObservedRouter, step: RouterStep) -> ObservedRouter:
    match step:
        case StartWorker():
            return ObservedRouter(running=True)
        case StartRealm():
            return replace(observed, has_realm=True, role_ids=frozenset())
        case StartRole(role):
            assert observed.has_realm, "a role needs its realm"
            return replace(observed, role_ids=observed.role_ids | {role.id})
        case StartListener():
            return replace(observed, port=10000)


def after_proxy(observed: ObservedProxy, step: ProxyStep) -> ObservedProxy:
    connections: dict[str, tuple[str, int]] = dict(observed.connections)
    match step:
        case StartConnection(connection_id, host, port):
            assert connection_id not in connections, "already running"
            return replace(observed, connections={**connections, connection_id: (host, port)})
        case RepointConnection(connection_id, host, port, was):
            assert connections[connection_id] == was
            return replace(observed, connections={**connections, connection_id: (host, port)})
        case StartRoute(connection_id, roles):
            assert connection_id in connections, "a route needs its connection"
            return replace(observed, routes=(*observed.routes, dict.fromkeys(roles, connection_id)))


def test_a_worker_that_does_not_run_is_started_and_looked_at_anew() -> None:
    assert plan_router(REALM, ObservedRouter()) == [StartWorker()]


def test_a_fresh_worker_gets_its_realm_before_it_listens() -> None:
    expected = [StartRealm(), StartRole(RLINK), StartRole(ANONYMOUS), StartListener()]
    assert plan_router(REALM, ObservedRouter(running=True)) == expected


def test_a_second_realm_on_a_worker_does_not_start_a_second_listener() -> None:
    steps = plan_router(REALM, ObservedRouter(running=True, port=10000))
    assert steps == [StartRealm(), StartRole(RLINK), StartRole(ANONYMOUS)]


def test_a_role_added_later_is_started() -> None:
    realm = replace(REALM, roles=(RLINK, ANONYMOUS, USER))
    observed = ObservedRouter(True, True, frozenset({RLINK.id, ANONYMOUS.id}), 10000)
    assert plan_router(realm, observed) == [StartRole(USER)]


def test_a_serving_router_is_left_alone() -> None:
    assert plan_router(REALM, ObservedRouter(True, True, frozenset({RLINK.id, ANONYMOUS.id}), 10001)) == []


def test_a_new_proxy_gets_connection_and_route_in_this_order() -> None:
    assert plan_proxy(REALM, BACKENDS, ObservedProxy()) == [
        StartConnection(CONNECTION, "10.0.0.1", 10000),
        StartRoute(CONNECTION, ("anonymous",)),
    ]


def test_another_host_is_followed() -> None:
    steps = plan_proxy(REALM, {CONNECTION: ("10.0.0.2", 10000)}, SERVED)
    assert steps == [RepointConnection(CONNECTION, "10.0.0.2", 10000, was=("10.0.0.1", 10000))]


def test_another_port_is_followed() -> None:
    steps = plan_proxy(REALM, {CONNECTION: ("10.0.0.1", 10001)}, SERVED)
    assert steps == [RepointConnection(CONNECTION, "10.0.0.1", 10001, was=("10.0.0.1", 10000))]


def test_a_router_that_is_down_changes_nothing() -> None:
    assert plan_proxy(REALM, {}, SERVED) == []


def test_one_router_down_does_not_withhold_the_other() -> None:
    steps = plan_proxy(REALM, {"cnc_router2_group_2": ("10.0.0.9", 10000)}, SERVED)
    assert steps == [
        StartConnection("cnc_router2_group_2", "10.0.0.9", 10000),
        StartRoute("cnc_router2_group_2", ("anonymous",)),
    ]


def test_routes_do_not_multiply() -> None:
    twice = replace(SERVED, routes=(*SERVED.routes, *SERVED.routes))
    assert plan_proxy(REALM, BACKENDS, twice) == []


def test_a_role_added_later_gets_a_route_of_its_own() -> None:
    steps = plan_proxy(replace(REALM, roles=(RLINK, ANONYMOUS, USER)), BACKENDS, SERVED)
    assert steps == [StartRoute(CONNECTION, ("user",))]


def test_clients_cannot_take_the_role_of_router_links() -> None:
    steps = plan_proxy(replace(REALM, roles=(RLINK,)), BACKENDS, ObservedProxy())
    assert steps == [StartConnection(CONNECTION, "10.0.0.1", 10000)]


def test_a_realm_has_to_do_with_its_routers_and_its_proxies() -> None:
    assert REALM.concerns(PLACEMENT.node_oid) and REALM.concerns(PROXY.node_oid)
    assert not REALM.concerns(UUID(int=99))


@given(roles, observed_routers)
def test_a_router_brought_to_its_plan_needs_nothing_more(roles: tuple[Role, ...], observed: ObservedRouter) -> None:
    realm = replace(REALM, roles=roles)
    for _ in range(2):  # a started worker is observed anew
        for step in plan_router(realm, observed):
            observed = after_router(observed, step)
    assert plan_router(realm, observed) == []


@given(roles, st.dictionaries(connection_ids, endpoints), observed_proxies)
def test_a_proxy_brought_to_its_plan_needs_nothing_more(
    roles: tuple[Role, ...], backends: Mapping[str, tuple[str, int]], observed: ObservedProxy
) -> None:
    realm = replace(REALM, roles=roles)
    before = observed
    for step in plan_proxy(realm, backends, observed):
        observed = after_proxy(observed, step)
    assert plan_proxy(realm, backends, observed) == []
    untouched = {c: e for c, e in before.connections.items() if c not in backends}
    assert dict(observed.connections) == {**untouched, **backends}


@given(st.dictionaries(connection_ids, endpoints), observed_proxies, st.data())
def test_a_plan_cut_short_by_a_failure_is_completed_by_the_next(
    backends: Mapping[str, tuple[str, int]], observed: ObservedProxy, data: st.DataObject
) -> None:
    steps = plan_proxy(REALM, backends, observed)
    for step in steps[: data.draw(st.integers(0, len(steps)))]:
        observed = after_proxy(observed, step)
    for step in plan_proxy(REALM, backends, observed):
        observed = after_proxy(observed, step)
    assert plan_proxy(REALM, backends, observed) == []
