"""A proxy that is out of file descriptors keeps those who are joined, says what is lacking, and blames no router."""

import asyncio
import contextlib
import json
import resource
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import pytest_asyncio

from crossbar_cluster.core.descriptors import raised
from crossbar_cluster.lab.cluster import PROXY_PORT, loopback_cluster
from crossbar_cluster.lab.host import LoopbackHost

from .conftest import PATCHED, boot_two_realms, until

LIMIT = 256
CLIENTS = 20
STRANGERS = 400
#: A backend that is not heard of is looked at each 3 s, and given up after two looks.
LOOK_ON_S = 12.0
HEALTH_PORT = 7070


@dataclass(frozen=True)
class PoorHost(LoopbackHost):
    """A host whose processes may have few descriptors open."""

    def command(self, argv: list[str]) -> list[str]:
        return ["sh", "-c", f'ulimit -n {LIMIT}; exec "$@"', "sh", *argv]


@dataclass(frozen=True)
class ModestHost(LoopbackHost):
    """A host whose processes begin with few, and may have more."""

    def command(self, argv: list[str]) -> list[str]:
        return ["sh", "-c", f'ulimit -S -n {LIMIT}; exec "$@"', "sh", *argv]


@pytest_asyncio.fixture(scope="module")
async def poor(tmp_path_factory):
    """Two routers with a realm each, and a proxy with few descriptors."""
    async with loopback_cluster(tmp_path_factory.mktemp("poor"), patched=PATCHED) as (cluster, network):
        router1 = cluster.add_node("router1", ModestHost(network.host().address, network))
        cluster.add_node("router2", PoorHost(network.host().address, network))
        proxy = cluster.add_node("proxy1", PoorHost(network.host().address, network))
        for node in (proxy, router1):
            node.settings["CROSSBAR_HEALTH_PORT"] = str(HEALTH_PORT)
        await boot_two_realms(cluster)
        yield cluster


async def probe(proxy, path: str) -> tuple[int, str]:
    def ask() -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://{proxy.host.address}:{HEALTH_PORT}/{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as e:
            return e.code, e.read().decode()

    return await asyncio.to_thread(ask)


@contextlib.asynccontextmanager
async def strangers_at(address: str, port: int):
    """Connections that say nothing. Those that are refused are closed at once."""
    writers = []
    for _ in range(STRANGERS):
        with contextlib.suppress(OSError):
            writers.append((await asyncio.open_connection(address, port))[1])
    try:
        yield
    finally:
        for writer in writers:
            writer.close()


async def metrics(proxy) -> Callable[[str], float]:
    """A metric's sum over all processes of the node, by its name."""
    _, text = await probe(proxy, "metrics")
    lines = [line.rpartition(" ") for line in text.splitlines() if not line.startswith("#")]

    def total(name: str) -> float:
        return sum(float(value) for what, _, value in lines if what.startswith(f"crossbar_cluster_{name}{{"))

    return total


async def test_strangers_take_no_descriptors_from_those_who_are_joined(poor):
    """Those who say nothing are closed, the oldest first, before they can take the descriptors of others."""
    proxy = poor.nodes["proxy1"]
    clients = await asyncio.gather(*(poor.client("realm1", proxy, 10) for _ in range(CLIENTS)))
    async with strangers_at(proxy.host.address, PROXY_PORT):
        filled = time.monotonic()
        clients.append(await poor.client("realm1", proxy, 10))  # who comes now is served
        await asyncio.sleep(max(0.0, filled + LOOK_ON_S - time.monotonic()))  # that nothing happens is seen by waiting
        await all_stay(poor, proxy, clients)
        assert (await probe(proxy, "readyz"))[0] == 200
        assert (await metrics(proxy))("newcomers_closed_total") >= STRANGERS - LIMIT
    for client in clients:
        await client.close()


async def test_more_clients_than_there_are_descriptors_for_take_nothing_from_those_who_are_joined(poor):
    proxy = poor.nodes["proxy1"]
    mark = proxy.running.mark()
    clients = []
    with pytest.raises(ConnectionError):  # it is closed as it comes
        while len(clients) < LIMIT:
            clients.append(await poor.client("realm1", proxy, 10))
    assert len(clients) > LIMIT / 4
    await asyncio.sleep(LOOK_ON_S)  # that nothing happens is seen by waiting
    await all_stay(poor, proxy, clients)
    told = proxy.running.find("File descriptors run short", since=mark)
    assert len(told) == 1 and str(LIMIT) in told[0].text, [line.text for line in told]
    status, document = await probe(proxy, "readyz")
    assert status == 503 and any("descriptors" in m for m in json.loads(document)["missing"]), document
    numbers = await metrics(proxy)
    assert numbers("connections_refused_total") >= 1
    assert numbers("descriptors_limit") == 2 * LIMIT, "of the controller and the worker"
    for client in clients:
        await client.close()

    async def is_ready() -> bool:
        return (await probe(proxy, "readyz"))[0] == 200

    await until(is_ready, 15)
    await poor.served("realm1", proxy, 15)


async def all_stay(cluster, proxy, clients) -> None:
    lost = sum(client.gone.done() for client in clients)
    assert lost == 0, f"{lost} of {len(clients)} are lost: {proxy.running.find('is lost')}"
    counts = await asyncio.gather(*(client.call("wamp.session.count") for client in clients))
    assert counts == [len(clients)] * len(clients)


async def test_strangers_at_a_routers_inner_port_take_nothing_from_its_clients(poor):
    router, proxy = poor.nodes["router2"], poor.nodes["proxy1"]
    clients = await asyncio.gather(*(poor.client("realm2", proxy, 10) for _ in range(CLIENTS)))
    port = next(w["port"] for w in (await poor.status())["workers"] if w["node"] == "router2")
    async with strangers_at(router.host.address, port):
        await asyncio.sleep(LOOK_ON_S)  # that nothing happens is seen by waiting
        lost = sum(client.gone.done() for client in clients)
        assert lost == 0, f"{lost} of {CLIENTS} are lost"
        assert await asyncio.gather(*(client.call("wamp.session.count") for client in clients)) == [CLIENTS] * CLIENTS
    await poor.served("realm2", proxy, 15)
    for client in clients:
        await client.close()


async def test_every_process_takes_what_it_may_have(poor):
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert hard > LIMIT, "else there is nothing to be seen here"
    total = await metrics(poor.nodes["router1"])
    assert total("descriptors_limit") == 2 * raised(LIMIT, hard), "controller and worker"


async def test_a_proxy_tells_how_many_clients_there_is_room_for(poor):
    proxy = poor.nodes["proxy1"]
    assert proxy.running.find(f"Room for about .* clients: {LIMIT} file descriptors")
    worker = next(w for w in (await poor.status())["workers"] if w["node"] == "proxy1")
    assert 40 <= worker["most_clients"] <= LIMIT / 2
