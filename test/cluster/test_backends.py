"""A client that connects, or whose router dies, gets a true answer at once, and never the wrong router."""

import asyncio
import contextlib
import json
import signal
import time

import pytest
import pytest_asyncio
from autobahn.wamp import message
from autobahn.wamp.exception import ApplicationError
from autobahn.wamp.serializer import CBORSerializer

from crossbar_cluster.lab.client import Client, JoinFailed
from crossbar_cluster.lab.cluster import Cluster, loopback_cluster
from crossbar_cluster.lab.namespaces import NamespaceNetwork, available
from crossbar_cluster.lab.raw_client import RawClient, anonymous

from .conftest import PATCHED, boot_two_realms

CLIENTS = 200
TOLD_S = 5.0  # it takes a tenth of that on an idle machine
WAIT_S = 5.0  # of the proxy, for a backend


@pytest_asyncio.fixture(scope="module")
async def two(tmp_path_factory):
    """Two routers with a realm each, and a proxy."""
    async with loopback_cluster(tmp_path_factory.mktemp("backends"), patched=PATCHED) as (cluster, network):
        for name in ("router1", "router2", "proxy1"):
            cluster.add_node(name, network.host())
        await boot_two_realms(cluster, {"call": {"type": "caller", "realm": "realm1", "role": "anonymous"}})
        yield cluster, network


async def crowd(cluster: Cluster, realm: str, count: int) -> list[Client]:
    """So many clients of a realm, joined through proxy1."""
    proxy, clients = cluster.nodes["proxy1"], []
    for _ in range(0, count, 20):
        clients += await asyncio.gather(*(cluster.client(realm, proxy, 20.0) for _ in range(20)))
    return clients


async def backends(cluster: Cluster) -> dict[str, dict]:
    """How proxy1's backends are, by the name of their router node."""
    worker = next(w["worker"] for w in (await cluster.status())["workers"] if w["node"] == "proxy1")
    found = await cluster.call(f"crossbarfabriccenter.node.proxy1.worker.{worker}.get_proxy_backends")
    return {connection_id.split("_")[1]: backend for connection_id, backend in found.items()}


async def backend_is(cluster: Cluster, router: str, state: str, within_s: float = 15.0) -> dict:
    """Wait until a backend is in a state."""
    deadline = time.monotonic() + within_s
    while (found := (await backends(cluster))[router])["state"] != state:
        assert time.monotonic() < deadline, f"{router} is not {state} within {within_s:g} s: {found}"
        await asyncio.sleep(0.1)
    return found


async def test_every_client_of_a_dead_router_is_told_and_served_again(two):
    cluster, network = two
    clients = await crowd(cluster, "realm1", CLIENTS)
    others = await crowd(cluster, "realm2", 20)
    assert (await backends(cluster))["router1"] == {"state": "up", "problem": "", "clients": CLIENTS}
    died = time.monotonic()
    await cluster.move(cluster.nodes["router1"], network.host())
    async with asyncio.timeout(TOLD_S):
        await asyncio.gather(*(client.gone for client in clients))
    print(f"{CLIENTS} clients were told within {time.monotonic() - died:.2f} s")
    await cluster.served("realm1", cluster.nodes["proxy1"], 30)
    served = time.monotonic()
    clients = await crowd(cluster, "realm1", CLIENTS)
    print(f"{CLIENTS} clients were served again within {time.monotonic() - served:.2f} s after the first")
    assert not any(client.gone.done() for client in others), "clients of another router notice nothing"
    assert await others[0].call("wamp.session.count") >= 20
    for client in clients + others:
        await client.close()


