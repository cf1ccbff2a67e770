"""What the key of one node is good for: its own node, as long as that is paired. And nothing of others."""

import asyncio
import json

import pytest
import pytest_asyncio
from autobahn.wamp import message
from autobahn.wamp.exception import ApplicationError
from autobahn.wamp.types import PublishOptions, RegisterOptions
from nacl.signing import VerifyKey

from crossbar_cluster.lab.client import Client, JoinFailed, join
from crossbar_cluster.lab.cluster import MASTER_PORT, PROXY_PORT, Cluster, Node, loopback_cluster

from .conftest import PATCHED, RECOVERY_S, command, until
from .group import slow_call

CHALLENGE = ("cryptosign", {"challenge": "ab" * 32, "channel_binding": None}, None, None)
OUT_WITHIN_S = 2.0
#: A node that waits for its pairing tries every 5 s at least.
BACK_WITHIN_S = 10.0

#: Runs in a worker of a node, and has the node's key sign for it.
OWN_WORKER = """
from autobahn.twisted.wamp import ApplicationSession

class Signing(ApplicationSession):
    async def onJoin(self, details):
        await self.register(self.sign, "lab.sign")
        await self.register(self.sign_challenge, "lab.sign_challenge")

    def sign(self, data):
        return self.config.controller.call("crossbar.sign", data)

    def sign_challenge(self, *challenge):
        return self.config.controller.call("crossbar.sign_challenge", *challenge)
"""


class Rig:
    """Two routers that one realm may run on, two proxies, and a node that is paired and never started."""

    def __init__(self, cluster: Cluster, network) -> None:
        self.cluster, self.network = cluster, network
        names = ("router1", "router2", "proxy1", "proxy2")
        self.router1, self.router2, self.proxy1, self.proxy2 = (cluster.add_node(n, network.host()) for n in names)
        self.spare = Node("spare", network.host(), cluster.watched / "spare", PATCHED)

    async def configure(self) -> None:
        cluster = self.cluster
        await cluster.make_key(self.spare)
        await cluster.boot()
        await cluster.start_webcluster(self.proxy1, self.proxy2)
        await cluster.start_realm("realm1", self.router1)
        for proxy in (self.proxy1, self.proxy2):
            await cluster.served("realm1", proxy)
        self.owner = await join(
            cluster.client_host, cluster.master.host.address, MASTER_PORT, "com.crossbario.fabric",
            **cluster.superuser(),
        )  # fmt: skip

    async def unpair(self, node: Node) -> None:
        async with asyncio.timeout(5):
            await self.owner.call("crossbarfabriccenter.mrealm.unpair_node", node.oid)

    async def pair(self, node: Node) -> None:
        async with asyncio.timeout(5):
            key = self.cluster.node_key(node).public_key()
            await self.owner.call("crossbarfabriccenter.mrealm.pair_node", key, "default", node.name)

    async def placement(self) -> str:
        """The node that the realm's router worker is placed on."""
        (placed,) = (await self.cluster.status())["groups"][0]["placements"]
        return placed["node"]


@pytest_asyncio.fixture(scope="module")
async def rig(tmp_path_factory):
    async with loopback_cluster(tmp_path_factory.mktemp("rights"), patched=PATCHED) as (cluster, network):
        it = Rig(cluster, network)
        await it.configure()
        yield it
        await it.owner.close()


async def join_as(cluster: Cluster, node: Node, key=None) -> Client:
    """A management session with the key of ``node``, as whoever has it gets one."""
    return await join(
        cluster.client_host, cluster.master.host.address, MASTER_PORT, None,
        key=key or cluster.node_key(node), authrole="node",
    )  # fmt: skip


async def refused(awaitable, error: str) -> None:
    with pytest.raises(ApplicationError) as it:
        async with asyncio.timeout(5):
            await awaitable
    assert it.value.error == error


def verified(node_key, signature: str | bytes) -> bool:
    """Whether a signature of `CHALLENGE` is of that key."""
    raw = signature if isinstance(signature, bytes) else bytes.fromhex(signature)
    return VerifyKey(bytes.fromhex(node_key.public_key())).verify(raw[:64] + raw[64:]) == bytes.fromhex("ab" * 32)


# -- signatures -----------------------------------------------------------------------------------------------------


