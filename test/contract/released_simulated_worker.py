"""Simulated workers answer management calls as the released ones do (with the patches on them): the same calls on both.

What listens or runs a router is not called on the released classes: for that only names and arguments are compared.
"""

import inspect
from types import SimpleNamespace

import pytest
from autobahn.wamp.exception import ApplicationError
from twisted.internet.defer import Deferred, succeed
from twisted.internet.testing import MemoryReactorClock

from crossbar_cluster.lab.simulated_worker import SimulatedProxy, SimulatedRouter


def released_proxy(monkeypatch):
    """The released controller of proxy workers, without the process around it."""
    from crossbar.worker.proxy import ProxyController

    controller = ProxyController.__new__(ProxyController)
    controller._uri_prefix = "crossbar.worker.test"
    controller.transports = {}
    controller._connections, controller._connections_by_auth = {}, {}
    controller._routes, controller._routes_by_connection = {}, {}
    controller._next_route_id, controller._roundrobin_idx = 0, {}
    controller._reactor = MemoryReactorClock()
    monkeypatch.setattr(ProxyController, "publish", lambda *a, **kw: succeed(None))
    return controller


def released_router(monkeypatch):
    """The released controller of router workers, without the process around it, with a realm."""
    from crossbar.worker.types import RouterRealm

    from crossbar.worker.router import RouterController

    controller = RouterController.__new__(RouterController)
    controller._uri_prefix = "crossbar.worker.test"
    controller.personality = None
    controller._router_factory = SimpleNamespace(
        add_role=lambda realm, config: None, drop_role=lambda realm, name: None
    )
    controller.transports = {}
    controller.realms = {"rlm_1": RouterRealm(controller, "rlm_1", {"name": "realm1"})}
    controller.realms["rlm_1"].router = SimpleNamespace(_authorization_cache={})
    monkeypatch.setattr(RouterController, "publish", lambda *a, **kw: succeed(None))
    return controller


def simulated_router():
    router = SimulatedRouter(set())
    router.start_router_realm("rlm_1", {"name": "realm1"})
    return router


def procedures(worker_class):
    return sorted(name for name, member in vars(worker_class).items() if getattr(member, "is_procedure", False))


def required_arguments(method):
    """How many it needs: the master passes them by position, so their names do not matter."""
    parameters = [p for p in inspect.signature(method).parameters.values() if p.name not in ("self", "details")]
    return len([p for p in parameters if p.default is p.empty])


@pytest.mark.parametrize("name", procedures(SimulatedProxy))
def test_every_procedure_of_a_simulated_proxy_is_one_of_a_proxy(name):
    from crossbar.worker.proxy import ProxyController

    assert hasattr(getattr(ProxyController, name), "_wampuris")
    assert required_arguments(getattr(ProxyController, name)) == required_arguments(getattr(SimulatedProxy, name))


@pytest.mark.parametrize("name", procedures(SimulatedRouter))
def test_every_procedure_of_a_simulated_router_is_one_of_a_router(name):
    from crossbar.worker.router import RouterController

    assert hasattr(getattr(RouterController, name), "_wampuris")
    assert required_arguments(getattr(RouterController, name)) == required_arguments(getattr(SimulatedRouter, name))


def outcome(worker, call, details=None):
    """The answer without what depends on the time and on the process; for an error its URI."""
    name, *args = call
    kwargs = {"details": details} if details else {}
    try:
        answer = getattr(worker, name)(*args, **kwargs)
    except ApplicationError as e:
        return e.error
    if isinstance(answer, Deferred):
        result = []
        answer.addBoth(result.append)
        assert result, f"{name} did not end"
        answer = result[0]
        if not isinstance(answer, dict | list):
            return answer.value.error
    return relevant(answer)


def relevant(answer):
    if isinstance(answer, list):
        return [relevant(each) for each in answer]
    if answer is None or "id" not in answer:
        return answer
    return {key: answer[key] for key in ("id", "config", "realm") if key in answer}


def connection(host, port=10000):
    return {"transport": {"type": "rawsocket", "endpoint": {"type": "tcp", "host": host, "port": port}}}


