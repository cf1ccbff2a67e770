"""When a node is ready, and when a master is to be started anew."""

import pytest

from crossbar_cluster.core.health import (
    SETTLED_AFTER_S,
    Uplink,
    Worker,
    dead_on_master,
    missing_on_master,
    missing_on_node,
)
from crossbar_cluster.node.settings import HEALTH_ADDRESS, HEALTH_PORT, InvalidSetting, check

JOINED, JUST_JOINED, NOT_JOINED = Uplink(True, 60.0), Uplink(True, SETTLED_AFTER_S / 2), Uplink(False, 60.0)


def router(listeners=(10000,), **realms):
    return Worker("r", "router", {"listeners": list(listeners), "realms": realms})


def proxy(listeners=(8080,), routes=("realm1",), **backends):
    return Worker("p", "proxy", {"listeners": list(listeners), "routes": list(routes), "backends": backends})


DRAINING = Worker("p", "proxy", {**(proxy(a="up").facts or {}), "draining": True})
SILENT = Worker("r", "router", None, "does not answer within 2 s")


@pytest.mark.parametrize(
    ("uplink", "workers", "missing"),
    [
        (JOINED, [], None),
        (JUST_JOINED, [], "about to start"),
        (NOT_JOINED, [], "has not joined"),
        (JOINED, [router(realm1=2)], None),
        (JUST_JOINED, [router(realm1=2)], None),
        (NOT_JOINED, [router(realm1=2)], "has not joined"),
        (JOINED, [router((), realm1=2)], "worker r: does not listen yet"),
        (JOINED, [router()], "worker r: has no realm yet"),
        (JOINED, [router(realm1=0, realm2=1)], "worker r: realm realm1 has no roles yet"),
        (JOINED, [SILENT, router(realm1=1)], "worker r: does not answer within 2 s"),
        (JOINED, [proxy(a="up", b="suspect")], None),
        (NOT_JOINED, [proxy(a="up")], None),
        (NOT_JOINED, [proxy(a="up"), router(realm1=1)], "has not joined"),
        (JOINED, [proxy(a="suspect", b="connecting")], "no backend is up (a is suspect, b is connecting)"),
        (JOINED, [proxy((), a="up")], "worker p: does not listen yet"),
        (JOINED, [proxy(routes=(), a="up")], "worker p: has no routes"),
        (None, [router(realm1=1)], None),
        (JOINED, [DRAINING], "worker p: is about to end"),
    ],
)
def test_an_edge_node(uplink, workers, missing):
    found = missing_on_node(uplink, workers)
    assert (not found) if missing is None else (len(found) == 1 and missing in found[0]), found


def test_everything_that_is_missing_is_said():
    found = missing_on_node(NOT_JOINED, [router(()), proxy((), ())])
    assert len(found) == 6, found


def master_router(*listeners):
    return Worker("cfrouter1", "router", {"listeners": list(listeners), "realms": {}})


def container(running=True, silent_s=1.0, problems=()):
    plane = {"mrealm": "default", "running": running, "silent_s": silent_s}
    return Worker("c", "container", {"planes": [plane], "problems": list(problems)})


@pytest.mark.parametrize(
    ("booted", "problems", "mrealms", "workers", "missing"),
    [
        (True, [], ["default"], [master_router("sock1", 9000), container()], None),
        (False, [], ["default"], [master_router(9000), container()], "still booting"),
        (True, ["broken"], ["default"], [master_router(9000), container()], "broken"),
        (True, [], ["default"], [master_router("sock1"), container()], "does not listen for nodes"),
        (True, [], ["default"], [container()], "worker cfrouter1: not running"),
        (True, [], [], [master_router(9000)], "no management realm yet"),
        (True, [], ["other", "default"], [master_router(9000), container()], "of other: not there"),
        (True, [], ["default"], [master_router(9000), container(running=False)], "its control plane does not run"),
        (True, [], ["default"], [master_router(9000), container(silent_s=500)], "no pass for 500 s"),
        (True, [], ["default"], [master_router(9000), container(problems=["full"])], "worker c: full"),
        (True, [], ["default"], [master_router(9000), Worker("c", "container", None, "silent")], "worker c: silent"),
    ],
)
def test_a_master(booted, problems, mrealms, workers, missing):
    found = missing_on_master(booted, problems, mrealms, workers)
    assert (not found) if missing is None else (len(found) == 1 and missing in found[0]), found


def test_a_master_lives_while_its_workers_come_up_and_not_when_one_is_silent_or_gone():
    starting = Worker("c", "container", None, "is starting", starting=True)
    assert dead_on_master([], [starting, master_router()]) == []
    found = dead_on_master(["cfrouter1"], [Worker("c", "container", None, "silent")])
    assert found == ["worker cfrouter1: not running", "worker c: silent"]


@pytest.mark.parametrize("value", ["0", "65536", "-1", "80.5", "http", "9_0", "٣", "1" * 200])
def test_a_port_that_is_none(value):
    with pytest.raises(InvalidSetting, match=r"CROSSBAR_HEALTH_PORT: .* is no TCP port\. Use a number") as refused:
        check({"CROSSBAR_HEALTH_PORT": value})
    assert len(str(refused.value)) < 200


@pytest.mark.parametrize("value", ["localhost", "10.0.0.0/8", "10.0.0.1:80", "all"])
def test_an_address_that_is_none(value):
    with pytest.raises(InvalidSetting, match=r"CROSSBAR_HEALTH_ADDRESS: .* is no IP address"):
        check({"CROSSBAR_HEALTH_ADDRESS": value})


def test_where_health_is_to_be_asked_for():
    assert HEALTH_PORT.read({}) is None and HEALTH_PORT.read({"CROSSBAR_HEALTH_PORT": " "}) is None
    assert HEALTH_PORT.read({"CROSSBAR_HEALTH_PORT": " 9090 "}) == 9090
    assert HEALTH_ADDRESS.read({}) is None
    assert HEALTH_ADDRESS.read({"CROSSBAR_HEALTH_ADDRESS": "::1"}) == "::1"