async def test_the_release_signs_for_whoever_has_a_nodes_key_and_a_patched_node_does_not(tmp_path):
    """Under a released master, which lets nodes call whatever they like."""
    async with loopback_cluster(tmp_path, patched=False) as (cluster, network):
        cluster.add_node("released", network.host())
        cluster.add_node("patched", network.host(), patched=PATCHED)
        cluster.add_node("thief", network.host())
        await cluster.boot()
        thief = await join_as(cluster, cluster.nodes["thief"])
        key = cluster.node_key(cluster.nodes["released"])
        assert verified(key, await thief.call("crossbarfabriccenter.node.released.sign_challenge", *CHALLENGE))
        await thief.call("crossbarfabriccenter.node.patched.get_status")
        for procedure, args in (("sign", (b"data",)), ("sign_challenge", CHALLENGE)):
            uri = f"crossbarfabriccenter.node.patched.{procedure}"
            await refused(thief.call(uri, *args), "wamp.error.no_such_procedure")
        await thief.close()


async def test_nobody_on_the_master_gets_a_signature(rig):
    thief = await join_as(rig.cluster, rig.spare)
    for procedure, args in (("sign", (b"data",)), ("sign_challenge", CHALLENGE)):
        uri = f"crossbarfabriccenter.node.router1.{procedure}"
        await refused(thief.call(uri, *args), "wamp.error.not_authorized")
        await refused(rig.cluster.call(uri, *args), "wamp.error.no_such_procedure")
    await thief.close()


async def test_a_nodes_own_worker_gets_a_signature(rig, tmp_path):
    cluster, node = rig.cluster, rig.router1
    (tmp_path / "lab_signing.py").write_text(OWN_WORKER)
    prefix = f"crossbarfabriccenter.node.{node.name}."
    options = {"pythonpath": [str(tmp_path)], "expose_controller": True}
    await cluster.call(f"{prefix}start_worker", "signer", "container", options)
    try:
        await cluster.call(f"{prefix}worker.signer.add_pythonpath", [str(tmp_path)])
        transport = {
            "type": "websocket",
            "url": f"ws://{rig.proxy1.host.address}:{PROXY_PORT}/ws",
            "endpoint": {"type": "tcp", "host": rig.proxy1.host.address, "port": PROXY_PORT},
        }
        component = {"type": "class", "classname": "lab_signing.Signing", "realm": "realm1", "transport": transport}
        await cluster.call(f"{prefix}worker.signer.start_component", "signer1", component)
        client = await cluster.client("realm1", rig.proxy1)
        async with asyncio.timeout(10):
            while True:
                try:
                    signature = await client.call("lab.sign_challenge", *CHALLENGE)
                    break
                except ApplicationError as e:
                    assert e.error == "wamp.error.no_such_procedure", e
        assert verified(cluster.node_key(node), signature)
        assert len(await client.call("lab.sign", b"data")) == 64
        await client.close()
    finally:
        await cluster.call(f"{prefix}stop_worker", "signer")


# -- rights on the management realm ---------------------------------------------------------------------------------


async def test_a_node_acts_in_its_own_name_only(rig):
    cluster = rig.cluster
    since = cluster.master.running.mark()
    thief = await join_as(cluster, rig.spare)
    acknowledged = PublishOptions(acknowledge=True)
    other, denied = "crossbarfabriccenter.node.router1.", "wamp.error.not_authorized"
    by_prefix = RegisterOptions(match="prefix", force_reregister=True)
    for _ in range(2):
        await refused(thief.call(f"{other}start_worker", "w", "container"), denied)
        await refused(thief.call("crossbarfabriccenter.remote.node.get_status", rig.router1.oid), denied)
        await refused(thief.call("crossbarfabriccenter.mrealm.webcluster.stop_webcluster", cluster.webcluster), denied)
        await refused(thief.call("wamp.session.kill_by_authid", "router1"), denied)
        await refused(thief.register(lambda *a: None, other, options=by_prefix), denied)
        await refused(thief.register(lambda *a: None, "crossbarfabriccenter.node.", options=by_prefix), denied)
        await refused(thief.publish(f"{other}on_worker_gone", options=acknowledged), denied)
        await refused(thief.publish("crossbarfabriccenter.mrealm.on_x", options=acknowledged), denied)
        await refused(thief.subscribe(lambda *a: None, f"{other}on_worker_gone"), denied)
    line = await cluster.master.running.line(f"Node spare may not subscribe {other}on_worker_gone", since=since)
    assert "refused" in line.text
    lines = cluster.master.running.find("Node spare may not", since=since)
    assert len(lines) == 9, "once for each, however often it is tried"

    own = "crossbarfabriccenter.node.spare."
    await thief.register(lambda: "pong", f"{own}ping")
    assert await thief.call(f"{own}ping") == "pong"
    assert await cluster.call(f"{own}ping") == "pong"
    await thief.subscribe(lambda *a: None, f"{own}on_x")
    await thief.publish(f"{own}on_x", options=acknowledged)
    assert await thief.call("crossbarfabriccenter.mrealm.get_status")
    await thief.close()


