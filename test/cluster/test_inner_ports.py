"""Whoever reaches a router worker without the key of a node that may connect gets nowhere. From the wire."""

import asyncio
import contextlib
import os

import pytest
import pytest_asyncio
from autobahn.wamp import message
from autobahn.wamp.cryptosign import CryptosignKey
from autobahn.wamp.role import DEFAULT_CLIENT_ROLES
from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey

from crossbar_cluster.core.proof import PART, Connection, RouterIdentity, hello_part, nonce_in, signature_in
from crossbar_cluster.lab.cluster import loopback_cluster
from crossbar_cluster.lab.raw_client import RawClient, Rejected, signed

from .conftest import PATCHED, RECOVERY_S, boot_two_realms, until

REALM = "realm1"
NONCE = bytes(range(32))


class Port:
    """A router worker's port, and a proxy node as it would connect there."""

    def __init__(self, cluster, router, proxy, worker: str, port: int) -> None:
        self.cluster = cluster
        self.router = router
        self.proxy = proxy
        self.worker = worker
        self.port = port

    async def connect(self) -> RawClient:
        return await RawClient.connect(self.router.host.address, self.port, websocket=False)

    def hello(self, realm=REALM, authid=None, nonce=NONCE, **changes) -> message.Hello:
        """The HELLO of the proxy; a change to None leaves that part of authextra out."""
        extra = {
            "pubkey": self.cluster.node_key(self.proxy).public_key(),
            "proxy_realm": realm,
            "proxy_authid": "somebody",
            "proxy_authrole": "anonymous",
            "proxy_authextra": None,
            PART: hello_part(nonce),
        }
        extra = {name: value for name, value in (extra | changes).items() if name not in changes or value is not None}
        authid = authid or self.proxy.name
        return message.Hello(
            realm, DEFAULT_CLIENT_ROLES, authmethods=["cryptosign-proxy"], authid=authid, authextra=extra
        )

    async def challenged(self, hello=None) -> tuple[RawClient, dict]:
        client = await self.connect()
        answer = await client.ask(hello or self.hello())
        assert isinstance(answer, message.Challenge), answer
        return client, answer.extra

    async def refusal(self, hello: message.Hello) -> message.Abort:
        client = await self.connect()
        with contextlib.closing(client):
            answer = await client.ask(hello)
            assert isinstance(answer, message.Abort), f"{hello} is answered with {answer}"
            return answer

    def connection(self, extra: dict) -> Connection:
        router_key = self.cluster.node_key(self.router).public_key()
        router = RouterIdentity(self.router.name, self.worker, router_key)
        return Connection(router, self.cluster.node_key(self.proxy).public_key(), NONCE, nonce_in(extra))


@pytest_asyncio.fixture(scope="module")
async def ports(tmp_path_factory):
    """The ports of two routers with a realm each, in one cluster with a proxy."""
    async with loopback_cluster(tmp_path_factory.mktemp("inner"), patched=PATCHED) as (cluster, network):
        for name in ("router1", "router2", "proxy1"):
            cluster.add_node(name, network.host())
        await boot_two_realms(cluster)
        found = []
        for number in (1, 2):
            router = cluster.nodes[f"router{number}"]
            worker = f"group_realm{number}_1"
            transport = await cluster.call(
                f"crossbarfabriccenter.node.{router.name}.worker.{worker}.get_router_transport", f"tnp_{worker}"
            )
            port = transport["config"]["endpoint"]["port"]
            found.append(Port(cluster, router, cluster.nodes["proxy1"], worker, port))
        yield found


@pytest.fixture
def port(ports) -> Port:
    return ports[0]


async def test_a_public_key_lets_nobody_in(ports):
    """The attack that makes whoever knows a public key any user of any realm of the release."""
    stranger = CryptosignKey.from_bytes(bytes(range(32)))
    for port, realm in zip(ports, ("realm1", "realm2"), strict=True):
        client, extra = await port.challenged(port.hello(realm, proxy_authid="root"))
        answer = await client.ask(message.Authenticate(signed(stranger, extra)))
        assert isinstance(answer, message.Abort), answer
        assert answer.reason == "wamp.error.authentication_failed"
        client.close()


