"""A router in a fresh network namespace, which is what a rescheduled pod gets: by address, by host name, by IPv6."""

import pytest
import pytest_asyncio

from crossbar_cluster.core.router import LISTENING_PORTS
from crossbar_cluster.lab.cluster import Cluster
from crossbar_cluster.lab.namespaces import NamespaceNetwork, available

from .conftest import PATCHED, RECOVERY_S

pytestmark = pytest.mark.skipif(available() is not None, reason=str(available()))


@pytest_asyncio.fixture(scope="module")
async def pods(tmp_path_factory):
    """A cluster with each node in a network namespace of its own, and its network."""
    network = NamespaceNetwork()
    try:
        master, client, router, proxy = (network.host() for _ in range(4))
        async with Cluster(tmp_path_factory.mktemp("pods"), master, client, PATCHED) as cluster:
            cluster.add_node("router1", router)
            cluster.add_node("proxy1", proxy)
            await cluster.boot()
            await cluster.start_webcluster(cluster.nodes["proxy1"])
            await cluster.start_realm("realm1", cluster.nodes["router1"])
            await cluster.served("realm1", cluster.nodes["proxy1"])
            yield cluster, network
    finally:
        network.close()


async def reschedule(pods, host, cluster_ip=""):
    """Kill the router, take its namespace away, start it in another; see that a client is served."""
    cluster, network = pods
    router = cluster.nodes["router1"]
    gone = router.host
    await cluster.move(router, host, cluster_ip)
    network.remove(gone)
    await cluster.served("realm1", cluster.nodes["proxy1"], RECOVERY_S)
    record = await cluster.record(router)
    assert record["cluster_ip"] == record["authextra"]["cluster_ip"] == router.cluster_ip


async def test_by_address(pods):
    for _ in range(2):
        await reschedule(pods, pods[1].host())


@pytest.mark.parametrize("ipv6", [False, True], ids=["ipv4", "ipv6"])
async def test_the_router_listens_at_its_address_only(pods, ipv6):
    host = pods[1].host(ipv6=ipv6)
    await reschedule(pods, host)
    port = LISTENING_PORTS[0]
    (await host.connect(host.address, port)).close()
    for address in ("127.0.0.1", "::1"):
        with pytest.raises(ConnectionRefusedError):
            (await host.connect(address, port)).close()


async def test_by_host_name(pods):
    for _ in range(2):
        host = pods[1].host()
        pods[1].name("router1.pods", host.address)
        await reschedule(pods, host, "router1.pods")


async def test_by_another_host_name(pods):
    for name in ("router-a.pods", "router-b.pods"):
        host = pods[1].host()
        pods[1].name(name, host.address)
        await reschedule(pods, host, name)


async def test_by_ipv6_address(pods):
    for _ in range(2):
        host = pods[1].host(ipv6=True)
        assert ":" in host.address
        await reschedule(pods, host)


async def test_from_ipv6_to_ipv4(pods):
    await reschedule(pods, pods[1].host(ipv6=True))
    await reschedule(pods, pods[1].host())
