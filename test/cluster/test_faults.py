"""While a router moves, something else is wrong too: the repair survives it and is carried on when it can be."""

import asyncio
import os
import signal
import time

import pytest
import pytest_asyncio


@pytest_asyncio.fixture
async def second_proxy(lab):
    """Another proxy in the same web cluster."""
    proxy = lab.cluster.nodes["proxy2"] = lab.proxy2
    await lab.cluster.bring_up(proxy)
    await lab.cluster.manage("webcluster.add_webcluster_node", lab.cluster.webcluster, proxy.oid, {"parallel": 1})
    await lab.cluster.served("realm1", proxy, timeout_s=90)
    yield proxy
    await lab.cluster.manage("webcluster.remove_webcluster_node", lab.cluster.webcluster, proxy.oid)
    await proxy.running.kill()


async def test_a_proxy_that_hangs_holds_up_neither_the_other_nor_its_own_repair(lab, second_proxy):
    second_proxy.running.signal_all(signal.SIGSTOP)
    for _ in range(3):  # the second move comes while the first one's call to the hanging proxy is still pending
        await lab.cluster.move(lab.router1, lab.host())
        await lab.served_again("realm1", time.monotonic())
    second_proxy.running.signal_all(signal.SIGCONT)
    await lab.cluster.served("realm1", second_proxy, 60)


async def test_a_router_killed_in_the_middle_of_its_return_is_repaired_after_the_next(lab):
    for delay_s in (0.3, 1.2, 1.8, 2.4):
        process = await lab.cluster.move(lab.router1, lab.host())
        await asyncio.sleep(delay_s)  # the moment of the kill is what is varied, nothing is waited for
        assert process.running
    await lab.cluster.move(lab.router1, lab.host())
    await lab.served_again("realm1", time.monotonic())


async def test_a_router_worker_that_dies_alone_is_started_again(lab):
    await lab.served_again("realm1", time.monotonic())
    worker = await lab.cluster.call("crossbarfabriccenter.remote.node.get_worker", lab.router1.oid, "group_realm1_1")
    os.kill(worker["pid"], signal.SIGKILL)
    await lab.served_again("realm1", time.monotonic() + 0.5, within_s=40)
    again = await lab.cluster.call("crossbarfabriccenter.remote.node.get_worker", lab.router1.oid, "group_realm1_1")
    assert again["pid"] != worker["pid"]


async def test_a_node_with_the_variable_unset_keeps_its_record(lab):
    at = (await lab.cluster.record(lab.router1))["cluster_ip"]
    await lab.cluster.move(lab.router1, lab.router1.host, None)
    await lab.served_again("realm1", time.monotonic())
    assert (await lab.cluster.record(lab.router1))["cluster_ip"] == at


@pytest.mark.parametrize("call", ["repoint_proxy_connection", "stop_proxy_connection"])
async def test_a_proxy_refuses_what_makes_no_sense_and_goes_on(lab, call):
    workers = await lab.cluster.call("crossbarfabriccenter.remote.node.get_workers", lab.proxy1.oid)
    procedure = f"crossbarfabriccenter.node.proxy1.worker.{workers[0]}.{call}"
    with pytest.raises(Exception, match="no_such_object"):
        await lab.cluster.call(procedure, "cnc_nobody_nothing", *([{}] if call.startswith("repoint") else []))
    if call.startswith("repoint"):
        for config in ({}, {"transport": {"endpoint": {"host": "a b", "port": 1}}}, None, 7):
            with pytest.raises(Exception, match="invalid_configuration"):
                await lab.cluster.call(procedure, "cnc_router1_group_realm1_1", config)
    await lab.served_again("realm1", time.monotonic())
