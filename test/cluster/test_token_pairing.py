"""Nodes that nobody has paired and that come with a token: they pair themselves, and join what expects them.

The nodes keep their keys where the master does not see them, as pods do.
"""

import asyncio
import hashlib
import json
from signal import SIGCONT, SIGSTOP

import pytest
import pytest_asyncio
import yaml
from autobahn.wamp import cryptosign

from crossbar_cluster.core.pairing_token import Offer, code_of
from crossbar_cluster.lab.client import JoinFailed, join
from crossbar_cluster.lab.cluster import MASTER_PORT, Cluster, Node, loopback_cluster

from .conftest import PATCHED, RECOVERY_S, command, converged, until

ROUTERS, PROXIES = "r" * 40, "p" * 40
FORGET_AFTER_S = 6
DESCRIBED = {
    "roles": {"anonymous": [{"uri": "", "match": "prefix", "allow": "all"}]},
    "realms": {"realm1": {"roles": ["anonymous"], "workergroup": "group1", "webcluster": "web"}},
    "routerclusters": {"routers": {"nodes": ["router-*"], "workergroups": {"group1": {"scale": 2}}}},
    "webclusters": {"web": {"port": 8080, "nodes": ["proxy-*"], "services": {"ws": {"type": "websocket"}}}},
}


class Pods:
    """A cluster whose nodes come and go by themselves."""

    def __init__(self, cluster: Cluster, network) -> None:
        self.cluster, self._network = cluster, network
        self.tokens = cluster.directory / "tokens"
        self.tokens.mkdir()
        self.let("router-", ROUTERS)
        self.let("proxy-", PROXIES)
        cluster.master.settings = {
            "CROSSBAR_CLUSTER_PAIRING_TOKENS": str(self.tokens),
            "CROSSBAR_CLUSTER_FORGET_HOURS": str(FORGET_AFTER_S / 3600),
        }

    def let(self, prefix: str, *tokens: str) -> None:
        """Let nodes whose names begin like that pair themselves with any of these tokens."""
        (self.tokens / prefix).write_text("\n".join(tokens))

    def pod(self, name: str, token: str) -> Node:
        node = Node(name, self._network.host(), self.cluster.directory / "pods" / name, PATCHED)
        node.directory.mkdir(parents=True)
        node.cluster_ip = node.host.address
        file = node.directory / "token"
        file.write_text(token)
        node.settings = {"CROSSBAR_CLUSTER_PAIRING_TOKEN_FILE": str(file)}
        return node

    async def start(self, name: str, token: str) -> Node:
        node = self.pod(name, token)
        await self.cluster.make_key(node)
        await self.cluster.start(node)
        return node

    async def is_paired(self, name: str) -> bool:
        return name in {node["name"] for node in (await self.cluster.status())["nodes"]}

    async def placements(self) -> list[str]:
        [group] = (await self.cluster.status())["groups"]
        return sorted(placed["node"] for placed in group["placements"])


@pytest_asyncio.fixture(scope="module")
async def pods(tmp_path_factory):
    async with loopback_cluster(tmp_path_factory.mktemp("pods"), patched=PATCHED) as (cluster, network):
        pods = Pods(cluster, network)
        await cluster.boot()  # the master only: there is no node yet
        yield pods


@pytest_asyncio.fixture(scope="module")
async def served(pods):
    """A router and a proxy have paired themselves, and serve; described once, by pattern."""
    described = pods.cluster.directory / "cluster.yaml"
    described.write_text(yaml.safe_dump(DESCRIBED))
    applying = asyncio.create_task(command(pods.cluster, "apply", str(described), "--wait", "60"))
    proxy = await pods.start("proxy-a", PROXIES)
    await pods.start("router-0", ROUTERS)
    code, out, err = await applying
    assert (code, err) == (0, ""), out
    await pods.cluster.served("realm1", proxy, RECOVERY_S)
    return proxy


@pytest.mark.slow
async def test_nodes_pair_themselves_once_they_have_proven_their_key(pods, served):
    master = pods.cluster.master.running
    for name in ("proxy-a", "router-0"):
        [_] = master.find(f"Node {name} has been paired by its token")
        assert master.find(f"Node authentication received: node {name}")
    record = await pods.cluster.manage("get_node_by_authid", "router-0")
    assert record["cluster_ip"] == record["authextra"]["cluster_ip"]
    assert record["authextra"]["paired_by"] == "token"


