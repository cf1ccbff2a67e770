"""A proxy worker's connections: where they point, and which of them serve a realm and role. On the released classes."""

from types import SimpleNamespace

import pytest
from autobahn.wamp.exception import ApplicationError
from twisted.internet import reactor
from twisted.internet.defer import Deferred, succeed
from twisted.internet.endpoints import HostnameEndpoint, TCP4ClientEndpoint
from twisted.internet.testing import MemoryReactorClock

from crossbar_cluster.proxy.connections import InvalidConnection, endpoint_of


def config(host="10.0.0.1", port=10000):
    return {"transport": {"type": "rawsocket", "endpoint": {"type": "tcp", "host": host, "port": port}}}


@pytest.fixture
def proxy(monkeypatch):
    """The released controller of proxy workers, without the process around it."""
    from crossbar.worker.proxy import ProxyController

    controller = ProxyController.__new__(ProxyController)
    controller._uri_prefix = "crossbar.worker.test"
    controller._connections, controller._connections_by_auth = {}, {}
    controller._routes, controller._routes_by_connection = {}, {}
    controller._next_route_id, controller._roundrobin_idx = 0, {}
    controller._reactor = MemoryReactorClock()
    monkeypatch.setattr(ProxyController, "publish", lambda *a, **kw: succeed(None))
    return controller


@pytest.fixture
def details():
    return SimpleNamespace(caller_authid="superuser", caller=1)


def done(deferred):
    assert deferred.called
    return deferred.result


def test_a_repointed_connection_leads_elsewhere_in_every_route(proxy, details):
    done(proxy.start_proxy_connection("c", config(), details))
    done(proxy.start_proxy_realm_route("realm1", {"anonymous": "c", "user": "c"}, details))
    proxy.repoint_proxy_connection("c", config("10.0.0.2", 10001), details)
    for role in ("anonymous", "user"):
        for _ in range(3):
            assert endpoint_of(proxy.get_backend_config("realm1", role)) == ("10.0.0.2", 10001)
    assert endpoint_of(proxy.get_proxy_connection("c", details)["config"]) == ("10.0.0.2", 10001)


def test_a_stopped_connection_is_never_used_again(proxy, details):
    for connection_id, host in (("a", "10.0.0.1"), ("b", "10.0.0.2")):
        done(proxy.start_proxy_connection(connection_id, config(host), details))
        done(proxy.start_proxy_realm_route("realm1", {"anonymous": connection_id}, details))
    assert {endpoint_of(proxy.get_backend_config("realm1", "anonymous"))[0] for _ in range(4)} == {
        "10.0.0.1",
        "10.0.0.2",
    }
    done(proxy.stop_proxy_connection("a", details))
    assert {endpoint_of(proxy.get_backend_config("realm1", "anonymous"))[0] for _ in range(4)} == {"10.0.0.2"}


def test_a_connection_started_anew_is_used_by_the_routes_that_name_it(proxy, details):
    done(proxy.start_proxy_connection("c", config(), details))
    done(proxy.start_proxy_realm_route("realm1", {"anonymous": "c"}, details))
    done(proxy.stop_proxy_connection("c", details))
    done(proxy.start_proxy_connection("c", config("10.0.0.2"), details))
    assert {endpoint_of(proxy.get_backend_config("realm1", "anonymous"))[0] for _ in range(4)} == {"10.0.0.2"}


def test_a_stopped_route_takes_its_connection_out_of_use(proxy, details):
    for connection_id, host in (("a", "10.0.0.1"), ("b", "10.0.0.2")):
        done(proxy.start_proxy_connection(connection_id, config(host), details))
        done(proxy.start_proxy_realm_route("realm1", {"anonymous": connection_id}, details))
    done(proxy.stop_proxy_realm_route("realm1", "route000", details))
    assert {endpoint_of(proxy.get_backend_config("realm1", "anonymous"))[0] for _ in range(4)} == {"10.0.0.2"}


def test_calls_that_overlap_lose_no_route(proxy, details, monkeypatch):
    """Two realms are started on a proxy at the same time: each call suspends while it publishes."""
    done(proxy.start_proxy_connection("c", config(), details))
    published = []

    def publish(*args, **kwargs):
        published.append(Deferred())
        return published[-1]

    monkeypatch.setattr(type(proxy), "publish", publish)
    calls = [
        proxy.start_proxy_realm_route("realm1", {"anonymous": "c"}, details),
        proxy.start_proxy_realm_route("realm2", {"anonymous": "c"}, details),
        proxy.start_proxy_connection("d", config("10.0.0.2"), details),
    ]
    while published:  # the last call is the first to end
        published.pop().callback(None)
    assert all(call.called for call in calls)
    for realm in ("realm1", "realm2"):
        assert endpoint_of(proxy.get_backend_config(realm, "anonymous")) == ("10.0.0.1", 10000)


@pytest.mark.parametrize("wrong", [None, 7, {}, {"transport": {}}, config("a b"), config(port=0), config(port="1")])
def test_a_configuration_without_an_endpoint_changes_nothing(proxy, details, wrong):
    done(proxy.start_proxy_connection("c", config(), details))
    with pytest.raises(ApplicationError, match="invalid_configuration"):
        proxy.repoint_proxy_connection("c", wrong, details)
    assert endpoint_of(proxy._connections["c"].config) == ("10.0.0.1", 10000)


def test_there_must_be_a_connection_to_repoint(proxy, details):
    with pytest.raises(ApplicationError, match="no_such_object"):
        proxy.repoint_proxy_connection("c", config(), details)


def test_an_endpoint_needs_host_and_port():
    with pytest.raises(InvalidConnection, match="port"):
        endpoint_of(config(port=65536))


@pytest.mark.parametrize(
    ("host", "kind"),
    [
        ("router1", HostnameEndpoint),
        ("router1.example.org", HostnameEndpoint),
        ("crossbar_router_realm1", TCP4ClientEndpoint),
        ("10.0.0.1", TCP4ClientEndpoint),
        ("fd00::1", TCP4ClientEndpoint),
    ],
)
def test_names_are_looked_up_at_every_connect_in_both_families(host, kind):
    from crossbar.worker import proxy

    endpoint = proxy._create_transport_endpoint(reactor, {"type": "tcp", "host": host, "port": 10000})
    assert type(endpoint) is kind