async def test_the_key_of_a_proxy_lets_its_clients_in(port):
    client, extra = await port.challenged()
    answer = await client.ask(message.Authenticate(signed(port.cluster.node_key(port.proxy), extra)))
    assert isinstance(answer, message.Welcome), answer
    assert (answer.realm, answer.authid, answer.authrole) == (REALM, "somebody", "anonymous")
    client.close()


async def test_the_router_proves_who_it_is(ports):
    port, other = ports
    client, extra = await port.challenged()
    client.close()
    connection = port.connection(extra)
    assert extra["challenge"] == connection.challenge.hex(), "the challenge is for this connection and no other"
    key = VerifyKey(bytes.fromhex(connection.router.pubkey))
    key.verify(connection.proof, signature_in(extra))
    with pytest.raises(BadSignatureError):
        key.verify(other.connection(extra).proof, signature_in(extra))


async def test_a_signature_is_good_for_one_connection(ports):
    port, other = ports
    key = port.cluster.node_key(port.proxy)
    first, extra = await port.challenged()
    signature = signed(key, extra)
    for elsewhere, realm in ((port, "realm1"), (other, "realm2")):
        client, _ = await elsewhere.challenged(elsewhere.hello(realm))
        answer = await client.ask(message.Authenticate(signature))
        assert isinstance(answer, message.Abort), "a signature from another connection, or for another router"
        client.close()
    assert isinstance(await first.ask(message.Authenticate("00" * 96)), message.Abort)
    with pytest.raises((Rejected, EOFError, ConnectionError, AssertionError)):
        assert not isinstance(await first.ask(message.Authenticate(signature)), message.Welcome)
        raise Rejected("it is answered once")
    first.close()


@pytest.mark.parametrize("signature", ["", "zz", "00" * 95, "00" * 97, "0" * 192, "\N{SNOWMAN}" * 192])
async def test_what_is_no_signature_is_refused_without_a_word_in_the_log(port, signature):
    mark = port.router.running.mark()
    client, _ = await port.challenged()
    answer = await client.ask(message.Authenticate(signature))
    assert isinstance(answer, message.Abort)
    assert "signature" in answer.message
    client.close()
    assert not port.router.running.find("Traceback", since=mark)


@pytest.mark.parametrize(
    ("changes", "reason", "says"),
    [
        ({"proxy_authrole": "trusted"}, "wamp.error.no_such_role", "trusted"),
        ({"proxy_authrole": "rlink"}, "wamp.error.no_such_role", "rlink"),
        ({"proxy_authrole": "admin"}, "wamp.error.no_such_role", "admin"),
        ({"realm": "nowhere"}, "wamp.error.no_such_realm", "nowhere"),
        ({"realm": "realm2"}, "wamp.error.no_such_realm", "realm2"),
        ({"proxy_realm": "realm2"}, "wamp.error.authentication_failed", "another realm"),
        ({"authid": "router2"}, "wamp.error.authentication_failed", "router2"),
        ({"authid": "nobody"}, "wamp.error.authentication_failed", "nobody"),
        ({"pubkey": "11" * 32}, "wamp.error.authentication_failed", "another key"),
        ({"pubkey": "zz"}, "wamp.error.authentication_failed", "another key"),
        ({"pubkey": 7}, "wamp.error.authentication_failed", "pubkey"),
        ({"proxy_authid": None}, "wamp.error.authentication_failed", "proxy_authid"),
        ({"proxy_authid": ["a"]}, "wamp.error.authentication_failed", "proxy_authid"),
        ({"proxy_authextra": "text"}, "wamp.error.authentication_failed", "proxy_authextra"),
        ({PART: {"version": 1, "nonce": "00"}}, "wamp.error.authentication_failed", "nonce"),
        ({PART: "text"}, "wamp.error.authentication_failed", "nonce"),
        ({PART: None}, "wamp.error.authentication_failed", "proxy1 has to prove its key"),
    ],
)
async def test_what_is_refused_at_hello(port, changes, reason, says):
    mark = port.router.running.mark()
    answer = await port.refusal(port.hello(**changes))
    assert answer.reason == reason
    assert says in answer.message
    assert not port.router.running.find("Traceback", since=mark)