@pytest.mark.slow
async def test_nodes_that_come_later_join_what_expects_them(pods, served):
    assert await pods.placements() == ["router-0", "router-0"]
    await pods.start("router-1", ROUTERS)
    proxy = await pods.start("proxy-b", PROXIES)
    await pods.cluster.served("realm1", proxy, RECOVERY_S)
    await converged(pods.cluster)
    assert await pods.placements() == ["router-0", "router-1"]
    assert pods.cluster.master.running.find("Node proxy-b has joined web cluster web, which expects it")


@pytest.mark.slow
async def test_a_proxy_that_does_not_come_back_is_forgotten_and_its_successor_serves(pods, served):
    gone = await pods.start("proxy-c", PROXIES)
    await pods.cluster.served("realm1", gone, RECOVERY_S)

    async def away_for(name: str, seconds: float) -> bool:
        status = await pods.cluster.status()
        [node] = [node for node in status["nodes"] if node["name"] == name]
        return node["status"] != "online" and status["now"] - node["since"] > seconds * 1e9

    await gone.running.kill()

    async def is_gone() -> bool:
        return "gone" in {
            node["status"] for node in (await pods.cluster.status())["nodes"] if node["name"] == gone.name
        }

    await until(is_gone, RECOVERY_S)
    assert (await pods.cluster.status())["problems"] == []

    async def is_forgotten() -> bool:
        return not await pods.is_paired("proxy-c")

    await until(is_forgotten, FORGET_AFTER_S + RECOVERY_S)
    router = next(p for p in pods.cluster._started if p.name == "router-1" and p.running)
    await router.kill()
    await until(lambda: away_for("router-1", 2.5 * FORGET_AFTER_S), RECOVERY_S)
    successor = await pods.start("proxy-d", PROXIES)
    await pods.cluster.served("realm1", successor, RECOVERY_S)
    status = await pods.cluster.status()
    assert "proxy-c" not in json.dumps(status)
    assert await pods.is_paired("router-1"), "a router worker is placed there"
    assert await pods.placements() == ["router-0", "router-1"]

    await pods.cluster.start(gone)  # it was only away for long
    await pods.cluster.served("realm1", gone, RECOVERY_S)


@pytest.mark.slow
async def test_a_proxy_that_serves_and_does_not_reach_its_master_is_not_forgotten(pods, served):
    """Its controller, which has the session on the master, hangs; its worker goes on."""
    proxy = await pods.start("proxy-cut", PROXIES)
    await pods.cluster.served("realm1", proxy, RECOVERY_S)
    client = await pods.cluster.client("realm1", proxy)
    proxy.running.signal(SIGSTOP)
    try:

        async def is_told() -> bool:
            problems = {p["object"]: p["reason"] for p in (await pods.cluster.status())["problems"]}
            return "goes on serving" in problems.get("node proxy-cut", "")

        await until(is_told, RECOVERY_S)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(4 * FORGET_AFTER_S):
                await asyncio.shield(client.gone)
        assert await pods.is_paired("proxy-cut")
        assert not pods.cluster.master.running.find("Node proxy-cut is forgotten")
    finally:
        proxy.running.signal(SIGCONT)

    async def is_back() -> bool:
        return {n["name"]: n["status"] for n in (await pods.cluster.status())["nodes"]}["proxy-cut"] == "online"

    await until(is_back, RECOVERY_S)
    assert not await is_told()
    assert not client.gone.done()
    await client.close()


@pytest.mark.slow
async def test_a_node_that_is_unpaired_does_not_pair_itself_again(pods, served):
    node = await pods.start("proxy-e", PROXIES)
    await pods.cluster.served("realm1", node, RECOVERY_S)
    mark = node.running.mark()
    code, out, err = await command(pods.cluster, "unpair", "proxy-e", "--json")
    assert (code, err) == (0, "")
    line = await node.running.line("This node is not paired: ", since=mark)
    assert "does not take its pairing token: This node is unpaired" in line.text
    assert not await pods.is_paired("proxy-e")

    code, out, err = await command(pods.cluster, "pair", json.loads(out)["pubkey"], "proxy-e")
    assert (code, err) == (0, ""), "by somebody it is"
    await pods.cluster.served("realm1", node, RECOVERY_S)


@pytest.mark.slow
async def test_tokens_are_changed_without_a_restart(pods, served):
    new = "n" * 40
    node = await pods.start("proxy-f", new)
    line = await node.running.line("This node is not paired: ")
    assert "it has no such token for a node named proxy-f" in line.text
    pods.let("proxy-", PROXIES, new)
    await node.running.line("Joined the master at ")
    await pods.cluster.served("realm1", node, RECOVERY_S)