async def test_a_call_in_flight_is_answered(two):
    """By an error, before the connection closes: silence would be waited for."""
    cluster, _ = two
    callee, caller = await crowd(cluster, "realm1", 20), await crowd(cluster, "realm1", 20)
    called = asyncio.Event()

    async def endless() -> None:
        called.set()
        await asyncio.get_running_loop().create_future()

    await callee[0].register(endless, "test.endless")
    calling = asyncio.ensure_future(caller[0].call("test.endless"))
    await called.wait()
    await cluster.nodes["router1"].running.kill()
    with pytest.raises(ApplicationError) as answered:
        async with asyncio.timeout(TOLD_S):
            await calling
    assert answered.value.error == "wamp.error.canceled"
    assert "router1" in str(answered.value), "which backend it was"
    async with asyncio.timeout(TOLD_S):
        await asyncio.gather(*(client.gone for client in callee + caller))
    await cluster.start(cluster.nodes["router1"])
    await cluster.served("realm1", cluster.nodes["proxy1"], 30)


async def test_a_client_that_comes_while_no_router_is_up(two):
    """It is served when one comes soon, else it is told so after 5 s: never later, and not that the realm is none."""
    cluster, _ = two
    router, proxy = cluster.nodes["router1"], cluster.nodes["proxy1"]
    mark = proxy.running.mark()
    await router.running.kill()
    await backend_is(cluster, "router1", "suspect")
    began = time.monotonic()
    with pytest.raises(JoinFailed) as refused:
        await cluster.client("realm1", proxy, 20.0)
    took = time.monotonic() - began
    assert refused.value.refusal == "wamp.error.unavailable", refused.value
    assert WAIT_S - 0.5 < took < WAIT_S + 3.0, took
    await cluster.start(router)
    served = await asyncio.gather(*(arrives(cluster, proxy) for _ in range(5)))
    for client in served:
        await client.close()
    assert not proxy.running.find("Traceback", since=mark)
    assert proxy.running.find("is turned away: no router of realm realm1 can be reached now", since=mark)


async def arrives(cluster: Cluster, proxy) -> Client:
    """A client that comes back whenever it is turned away."""
    async with asyncio.timeout(30):
        while True:
            with contextlib.suppress(JoinFailed):
                return await cluster.client("realm1", proxy, 10.0)


class Impostor:
    """Listens where a router worker was, and lets everybody in who comes, as whoever they want to be."""

    def __init__(self, node: str, worker: str) -> None:
        self._names = {"x_cb_node": node, "x_cb_worker": worker}
        self.let_in = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serializer = CBORSerializer()
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            await reader.readexactly(4)
            writer.write(bytes([0x7F, 0xF0 | serializer.RAWSOCKET_SERIALIZER_ID, 0, 0]))
            while True:
                length = int.from_bytes(await reader.readexactly(4), "big")
                for said in serializer.unserialize(await reader.readexactly(length)):
                    if isinstance(said, message.Hello):
                        self.let_in += 1
                        payload, _ = serializer.serialize(self._welcome(said))
                        writer.write(len(payload).to_bytes(4, "big") + payload)
        writer.close()

    def _welcome(self, hello: message.Hello) -> message.Welcome:
        from autobahn.wamp.role import RoleBrokerFeatures, RoleDealerFeatures

        roles = {"broker": RoleBrokerFeatures(), "dealer": RoleDealerFeatures()}
        forwarded = hello.authextra
        return message.Welcome(
            4711,
            roles,
            realm=hello.realm,
            authid=forwarded["proxy_authid"],
            authrole=forwarded["proxy_authrole"],
            authmethod="cryptosign-proxy",
            authextra=self._names,
        )


async def leave_port_of_router1(cluster: Cluster) -> tuple[str, str, int]:
    """Kill router1. :returns: its worker, and where that listened."""
    router = cluster.nodes["router1"]
    worker = next(w for w in (await cluster.status())["workers"] if w["node"] == "router1")
    await router.running.kill()
    return worker["worker"], router.host.address, worker["port"]


