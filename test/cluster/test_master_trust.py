"""A node and whoever is at its master's address: nothing is done for who does not prove to be the master.

The tests are steps of one story, in this order.
"""

import asyncio
import os
import sysconfig
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio
from autobahn.asyncio.websocket import WebSocketServerFactory, WebSocketServerProtocol
from autobahn.wamp import message
from autobahn.wamp.role import RoleBrokerFeatures, RoleDealerFeatures
from autobahn.wamp.serializer import JsonSerializer
from nacl.signing import SigningKey

from crossbar_cluster.core.keyfile import parse_tags
from crossbar_cluster.lab.cluster import MASTER_PORT, Cluster, loopback_cluster

from .conftest import PATCHED, until

JSON = JsonSerializer()
THIEF = SigningKey(bytes([9]) * 32)
ROLES = {"broker": RoleBrokerFeatures(), "dealer": RoleDealerFeatures()}
WITHIN_S = 30.0
MANAGED = (message.Register, message.Call, message.Publish, message.Subscribe)


class Impostor:
    """A WAMP router at the master's address. It asks for a signature of its own choice, and lets everybody in.

    :ivar received: what has come over each connection, but for its HELLO.
    """

    def __init__(self, answer) -> None:
        self._answer = answer
        self.received: list[list[message.Message]] = []

    def answers(self, said, hello):
        if isinstance(said, message.Hello):
            return self._answer(said)
        return welcome() if isinstance(said, message.Authenticate) else None

    def got(self, kind) -> list[message.Message]:
        return [said for connection in self.received for said in connection if isinstance(said, kind)]


def welcome() -> message.Welcome:
    return message.Welcome(7, ROLES, realm="default", authid="node1", authrole="node", authmethod="cryptosign")


def asks_for_a_signature(hello) -> message.Challenge:
    return message.Challenge("cryptosign", {"challenge": "ab" * 32, "channel_binding": None})


def asks_no_questions(hello) -> message.Welcome:
    return welcome()


def proves_another_key(hello) -> message.Challenge:
    from crossbar_cluster.core.uplink_proof import Login, challenge_part, nonce_in

    key, nonce = THIEF.verify_key.encode().hex(), nonce_in(hello.authextra) or bytes(32)
    login = Login(key, hello.authextra["pubkey"], "default", nonce, os.urandom(32))
    part = {"x_cb_uplink": challenge_part(login, THIEF.sign(login.proof).signature)}
    return message.Challenge("cryptosign", {"challenge": login.challenge.hex(), "channel_binding": None, **part})


@asynccontextmanager
async def impostor_at(cluster: Cluster, answer):
    impostor = Impostor(answer)

    class Protocol(WebSocketServerProtocol):
        def onConnect(self, request):
            return "wamp.2.json"

        def onMessage(self, payload, isBinary):
            [said] = JSON.unserialize(payload)
            if isinstance(said, message.Hello):
                impostor.received.append(self.__dict__.setdefault("said", []))
            else:
                self.said.append(said)
            reply = impostor.answers(said, None)
            if reply is not None:
                self.sendMessage(*JSON.serialize(reply))

    factory = WebSocketServerFactory(protocols=["wamp.2.json"])
    factory.protocol = Protocol
    server = await asyncio.get_running_loop().create_server(factory, cluster.master.host.address, MASTER_PORT)
    try:
        yield impostor
    finally:
        server.close()


@pytest_asyncio.fixture(scope="module")
async def small(tmp_path_factory):
    async with loopback_cluster(tmp_path_factory.mktemp("trust"), patched=PATCHED) as (cluster, network):
        cluster.add_node("node1", network.host())
        await cluster.boot()
        yield cluster


def master_key(cluster: Cluster) -> str:
    return parse_tags((cluster.master.cbdir / "key.pub").read_text())["public-key-ed25519"]


