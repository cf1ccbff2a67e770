"""What a proxy signs, and for whom: nobody but the router worker that it means, and nothing but this one connection."""

from dataclasses import replace

import pytest
from nacl.signing import SigningKey

from crossbar_cluster.core.limits import SessionLimits
from crossbar_cluster.core.proof import METHOD, PART, Connection, RouterIdentity, challenge_part, limits_in
from crossbar_cluster.node.handshake import Handshake, Principal, ProxyNode, WrongRouter
from crossbar_cluster.node.key import NodeKey


def node_key(byte: bytes) -> NodeKey:
    key = SigningKey(byte * 32)
    return NodeKey(key.verify_key.encode().hex(), key)


PROXY, ROUTER_KEY, OTHER_KEY = node_key(b"p"), node_key(b"r"), node_key(b"o")
ROUTER = RouterIdentity("router1", "w1", ROUTER_KEY.public)
NONCE = bytes(32)


def handshake(router: RouterIdentity | None = ROUTER) -> Handshake:
    name = (router.node, router.worker) if router else None
    return Handshake(ProxyNode("proxy1", PROXY), Principal("realm1", "a", "anonymous"), router, name)


def challenge(for_: Handshake, router: RouterIdentity = ROUTER, key: NodeKey = ROUTER_KEY) -> dict:
    """The extra of the CHALLENGE of that router, with that key."""
    connection = Connection(router, PROXY.public, for_.nonce, NONCE)
    part = challenge_part(router, NONCE, key.sign(connection.proof))
    return {"challenge": connection.challenge.hex(), PART: part}


def test_the_router_that_is_meant_gets_its_signature():
    it = handshake()
    extra = challenge(it)
    signed = bytes.fromhex(it.answer(METHOD, extra))
    assert PROXY.signing_key.verify_key.verify(signed) == bytes.fromhex(extra["challenge"])
    it.check_welcome({"x_cb_node": "router1", "x_cb_worker": "w1"})


@pytest.mark.parametrize(
    "router",
    [replace(ROUTER, node="router2"), replace(ROUTER, worker="w2"), replace(ROUTER, pubkey=OTHER_KEY.public)],
)
def test_another_router_gets_nothing(router):
    key = OTHER_KEY if router.pubkey == OTHER_KEY.public else ROUTER_KEY
    with pytest.raises(WrongRouter, match="does not prove to be router1 w1"):
        it = handshake()
        it.answer(METHOD, challenge(it, router, key))


def test_nobody_without_the_routers_key_gets_anything():
    it = handshake()
    with pytest.raises(WrongRouter):
        it.answer(METHOD, challenge(it, key=OTHER_KEY))


@pytest.mark.parametrize("router", [ROUTER, None], ids=["known", "unknown"])
@pytest.mark.parametrize("elsewhere", ["replayed", "relayed", "plain", "odd"])
def test_no_challenge_from_elsewhere_is_signed(router, elsewhere):
    """Such as that of the master, which would let whoever passes it on be this proxy's node there."""
    it = handshake(router)
    extra = challenge(it)
    match elsewhere:
        case "replayed":
            extra = challenge(handshake())
        case "relayed":
            extra["challenge"] = "ab" * 32
        case "plain":
            extra = {"challenge": "ab" * 32, "channel_binding": None}
        case "odd":
            extra = {"challenge": 7, PART: [1]}
    with pytest.raises(WrongRouter):
        it.answer(METHOD, extra)


def test_a_router_that_nobody_has_told_of_is_taken_at_its_word():
    it = handshake(None)
    assert it.answer(METHOD, challenge(it))
    it.check_welcome({"x_cb_node": "whoever"})


def test_a_welcome_without_a_proof():
    with pytest.raises(WrongRouter, match="without having proven"):
        handshake().check_welcome({"x_cb_node": "router1", "x_cb_worker": "w1"})
    released = replace(handshake(), router=None)  # the master knows that it cannot prove anything
    released.check_welcome({"x_cb_node": "router1", "x_cb_worker": "w1"})
    with pytest.raises(WrongRouter, match="calls itself router2 w1"):
        released.check_welcome({"x_cb_node": "router2", "x_cb_worker": "w1"})


def test_another_method_is_not_answered():
    it = handshake()
    with pytest.raises(WrongRouter, match="cryptosign"):
        it.answer("cryptosign", challenge(it))


def test_a_router_is_told_what_the_client_may_have():
    principal = Principal("realm1", "a", "anonymous", limits=SessionLimits(calls=3))
    it = Handshake(ProxyNode("proxy1", PROXY), principal, ROUTER, None)
    assert limits_in(it.authextra) == SessionLimits(calls=3)