async def test_nobody_is_attached_to_a_server_that_lets_everybody_in(two):
    cluster, network = two
    router, proxy = cluster.nodes["router1"], cluster.nodes["proxy1"]
    mark = proxy.running.mark()
    worker, address, port = await leave_port_of_router1(cluster)
    impostor = Impostor("router1", worker)
    async with await asyncio.start_server(impostor.serve, address, port):
        line = await proxy.running.line("does not prove|without having proven", since=mark, timeout_s=10)
        assert "router1" in line.text
        attempts = await asyncio.gather(
            *(cluster.client("realm1", proxy, 20.0) for _ in range(10)), return_exceptions=True
        )
        assert impostor.let_in > 0, "it was there"
        assert all(isinstance(a, JoinFailed) for a in attempts), "whoever is attached here is attached to the impostor"
        await cluster.move(router, network.host())
        await cluster.served("realm1", proxy, 30)


async def test_nobody_is_attached_to_another_router_of_the_cluster(two):
    """It answers where the one that is meant is said to be."""
    cluster, network = two
    router1, router2, proxy = (cluster.nodes[name] for name in ("router1", "router2", "proxy1"))
    workers = {w["node"]: w for w in (await cluster.status())["workers"]}
    prefix = f"crossbarfabriccenter.node.proxy1.worker.{workers['proxy1']['worker']}"
    connection_id = f"cnc_router1_{workers['router1']['worker']}"
    await router1.running.kill()
    await backend_is(cluster, "router1", "suspect")
    config = (await cluster.call(f"{prefix}.get_proxy_connection", connection_id))["config"]
    config["transport"]["endpoint"].update(host=router2.host.address, port=workers["router2"]["port"])
    await cluster.call(f"{prefix}.repoint_proxy_connection", connection_id, config)
    found = await backend_is(cluster, "router1", "suspect")
    deadline = time.monotonic() + 15
    while "realm1" not in found["problem"] and "prove" not in found["problem"]:
        assert time.monotonic() < deadline, found
        await asyncio.sleep(0.1)
        found = (await backends(cluster))["router1"]
    with pytest.raises(JoinFailed):
        await cluster.client("realm1", proxy, 20.0)
    await cluster.move(router1, network.host())
    await cluster.served("realm1", proxy, 30)
    client = await cluster.client("realm1", proxy)
    assert (await client.joined).authextra["x_cb_node"] == "router1"
    await client.close()


async def test_a_new_proxy_does_not_claim_that_a_realm_is_none(two):
    """Its worker begins anew; clients knock from the first moment on. None is told what is not true."""
    cluster, _ = two
    proxy = cluster.nodes["proxy1"]
    await proxy.running.kill()
    await cluster.start(proxy)
    async with asyncio.timeout(60):
        while True:
            try:
                client = await cluster.client("realm1", proxy, 20.0)
                break
            except JoinFailed as e:
                assert e.refusal is None, f"only that nobody listens yet: {e}"
                await asyncio.sleep(0.01)
    await client.close()
    with pytest.raises(JoinFailed) as refused:
        await cluster.client("nowhere", proxy, 20.0)
    assert refused.value.refusal == "wamp.error.no_such_realm"


async def test_a_router_that_hangs_is_given_up_and_taken_again(two):
    cluster, _ = two
    router = cluster.nodes["router1"]
    clients = await crowd(cluster, "realm1", 20)
    router.running.signal_all(signal.SIGSTOP)
    try:
        began = time.monotonic()
        async with asyncio.timeout(20):
            await asyncio.gather(*(client.gone for client in clients))
        print(f"20 clients of a router that hangs were told after {time.monotonic() - began:.1f} s")
    finally:
        router.running.signal_all(signal.SIGCONT)
    await cluster.served("realm1", cluster.nodes["proxy1"], 20)


@pytest.mark.skipif(available() is not None, reason=str(available()))
@pytest.mark.slow
async def test_clients_of_a_router_that_is_cut_off_are_told(tmp_path):
    network = NamespaceNetwork()
    try:
        master, client_host = network.host(), network.host()
        async with Cluster(tmp_path, master, client_host, PATCHED) as cluster:
            router, proxy = (cluster.add_node(name, network.host()) for name in ("router1", "proxy1"))
            await cluster.boot()
            await cluster.start_webcluster(proxy)
            await cluster.start_realm("realm1", router)
            await cluster.served("realm1", proxy)
            clients = await crowd(cluster, "realm1", CLIENTS)
            cut = time.monotonic()
            router.host.link(up=False)
            async with asyncio.timeout(20):
                await asyncio.gather(*(client.gone for client in clients))
            print(f"{CLIENTS} clients were told {time.monotonic() - cut:.1f} s after the link was cut")
            router.host.link(up=True)
            await cluster.served("realm1", proxy, 30)
    finally:
        network.close()