async def trust_master(node, *argv: str) -> str:
    command = str(Path(sysconfig.get_path("scripts")) / "crossbar-cluster")
    process = await asyncio.create_subprocess_exec(
        command, "trust-master", "--cbdir", str(node.cbdir), *argv, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    assert process.returncode == 0
    return out.decode()


@pytest.mark.parametrize("answer", [asks_for_a_signature, asks_no_questions, proves_another_key])
async def test_whoever_is_at_the_address_of_a_master_that_is_away_gets_nothing(small, answer):
    cluster, node = small, small.nodes["node1"]
    await cluster.management.close()
    await cluster.master.running.kill()
    since = node.running.mark()
    async with impostor_at(cluster, answer) as impostor:  # a refusal (ABORT) is all that it is to get

        async def has_tried():
            return len(impostor.received) > 1 or impostor.got(MANAGED)

        await until(has_tried, WITHIN_S)
        assert not impostor.got(message.Authenticate), "a signature"
        assert not impostor.got(MANAGED), "it manages the node"
        line = await node.running.line("does not prove to be this node's master", since=since)
    assert len(node.running.find("does not prove to be this node's master", since=since)) == 1
    if answer is proves_another_key:
        assert master_key(cluster) in line.text and THIEF.verify_key.encode().hex() in line.text
        assert "crossbar-cluster trust-master" in line.text
    assert not node.running.find("NotProven|Authentication failed", since=since), "and no more is said of it"
    await cluster.start_master()
    await cluster.managed(node)


async def test_the_node_says_whom_it_knows_and_so_does_status(small):
    """By the activation file that the master has left beside its key, unless the node was there before that."""
    cluster, node = small, small.nodes["node1"]
    assert master_key(cluster) in await trust_master(node)
    status = await cluster.status()
    assert status["master"]["key"] == master_key(cluster)
    [known_by] = [each["knows_master_by"] for each in status["nodes"]]
    assert known_by in ("activation file", "file")


async def test_a_node_that_has_been_told_nothing_keeps_to_the_first_that_it_meets(small):
    cluster, node = small, small.nodes["node1"]
    await node.running.kill()
    for file in ("master.pub", "key.activate"):
        (node.cbdir / file).unlink(missing_ok=True)
    await cluster.bring_up(node)
    [line] = node.running.find("From now on this node knows its master by key")
    assert master_key(cluster) in line.text
    assert (node.cbdir / "master.pub").stat().st_mode & 0o777 == 0o600

    async def is_known():
        return [each["knows_master_by"] for each in (await cluster.status())["nodes"]]

    assert await is_known() == ["nothing"], "what it said when it joined"
    await node.running.kill()
    await cluster.bring_up(node)
    assert await is_known() == ["file"]


async def test_a_master_with_another_key_is_taken_when_an_operator_says_so(small):
    cluster, node = small, small.nodes["node1"]
    was = master_key(cluster)
    await cluster.management.close()
    await cluster.master.running.kill()
    for half in ("key.priv", "key.pub"):
        (cluster.master.cbdir / half).unlink()
    since = node.running.mark()
    await cluster.start_master()
    now = master_key(cluster)
    assert now != was
    line = await node.running.line("does not prove to be this node's master", since=since)
    assert was in line.text and f"crossbar-cluster trust-master {now}" in line.text
    assert not await cluster.sessions_of("node1")
    assert now in await trust_master(node, now)
    await cluster.managed(node)


async def test_a_master_of_the_plain_release_is_taken_again_only_where_that_is_asked_for(small):
    cluster, node = small, small.nodes["node1"]
    await cluster.management.close()
    await cluster.master.running.kill()
    cluster.master.patched = False
    since = node.running.mark()
    await cluster.start_master()
    line = await node.running.line("does not prove to be this node's master", since=since)
    assert "CROSSBAR_CLUSTER_UNPROVEN_MASTERS=accept" in line.text
    await node.running.kill()
    node.settings["CROSSBAR_CLUSTER_UNPROVEN_MASTERS"] = "accept"
    await cluster.bring_up(node)
    assert node.running.find("This master cannot prove who it is")