def key_of(name: str) -> cryptosign.CryptosignKey:
    return cryptosign.CryptosignKey.from_bytes(hashlib.sha256(name.encode()).digest())


class Impostor:
    """Says somebody else's public key, and signs with its own."""

    def __init__(self, own: cryptosign.CryptosignKey, said: cryptosign.CryptosignKey) -> None:
        self._own, self._said = own, said

    def public_key(self, binary: bool = False) -> str:
        return self._said.public_key()

    def sign_challenge(self, challenge):
        return self._own.sign_challenge(challenge)


async def join_with_offer(pods: Pods, key, offer: Offer):
    """As a node would. :raises JoinFailed:"""
    cluster = pods.cluster
    where = (cluster.client_host, cluster.master.host.address, MASTER_PORT, None)
    return await join(*where, key=key, authrole="node", authextra=offer.authextra)


def offer(key, name="proxy-x", token=PROXIES) -> Offer:
    return Offer(name, code_of(token, name, key.public_key()))


@pytest.mark.parametrize(
    ("what", "says"),
    [
        ("another token", "it has no such token"),
        ("a token for other names", "it has no such token"),
        ("the code of another key", "it has no such token"),
        ("a name that is taken", "a node named proxy-a is paired there, with another key"),
        ("a name that is none", "unpaired"),
        ("the offer of another node, replayed", "signature"),
    ],
)
async def test_who_is_not_entitled_changes_nothing(pods, served, what, says):
    key, other = key_of(what), key_of(f"{what} other")
    offers = {
        "another token": offer(key, token="x" * 40),
        "a token for other names": offer(key, "router-x"),
        "the code of another key": offer(other),
        "a name that is taken": offer(key, "proxy-a"),
        "a name that is none": offer(key, "proxy-a.b"),
        "the offer of another node, replayed": offer(other),
    }
    before = {node["name"] for node in (await pods.cluster.status())["nodes"]}
    with pytest.raises(JoinFailed) as refused:
        await join_with_offer(pods, Impostor(key, other) if "replayed" in what else key, offers[what])
    assert says in str(refused.value)
    nodes = await pods.cluster.manage("get_nodes")
    records = [await pods.cluster.manage("get_node", oid) for oid in nodes]
    assert not {key.public_key(), other.public_key()} & {record["pubkey"] for record in records}
    assert {node["name"] for node in (await pods.cluster.status())["nodes"]} == before


async def test_a_file_that_holds_no_token_is_told_to_the_masters_operator_and_holds_up_no_other(pods, served):
    mark = pods.cluster.master.running.mark()
    pods.let("broken-", "short")
    try:
        key = key_of("broken")
        with pytest.raises(JoinFailed) as refused:
            await join_with_offer(pods, key, offer(key, "broken-y", "b" * 40))
        assert str(refused.value).endswith("it has no such token for a node named broken-y")
        line = await pods.cluster.master.running.line("that offers a pairing token is not paired", since=mark)
        assert f"{pods.tokens / 'broken-'}: a token has less than 32 characters" in line.text
        node = await join_with_offer(pods, key, offer(key, "proxy-y"))
        assert node.joined.result().authid == "proxy-y"
        await node.close()
    finally:
        (pods.tokens / "broken-").unlink()


async def test_who_is_entitled_is_let_in_at_the_first_attempt(pods, served):
    """The tests above would pass if nobody were."""
    key = key_of("entitled")
    node = await join_with_offer(pods, key, offer(key, "proxy-entitled"))
    assert node.joined.result().authid == "proxy-entitled"
    record = await pods.cluster.manage("get_node_by_authid", "proxy-entitled")
    assert record["pubkey"] == key.public_key()
    await node.close()


@pytest.mark.parametrize(
    ("token", "name", "says"),
    [
        (None, "proxy-z", "cannot be used: [Errno 2] No such file or directory"),
        ("short", "proxy-z", "a token has less than 32 characters"),
        ("t" * 40, "proxy.z", "'proxy.z' cannot be one: it has to have 1 to 63 letters, digits, '-' and '_'"),
    ],
)
async def test_a_node_that_cannot_make_an_offer_does_not_start_and_says_why(pods, token, name, says):
    node = pods.pod(f"bad-{name}-{len(says)}", token or "")
    if token is None:
        (node.directory / "token").unlink()
    node.name = name
    await pods.cluster.make_key(node)
    process = await pods.cluster.start(node)
    assert await process.ended(60) == 1
    [line] = process.find("Cannot start this node: CROSSBAR_CLUSTER_PAIRING_TOKEN_FILE")
    assert says in line.text
