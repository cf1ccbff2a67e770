"""A router comes back somewhere else, and clients behind the proxy are served again with nothing restarted by hand."""

import asyncio
import socket
import time

import pytest


@pytest.mark.parametrize("gently", [False, True], ids=["SIGKILL", "SIGTERM"])
async def test_another_address(lab, gently):
    was = lab.router1.host.address
    mark = lab.cluster.master.running.mark()
    await lab.cluster.move(lab.router1, lab.host(), gently=gently)
    await lab.served_again("realm1", time.monotonic())
    now = lab.router1.host.address
    record = await lab.cluster.record(lab.router1)
    assert record["cluster_ip"] == now
    assert record["authextra"]["cluster_ip"] == now
    changed = lab.cluster.master.running.find("cluster IP changed", since=mark)
    expected = f"Node router1 cluster IP changed from {was} to {now} - updating database during authentication"
    assert len(changed) == 1
    assert changed[0].text.endswith(expected)
    assert expected in changed[0].raw, "colour codes inside"


async def test_the_same_address(lab):
    await lab.follows("realm1", lab.router1, lab.router1.host)


async def test_a_connected_client_of_another_router_notices_nothing(lab):
    client = await lab.cluster.client("realm2", lab.proxy1)
    await client.register(lambda x: x + 1, "test.undisturbed")
    await lab.follows("realm1", lab.router1, lab.host())
    assert await asyncio.wait_for(client.call("test.undisturbed", 1), 5) == 2
    await client.close()


async def test_the_listening_port_moves_too(lab):
    host = lab.host()
    with socket.create_server((host.address, 10000)):  # somebody else's
        await lab.cluster.move(lab.router1, host)
        await lab.served_again("realm1", time.monotonic())
    assert await proxy_connection(lab, "router1") == (host.address, 10001)


async def test_the_port_alone_moves(lab):
    host = lab.host()
    await lab.follows("realm1", lab.router1, host)
    assert await proxy_connection(lab, "router1") == (host.address, 10000)
    await lab.router1.running.kill()
    with socket.create_server((host.address, 10000)):  # somebody else's
        await lab.follows("realm1", lab.router1, host)
    assert await proxy_connection(lab, "router1") == (host.address, 10001)


async def test_a_host_name_that_resolves_to_another_address(lab):
    host = lab.host()
    lab.network.name("router1.lab", host.address)
    await lab.follows("realm1", lab.router1, host, "router1.lab")
    host = lab.host()
    lab.network.name("router1.lab", host.address)
    await lab.follows("realm1", lab.router1, host, "router1.lab")
    assert (await lab.cluster.record(lab.router1))["cluster_ip"] == "router1.lab"


async def test_a_host_name_as_docker_compose_gives_it(lab):
    host = lab.host()
    lab.network.name("crossbar_router_realm1", host.address)
    await lab.follows("realm1", lab.router1, host, "crossbar_router_realm1")
    assert (await lab.cluster.record(lab.router1))["cluster_ip"] == "crossbar_router_realm1"


async def test_another_host_name(lab):
    for name in ("router-a.lab", "router-b.lab"):
        host = lab.host()
        lab.network.name(name, host.address)
        await lab.follows("realm1", lab.router1, host, name)
        assert (await lab.cluster.record(lab.router1))["cluster_ip"] == name


async def test_two_routers_swap_addresses(lab):
    host1, host2 = lab.host(), lab.host()
    await lab.follows("realm1", lab.router1, host1)
    await lab.follows("realm2", lab.router2, host2)
    await asyncio.gather(lab.router1.running.kill(), lab.router2.running.kill())
    await lab.cluster.move(lab.router1, host2)
    await lab.cluster.move(lab.router2, host1)
    since = time.monotonic()
    await asyncio.gather(lab.served_again("realm1", since), lab.served_again("realm2", since))
    for realm, router in (("realm1", "router1"), ("realm2", "router2")):
        client = await lab.cluster.client(realm, lab.proxy1)
        assert client.joined.result().authextra["x_cb_node"] == router
        await client.close()


async def test_two_realms_on_one_router_worker(lab):
    await lab.cluster.start_realm_on("realm1b", lab.realm1.workergroup)
    await lab.cluster.served("realm1b", lab.proxy1)
    mark = lab.cluster.master.running.mark()
    await lab.cluster.move(lab.router1, lab.host())
    since = time.monotonic()
    await asyncio.gather(lab.served_again("realm1", since), lab.served_again("realm1b", since))
    assert not lab.cluster.master.running.find("will try again", since=mark), "two realms in each other's way"


async def test_ten_times_in_a_row(lab):
    took = []
    for _ in range(10):
        await lab.cluster.move(lab.router1, lab.host())
        took.append(await lab.served_again("realm1", time.monotonic()))
    print("seconds from process start to the first answered call:", " ".join(f"{s:.1f}" for s in took))


async def test_both_move_while_the_master_is_down(lab):
    await lab.cluster.master.running.kill()
    await lab.cluster.move(lab.router1, lab.host())
    await lab.cluster.start_master()
    await lab.served_again("realm1", time.monotonic(), within_s=60)
    await lab.served_again("realm2", time.monotonic(), within_s=60)
    assert (await lab.cluster.record(lab.router1))["cluster_ip"] == lab.router1.host.address


async def proxy_connection(lab, router):
    """Where the proxy's connection to ``router`` points, by the proxy's own word."""
    group = {"router1": "group_realm1_1", "router2": "group_realm2_1"}[router]
    workers = await lab.cluster.call("crossbarfabriccenter.remote.node.get_workers", lab.proxy1.oid)
    connection = await lab.cluster.call(
        "crossbarfabriccenter.remote.proxy.get_proxy_connection", lab.proxy1.oid, workers[0], f"cnc_{router}_{group}"
    )
    endpoint = connection["config"]["transport"]["endpoint"]
    return endpoint["host"], endpoint["port"]
