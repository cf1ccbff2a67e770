"""A simulated node: which calls reach what, and what it forgets when it dies. (Its workers: test/contract.)"""

from types import SimpleNamespace

import pytest
from autobahn.wamp.exception import ApplicationError

from crossbar_cluster.core.keyfile import parse_tags
from crossbar_cluster.lab.simulated import SimulatedNode

LISTENER = {"type": "rawsocket", "endpoint": {"type": "tcp", "portrange": [10000, 10001]}}


@pytest.fixture
def node():
    return SimulatedNode("router1", None, "10.0.0.1")


def call(node, procedure, *args):
    details = SimpleNamespace(procedure=f"crossbarfabriccenter.node.router1.{procedure}")
    return node._called(*args, details=details)


def error_of(node, procedure, *args):
    with pytest.raises(ApplicationError) as failed:
        call(node, procedure, *args)
    return failed.value.error


def test_calls_reach_the_node_and_its_workers_and_are_counted(node):
    assert error_of(node, "get_worker", "w1") == "crossbar.error.no_such_worker"
    assert call(node, "start_worker", "w1", "router", {})["status"] == "started"
    assert error_of(node, "start_worker", "w1", "router") == "crossbar.error.worker_already_running"
    snapshot = call(node, "worker.w1.get_router_snapshot")
    assert snapshot.pop("life")
    assert snapshot == {"realms": {}, "transports": {}, "access": {}, "links": {}, "by_realm": True, "limits_met": {}}
    assert call(node, "get_workers") == ["w1"] and call(node, "get_workers", ["proxy"]) == []
    assert call(node, "get_status")["workers_by_type"] == {"router": 1}
    assert call(node, "stop_worker", "w1") and call(node, "get_workers") == []
    assert node.calls == {
        "get_worker": 1,
        "start_worker": 2,
        "get_router_snapshot": 1,
        "get_workers": 3,
        "get_status": 1,
        "stop_worker": 1,
    }


@pytest.mark.parametrize(
    "procedure",
    ["join", "die", "nonsense", "calls", "_worker", "worker.w1.nonsense", "worker.w1.release", "worker.w2.get_status"],
)
def test_what_is_no_procedure_is_none(node, procedure):
    call(node, "start_worker", "w1", "router")
    assert error_of(node, procedure) == "wamp.error.no_such_procedure"


def test_workers_of_one_node_listen_on_different_ports(node):
    for worker, port in (("w1", 10000), ("w2", 10001)):
        call(node, "start_worker", worker, "router")
        started = call(node, f"worker.{worker}.start_router_transport", f"tnp_{worker}", LISTENER)
        assert started["config"]["endpoint"]["port"] == port
    call(node, "start_worker", "w3", "router")
    assert error_of(node, "worker.w3.start_router_transport", "tnp_w3", LISTENER) == "crossbar.error.cannot_listen"
    call(node, "stop_worker", "w1")
    started = call(node, "worker.w3.start_router_transport", "tnp_w3", LISTENER)
    assert started["config"]["endpoint"]["port"] == 10000


def test_a_node_that_dies_comes_back_empty(node):
    call(node, "start_worker", "w1", "router")
    call(node, "worker.w1.start_router_transport", "tnp_w1", LISTENER)
    node.die()
    assert call(node, "get_workers") == []
    call(node, "start_worker", "w1", "router")
    started = call(node, "worker.w1.start_router_transport", "tnp_w1", LISTENER)
    assert started["config"]["endpoint"]["port"] == 10000


def test_its_public_key_is_where_the_master_looks(node, tmp_path):
    node.write_key(tmp_path)
    tags = parse_tags((tmp_path / "router1" / ".crossbar" / "key.pub").read_text())
    assert tags["node-authid"] == "router1" and tags["node-cluster-ip"] == "10.0.0.1"
    assert tags["public-key-ed25519"] == call(node, "get_status")["pubkey"]