async def test_nothing_that_nodes_do_is_refused(rig):
    """Heartbeats begin 5 s after a node has joined."""
    nodes = {node.name for node in rig.cluster.nodes.values()}
    heard = {}
    await rig.cluster.management.subscribe(
        lambda name, *args: heard.setdefault(name, args), "crossbarfabriccenter.node.on_worker_heartbeat"
    )

    async def all_heard():
        return nodes <= set(heard)

    await until(all_heard, 20)
    assert not rig.cluster.master.running.find("Node (router|proxy). may not")


# -- unpaired nodes -------------------------------------------------------------------------------------------------


class Late:
    """A node's key that does not answer a challenge before it is told to."""

    def __init__(self, key) -> None:
        self._key = key
        self.challenged = asyncio.Event()
        self.answer = asyncio.Event()

    def public_key(self) -> str:
        return self._key.public_key()

    async def _sign(self, challenge):
        await self.answer.wait()
        signature = self._key.sign_challenge(challenge)
        return await signature if asyncio.isfuture(signature) else signature

    def sign_challenge(self, challenge):
        self.challenged.set()
        return asyncio.ensure_future(self._sign(challenge))


async def test_nobody_stays_on_an_unpaired_router_even_if_no_other_can_serve(rig):
    """Its clients are told, nobody new is sent there; when it is paired again they are served again."""
    cluster = rig.cluster
    client, busy = [await cluster.client("realm1", rig.proxy1) for _ in range(2)]
    await slow_call(client, busy, 10 * RECOVERY_S)
    await rig.unpair(rig.router1)
    async with asyncio.timeout(OUT_WITHIN_S):
        await asyncio.gather(client.gone, busy.gone)
    assert not await cluster.sessions_of("router1")
    with pytest.raises(JoinFailed):
        await cluster.client("realm1", rig.proxy1, timeout_s=20.0)
    await rig.pair(rig.router1)
    await cluster.served("realm1", rig.proxy1, RECOVERY_S)

    async def back():
        return await cluster.sessions_of("router1")

    await until(back, BACK_WITHIN_S)


async def test_an_unpaired_node_is_out_at_once_and_back_when_it_is_paired(rig):
    cluster = rig.cluster
    routers = await cluster.manage("routercluster.get_routercluster_by_name", "routers_realm1")
    await cluster.manage("routercluster.add_routercluster_node", routers["oid"], rig.router2.oid, {})
    assert await rig.placement() == "router1"

    stubborn = await join_as(cluster, rig.router1)
    deliver = stubborn.onMessage
    stubborn.onMessage = lambda msg: None if isinstance(msg, message.Goodbye) else deliver(msg)
    assert len(await cluster.sessions_of("router1")) == 2
    late = Late(cluster.node_key(rig.router1))
    joining = asyncio.ensure_future(join_as(cluster, rig.router1, key=late))
    await asyncio.wait_for(late.challenged.wait(), 5)

    since, master_since = rig.router1.running.mark(), cluster.master.running.mark()
    code, out, err = await command(cluster, "unpair", "router1")
    assert (code, err) == (0, "")
    assert "Node router1 is unpaired; 2 of its sessions with the master are closed." in out
    assert "Router workers were placed on it: group_realm1_1." in out

    async def gone():
        return not await cluster.sessions_of("router1")

    print(f"no session left after {await until(gone, OUT_WITHIN_S):.2f} s")
    with pytest.raises((TimeoutError, ApplicationError)):
        async with asyncio.timeout(1):
            await stubborn.call("crossbarfabriccenter.mrealm.get_status")
    late.answer.set()
    with pytest.raises(JoinFailed) as late_refused:
        await joining
    assert late_refused.value.refusal == "fabric.auth-failed.node-unpaired"
    with pytest.raises(JoinFailed) as anew_refused:
        await join_as(cluster, rig.router1)
    assert anew_refused.value.refusal == "fabric.auth-failed.node-unpaired"
    await cluster.master.running.line("Node router1 is offline now", since=master_since, timeout_s=2)

    async def moved():
        return await rig.placement() == "router2"

    print(f"its placement is elsewhere after {await until(moved, OUT_WITHIN_S):.2f} s more")
    assert "router1" not in {node["name"] for node in (await cluster.status())["nodes"]}
    await cluster.served("realm1", rig.proxy1, RECOVERY_S)
    await rig.router1.running.line("This node is not paired", since=since, timeout_s=10)
    assert rig.router1.running.running

    await rig.pair(rig.router1)

    async def back():
        try:
            status = await cluster.call("crossbarfabriccenter.node.router1.get_status", timeout_s=2)
        except Exception:
            return False
        return status["controller_pid"] == rig.router1.running.pid

    print(f"callable {await until(back, BACK_WITHIN_S):.2f} s after it was paired again")
    assert not rig.router1.running.find("on record as this node's address", since=since)
    assert not rig.router1.running.find("Traceback", since=since)
    stubborn.disconnect()