PROXY_CALLS = [
    ("get_proxy_snapshot",),
    ("get_proxy_connection", "c"),
    ("repoint_proxy_connection", "c", connection("10.0.0.1")),
    ("stop_proxy_connection", "c"),
    ("list_proxy_realm_routes", "realm1"),
    ("start_proxy_realm_route", "realm1", {"anonymous": "c"}),
    ("start_proxy_connection", "c", connection("10.0.0.1")),
    ("start_proxy_connection", "c", connection("10.0.0.1")),
    ("get_proxy_connection", "c"),
    ("start_proxy_realm_route", "realm1", {"anonymous": "c"}),
    ("start_proxy_realm_route", "realm1", {"user": "c"}),
    ("list_proxy_realm_routes", "realm1"),
    ("repoint_proxy_connection", "c", connection("10.0.0.2", 10001)),
    ("repoint_proxy_connection", "c", {}),
    ("get_proxy_snapshot",),
    ("stop_proxy_realm_route", "realm1", "route000"),
    ("stop_proxy_realm_route", "realm1", "route000"),
    ("stop_proxy_realm_route", "realm1", "route001"),
    ("stop_proxy_realm_route", "realm1", "route001"),
    ("list_proxy_realm_routes", "realm1"),
    ("stop_proxy_connection", "c"),
    ("get_proxy_snapshot",),
    ("get_proxy_transport", "primary"),
    ("get_web_transport_service", "primary", "ws"),
    ("start_web_transport_service", "primary", "ws", {"type": "websocket"}),
    ("stop_web_transport_service", "primary", "ws"),
]

ROLE = {"name": "anonymous", "permissions": [{"uri": "", "match": "prefix", "allow": {"call": True}}]}

ROUTER_CALLS = [
    ("get_router_snapshot",),
    ("get_router_realm", "rlm_2"),
    ("stop_router_realm", "rlm_2"),
    ("get_router_realm_role", "rlm_2", "rle_1"),
    ("get_router_realm_role", "rlm_1", "rle_1"),
    ("start_router_realm_role", "rlm_2", "rle_1", ROLE),
    ("start_router_realm_role", "rlm_1", "rle_1", ROLE),
    ("start_router_realm_role", "rlm_1", "rle_1", ROLE),
    ("start_router_realm_role", "rlm_1", "rle_2", ROLE),
    ("start_router_realm", "rlm_1", {"name": "realm1"}),
    ("get_router_realm_role", "rlm_1", "rle_1"),
    ("get_router_realm", "rlm_1"),
    ("get_router_snapshot",),
    ("update_router_realm_role", "rlm_2", "rle_1", ROLE),
    ("update_router_realm_role", "rlm_1", "rle_2", ROLE),
    ("update_router_realm_role", "rlm_1", "rle_1", {**ROLE, "permissions": []}),
    ("get_router_snapshot",),
    ("update_router_principals", "tnp_1", {}, []),
    ("get_router_snapshot",),
    ("update_router_principals", "tnp_1", {}, [], {"proxy1": ["realm1"]}),
    ("get_router_snapshot",),
    ("stop_router_realm_role", "rlm_1", "rle_2"),
    ("stop_router_realm_role", "rlm_2", "rle_2"),
    ("stop_router_realm_role", "rlm_1", "rle_1"),
    ("get_router_snapshot",),
    ("get_router_transport", "tnp_1"),
    ("stop_router_transport", "tnp_1"),
]


def test_a_simulated_proxy_answers_as_a_proxy(monkeypatch):
    simulated, released = SimulatedProxy(), released_proxy(monkeypatch)
    details = SimpleNamespace(caller_authid="superuser", caller=1)
    for call in PROXY_CALLS:
        assert outcome(simulated, call) == outcome(released, call, details), call


def test_a_simulated_router_answers_as_a_router(monkeypatch):
    from crossbar_cluster.node.router_worker import LIFE

    simulated, released = simulated_router(), released_router(monkeypatch)
    simulated.life = LIFE  # else it is another one, as it should be
    details = SimpleNamespace(caller_authid="superuser", caller=1)
    for call in ROUTER_CALLS:
        assert outcome(simulated, call) == outcome(released, call, details), call