async def post(cluster: Cluster, procedure: str) -> str:
    """Call a procedure of realm1 over HTTP, through proxy1's bridge. :returns: the status line and the body."""
    proxy = cluster.nodes["proxy1"]
    sock = await cluster.client_host.connect(proxy.host.address, 8080)
    reader, writer = await asyncio.open_connection(sock=sock)
    body = json.dumps({"procedure": procedure})
    writer.write(
        f"POST /call HTTP/1.1\r\nHost: {proxy.host.address}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}".encode()
    )
    async with asyncio.timeout(20):
        answer = (await reader.read()).decode()
    writer.close()
    return answer


async def test_the_proxys_own_sessions_follow_their_router(two):
    """Those of its HTTP bridge, which the release keeps for ever, dead or not."""
    cluster, network = two
    proxy = cluster.nodes["proxy1"]
    for _ in range(2):
        callee = await cluster.client("realm1", proxy)
        await callee.register(lambda: "over HTTP", "test.bridged")
        assert "over HTTP" in await post(cluster, "test.bridged")
        await cluster.move(cluster.nodes["router1"], network.host())
        await cluster.served("realm1", proxy, 30)


async def test_one_connection_gets_one_session(two):
    """However often it says HELLO: each session is a connection to the router, and costs it something."""
    cluster, _ = two
    client = await RawClient.connect(cluster.nodes["proxy1"].host.address, 8080, websocket=True)
    before = (await backends(cluster))["router1"]["clients"]
    for _ in range(5):
        client.send(anonymous("realm1"))
    with pytest.raises((EOFError, ConnectionError)):
        async with asyncio.timeout(10):
            while True:
                await client.receive()
    deadline = time.monotonic() + 10
    while (await backends(cluster))["router1"]["clients"] > before:
        assert time.monotonic() < deadline, "a session is left behind"
        await asyncio.sleep(0.1)


async def test_a_port_that_closes_at_once_is_no_router(two):
    """As a load balancer's without anything behind it: a client does not wait for its session there."""
    cluster, network = two
    router, proxy = cluster.nodes["router1"], cluster.nodes["proxy1"]
    _, address, port = await leave_port_of_router1(cluster)
    async with await asyncio.start_server(lambda reader, writer: writer.close(), address, port):
        found = await backend_is(cluster, "router1", "suspect")
        assert "closed" in found["problem"] or "lost" in found["problem"], found
        await cluster.move(router, network.host())
        await cluster.served("realm1", proxy, 30)


async def test_a_message_that_cannot_be_passed_on_costs_nobody_a_session(two):
    """A client's JSON and a router's CBOR cannot say the same."""
    cluster, _ = two
    proxy = cluster.nodes["proxy1"]
    says_json = await RawClient.connect(proxy.host.address, 8080, websocket=True, json=True)
    await says_json.join(anonymous("realm1"))
    says_cbor = await cluster.client("realm1", proxy)
    await says_cbor.register(lambda x: {b"bytes": "as a key"}, "test.unsayable")

    says_json.send_payload(b'[48,1,{},"test.unsayable",["\\ud800"]]')
    async with asyncio.timeout(10):
        refused = await says_json.receive()
    assert (refused.request, refused.error) == (1, "wamp.error.invalid_argument")
    failed = await says_json.ask(message.Call(2, "test.unsayable", args=["a"]))
    assert (failed.request, failed.error) == (2, "wamp.error.invalid_argument")

    assert (await says_json.ask(message.Call(3, "wamp.session.count"))).args[0] >= 2
    assert await says_cbor.call("test.unsayable", "a") == {b"bytes": "as a key"}
    says_json.close()
    await says_cbor.close()