async def test_an_unpaired_proxy_is_refused_by_router_workers(rig):
    cluster = rig.cluster

    async def on_one_router():  # what is left of an earlier placement is about to be stopped
        running = [worker["node"] for worker in (await cluster.status())["workers"] if worker["kind"] == "router"]
        return running == [await rig.placement()]

    await until(on_one_router, RECOVERY_S)
    await cluster.served("realm1", rig.proxy2)
    since = rig.proxy2.running.mark()
    await rig.unpair(rig.proxy2)

    async def refused_by_router():
        try:
            client = await cluster.client("realm1", rig.proxy2, timeout_s=1.0)
        except JoinFailed:
            return True
        await client.close()
        return False

    print(f"refused after {await until(refused_by_router, 2 * OUT_WITHIN_S):.2f} s")
    assert await refused_by_router()
    await cluster.served("realm1", rig.proxy1)
    await rig.proxy2.running.line("This node is not paired", since=since, timeout_s=10)
    await rig.pair(rig.proxy2)
    await cluster.served("realm1", rig.proxy2, RECOVERY_S)


async def test_an_operator_pairs_and_unpairs_nodes_by_name(rig):
    cluster = rig.cluster
    node = Node("named", rig.network.host(), cluster.directory / "named", PATCHED)
    await cluster.make_key(node)
    key = cluster.node_key(node).public_key()

    code, out, err = await command(cluster, "pair", str(node.cbdir / "key.pub"), "named", "--json")
    assert (code, err) == (0, "")
    paired = json.loads(out)
    assert paired == {"node": "named", "pubkey": key, "oid": (await cluster.record(node))["oid"]}
    running = await cluster.start(node)
    await running.line("The master can call this node")

    code, out, err = await command(cluster, "pair", "ab" * 32, "named")
    assert (code, out) == (1, "")
    assert f"A node named named is paired already, with key {key}." in unwrapped(err)

    since = running.mark()
    code, out, err = await command(cluster, "unpair", "named")
    assert (code, err) == (0, "")
    assert f"To pair it again: `crossbar-cluster pair {key} named`." in unwrapped(out)
    await running.line("This node is not paired", since=since)
    assert "named" not in {each["name"] for each in (await cluster.status())["nodes"]}

    code, out, err = await command(cluster, "unpair", "named")
    assert (code, out) == (1, "") and "named" in err

    code, out, err = await command(cluster, "pair", key, "named")
    assert (code, err) == (0, "")
    assert "Node named is paired with management realm default." in unwrapped(out)
    await running.line("The master can call this node", since=since)
    oid = (await cluster.record(node))["oid"]
    code, out, err = await command(cluster, "unpair", oid, "--json")
    assert (code, json.loads(out)) == (0, {"node": "named", "pubkey": key, "oid": oid})


@pytest.mark.parametrize("pubkey", ["", "ab", "zz" * 32, "/no/such/file"])
async def test_what_is_no_public_key_is_not_asked_for(rig, pubkey):
    code, out, err = await command(rig.cluster, "pair", pubkey, "named")
    assert (code, out) == (2, "")
    assert "PUBKEY" in err


def unwrapped(text: str) -> str:
    """Without the line ends that the width of a terminal has brought in."""
    return " ".join(text.split())


async def test_the_master_knows_of_a_pairing_at_once(rig):
    """Of a node that is not there. (The safety net alone would take 5 s on average.)"""
    cluster = rig.cluster
    node = Node("later", rig.network.host(), cluster.directory / "later", PATCHED)
    await cluster.make_key(node)

    async def known():
        return "later" in {each["name"] for each in (await cluster.status())["nodes"]}

    for _ in range(4):  # four times in time by chance is one in a thousand
        await rig.pair(node)
        await until(known, OUT_WITHIN_S)
        node.oid = (await cluster.record(node))["oid"]
        await rig.unpair(node)

        async def forgotten():
            return not await known()

        await until(forgotten, OUT_WITHIN_S)
