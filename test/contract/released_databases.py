"""How full the master's databases are: told in time, in ``status``, on the probes and in numbers."""

import uuid
from types import SimpleNamespace

import pytest
import zlmdb
from cfxdb.mrealm import WebCluster

from crossbar_cluster.control.databases import GLOBAL, MREALM, used, warnings_of

SMALL = pytest.mark.parametrize("master", [2**22], indirect=True)


def fill(master, until):
    """Put into the management realm's database what is no heartbeat."""
    while used(master.db) < until:
        with master.db.begin(write=True) as txn:
            for _ in range(5):
                oid, name = uuid.uuid4(), uuid.uuid4().hex
                cluster = WebCluster(oid=oid, name=name, status=1, tcp_port=8080, description="x" * 1000)
                master.schema.webclusters[txn, oid] = cluster


def problems(master):
    from crossbar_cluster.control.status import problems_of

    return [p["reason"] for p in problems_of(master.plane) if "database" in p["reason"]]


@SMALL
def test_a_database_is_a_problem_long_before_it_is_full_and_told_once(master):
    master.runs(5)
    fill(master, 0.5)
    master.runs(70)
    assert problems(master) == [] and not master.told("% full")
    fill(master, 0.81)
    master.runs(5 * 60)
    assert len(problems(master)) == 1 and "the management realm's database is 80 % full" in problems(master)[0]
    assert len(master.told("the management realm's database is 80 % full")) == 1
    from crossbar_cluster.control.gauges import gauges_of

    numbers = {metric.name: values for metric, values in gauges_of({"default": master.plane})}
    ratio = numbers["crossbar_cluster_database_used_ratio"]
    assert ratio["default", MREALM] == pytest.approx(0.81, abs=0.02) and ratio["default", GLOBAL] < 0.1


@SMALL
def test_a_full_one_is_named_so_and_the_probe_tells_of_it_and_keeps_the_master_in_service(master, monkeypatch):
    from crossbar_cluster.core.health import Worker, missing_on_master
    from crossbar_cluster.health.worker import facts_of

    master.runs(5)
    with pytest.raises(zlmdb.lmdb.MapFullError):
        fill(master, 1.0)
    assert "is full: nothing can be changed any more" in problems(master)[0]
    component = SimpleNamespace(id="default", proto=SimpleNamespace(_session=master.controller))
    controller = SimpleNamespace(WORKER_TYPE="container", components={"default": component})
    facts = facts_of(controller)
    assert len(facts["warnings"]) == 1 and "is full" in facts["warnings"][0]
    worker = Worker("container", "container", facts)
    assert not [m for m in missing_on_master(True, (), ["default"], [worker]) if "database" in m]


@SMALL
def test_heartbeats_are_not_what_fills_it(master):
    node = master.node("router1")
    master.answers["router1.get_workers"] = ["w"]
    master.joins("router1", 1)
    fill(master, 0.81)
    master.runs(5)
    before = used(master.db)
    for _ in range(20):
        beat = {"timestamp": 1, "seq": 1, "type": "router"}
        master.event("_on_worker_heartbeat", "router1", "controller", beat, publisher="router1")
        master.runs(6)
    assert used(master.db) <= before
    assert len(master.told("cannot be put into the database and are dropped: 8")) in (1, 2)
    assert node in master.plane.configuration.nodes


def test_all_is_well_with_an_empty_one(master):
    assert list(warnings_of(master.plane.databases)) == []
