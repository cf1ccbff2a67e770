"""A node's word on its address, as the master takes it from the wire: believed after the proof, and only then."""

import asyncio
import itertools

import pytest
from autobahn.wamp import cryptosign
from autobahn.wamp.exception import ApplicationError

from crossbar_cluster.lab.client import Client, JoinFailed, join
from crossbar_cluster.lab.cluster import MASTER_PORT

FORGED = "10.66.6.6"
_barriers = itertools.count()


async def join_as_node(lab, node, key=None, authextra=None) -> Client:
    """Join the management realm as ``node`` would. ``key`` defaults to its own."""
    cluster = lab.cluster
    return await join(
        cluster.client_host,
        cluster.master.host.address,
        MASTER_PORT,
        None,
        key=key or cluster.node_key(node),
        authrole="node",
        authextra=authextra or {},
    )


class Stranger:
    """Knows a node's public key and nothing else; answers a challenge with a key of its own, or not at all."""

    def __init__(self, public_key: str, answers: bool) -> None:
        self._public_key = public_key
        self._own = cryptosign.CryptosignKey.from_bytes(bytes(range(32)))
        self._answers = answers
        self.challenged = asyncio.Event()

    def public_key(self, binary: bool = False) -> str:
        return self._public_key

    def sign_challenge(self, challenge):
        self.challenged.set()
        if not self._answers:
            return asyncio.get_running_loop().create_future()
        return self._own.sign_challenge(challenge)


async def caught_up(lab) -> int:
    """Return when the lab has read what the master has logged so far: a node's HELLO comes after it in the log.

    :returns: a mark, behind all that.
    """
    unique = f"127.1.{next(_barriers)}.1"  # a default, which replaces no record; earlier lines do not have it
    node = await join_as_node(lab, lab.spare, authextra={"cluster_ip": unique, "cluster_ip_source": "default"})
    await lab.cluster.master.running.line(f"Node authentication received: node spare .*'{unique}'")
    await node.close()
    return lab.cluster.master.running.mark()


async def record_of(lab, node):
    record = await lab.cluster.record(node)
    return record["cluster_ip"], (record["authextra"] or {}).get("cluster_ip")


@pytest.mark.parametrize("answers", [False, True], ids=["silent", "wrong signature"])
async def test_a_stranger_with_a_nodes_public_key_gets_a_challenge_and_changes_nothing(lab, answers):
    before = await record_of(lab, lab.router1)
    mark = await caught_up(lab)
    stranger = Stranger(lab.cluster.node_key(lab.router1).public_key(), answers)
    claim = {"cluster_ip": FORGED, "cluster_ip_source": "environment"}
    with pytest.raises(JoinFailed) as refused:
        await join_as_node(lab, lab.router1, key=stranger, authextra=claim)
    assert stranger.challenged.is_set()
    if answers:
        assert "signature" in str(refused.value)
    assert await record_of(lab, lab.router1) == before
    await caught_up(lab)
    assert lab.cluster.master.running.find("Node authentication received: node router1", since=mark)
    assert not lab.cluster.master.running.find("cluster IP changed", since=mark)


async def test_a_proven_node_is_believed_before_its_welcome(lab):
    claim = {"cluster_ip": "10.1.0.1", "cluster_ip_source": "environment"}
    node = await join_as_node(lab, lab.spare, authextra=claim)
    assert node.joined.result().authextra["cluster_ip"] == "10.1.0.1"
    assert await record_of(lab, lab.spare) == ("10.1.0.1", "10.1.0.1")
    await node.close()


@pytest.mark.parametrize("again", ["10.1.0.2", "fd00::2", "router-b.example"])
async def test_each_change_is_told_once(lab, again):
    mark = await caught_up(lab)
    for _ in range(2):
        node = await join_as_node(lab, lab.spare, authextra={"cluster_ip": again, "cluster_ip_source": "environment"})
        assert node.joined.result().authextra["cluster_ip"] == again
        await node.close()
    await caught_up(lab)
    heard = lab.cluster.master.running.find("Node authentication received: node spare", since=mark)
    assert len(heard) == 3, "two, and that of caught_up"
    assert len(lab.cluster.master.running.find(f"Node spare cluster IP changed from .* to {again}", since=mark)) == 1


async def test_a_default_address_never_replaces_one_on_record(lab):
    node = await join_as_node(lab, lab.spare, authextra={"cluster_ip": "10.1.0.3", "cluster_ip_source": "environment"})
    await node.close()
    node = await join_as_node(lab, lab.spare, authextra={"cluster_ip": "127.0.0.1", "cluster_ip_source": "default"})
    assert node.joined.result().authextra["cluster_ip"] == "10.1.0.3"
    assert await record_of(lab, lab.spare) == ("10.1.0.3", "10.1.0.3")
    await node.close()


@pytest.mark.parametrize(
    "value",
    ["http://10.0.0.1", "10.0.0.1:9000", "a b", "x" * 300, "", "0.0.0.0", "\x1b[31m\n", None, 7, 1.5, {"a": 1}, ["1"]],
    ids=lambda v: repr(v)[:20],
)
async def test_a_malformed_address_is_refused_and_the_node_joins(lab, value):
    mark = await caught_up(lab)
    before = await record_of(lab, lab.spare)
    node = await join_as_node(lab, lab.spare, authextra={"cluster_ip": value, "cluster_ip_source": "environment"})
    line = await lab.cluster.master.running.line("Node spare authenticated with an invalid cluster address", since=mark)
    assert "its record stays as it is" in line.text and "CROSSBAR_NODE_CLUSTER_IP" in line.text
    assert await record_of(lab, lab.spare) == before
    await node.close()


async def test_two_nodes_with_one_address_are_accepted_and_told_of(lab):
    shared = (await record_of(lab, lab.router2))[0]
    mark = await caught_up(lab)
    node = await join_as_node(lab, lab.spare, authextra={"cluster_ip": shared, "cluster_ip_source": "environment"})
    assert await record_of(lab, lab.spare) == (shared, shared)
    await lab.cluster.master.running.line(f"Node spare is on record at {shared}, and so is router2", since=mark)
    await node.close()


async def test_users_of_the_master_cannot_change_an_address(lab):
    """The authenticator is a WAMP procedure that users may call: calling it must not count as a node's proof."""
    before = await record_of(lab, lab.router1)
    key = lab.cluster.node_key(lab.router1).public_key()
    user = await join(
        lab.cluster.client_host,
        lab.cluster.master.host.address,
        MASTER_PORT,
        "com.crossbario.fabric",
        **lab.cluster.superuser(),
    )
    details = {
        "authmethod": "cryptosign",
        "authrole": "node",
        "authextra": {"pubkey": key, "cluster_ip": FORGED, "cluster_ip_source": "environment"},
    }
    auth = await user.call("com.crossbario.fabric.authenticate", None, None, details)
    assert auth["authid"] == "router1"
    for procedure in ("com.crossbario.fabric.node_proven", "node_proven"):
        with pytest.raises(ApplicationError, match="no_such_procedure"):
            await user.call(procedure, key, "router1", details["authextra"])
    assert await record_of(lab, lab.router1) == before
    await user.close()