async def test_nonces_are_never_repeated(port):
    challenges = set()
    for _ in range(5):
        client, extra = await port.challenged(port.hello(nonce=os.urandom(32)))
        challenges.add(extra["challenge"])
        client.close()
    assert len(challenges) == 5


async def joined(port, **changes) -> tuple[RawClient, message.Welcome]:
    """A session that has come through the proxy."""
    client, extra = await port.challenged(port.hello(**changes))
    answer = await client.ask(message.Authenticate(signed(port.cluster.node_key(port.proxy), extra)))
    assert isinstance(answer, message.Welcome), answer
    return client, answer


@pytest.mark.parametrize("transport", ["text", 7, {"channel_type": "nonsense"}, {"is_secure": "perhaps"}, {"own": []}])
async def test_a_transport_that_is_none_is_refused_at_hello(port, transport):
    """A proxy tells over what its client has come. What makes no sense would leave half a session behind."""
    mark = port.router.running.mark()
    answer = await port.refusal(port.hello(proxy_authextra={"transport": transport}))
    assert answer.reason == "wamp.error.authentication_failed"
    assert "transport" in answer.message
    assert not port.router.running.find("Traceback", since=mark)


async def test_the_sessions_of_a_node_that_may_not_connect_any_more_end(port):
    """Also behind one that has been told to leave before, and does not."""
    stubborn, welcome = await joined(port)
    client, _ = await joined(port)
    killed = await client.ask(message.Call(1, "wamp.session.kill", args=[welcome.session]))
    assert isinstance(killed, message.Result), killed
    async with asyncio.timeout(10):
        assert isinstance(await stubborn.receive(), message.Goodbye)
    prefix = f"crossbarfabriccenter.node.{port.router.name}.worker.{port.worker}"
    await port.cluster.call(f"{prefix}.update_router_principals", f"tnp_{port.worker}", {})
    async with asyncio.timeout(10):
        answer = await client.receive()
        assert isinstance(answer, message.Goodbye), answer
        for each in (client, stubborn):
            with pytest.raises((EOFError, ConnectionError)):
                await each.receive()
    assert "no node proxy1 may connect" in (await port.refusal(port.hello())).message


async def test_a_proxy_brings_no_clients_of_a_realm_that_none_of_its_web_clusters_serves(port):
    """It runs on this very router worker, for clients of another web cluster."""
    cluster = port.cluster
    other = await cluster.manage("webcluster.create_webcluster", {"name": "other", "tcp_port": 8090})
    await cluster.manage("webcluster.start_webcluster", other["oid"])
    [group] = [g for g in (await cluster.status())["groups"] if g["group"] == "group_realm1"]
    ours, cluster.webcluster = cluster.webcluster, other["oid"]
    try:
        await cluster.start_realm_on("realm3", group["oid"])
    finally:
        cluster.webcluster = ours

    async def runs_there() -> bool:
        workers = (await cluster.status())["workers"]
        return any("realm3" in worker.get("realms", ()) for worker in workers if worker["worker"] == port.worker)

    await until(runs_there, RECOVERY_S)
    refused = await port.refusal(port.hello("realm3"))
    assert refused.reason == "wamp.error.unavailable" and "serves realm realm3" in refused.message
    await test_the_key_of_a_proxy_lets_its_clients_in(port)
    await cluster.served(REALM, port.proxy)
