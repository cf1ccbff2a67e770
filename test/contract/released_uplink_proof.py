"""A master proves its key to its nodes, and they do nothing for whoever does not. On the released classes.

The node's part is its released session with our patches, on a transport that the test plays the other end of; the
master's part is the released authentication with ours.
"""

import json
import os
from types import SimpleNamespace

import pytest
import txaio
from autobahn.wamp import message
from autobahn.wamp.cryptosign import CryptosignKey
from autobahn.wamp.role import RoleDealerFeatures
from autobahn.wamp.types import Challenge, ComponentConfig, TransportDetails
from nacl.signing import SigningKey
from twisted.internet import reactor
from twisted.internet.defer import Deferred, succeed

from crossbar_cluster.core.metrics import METRICS, UPLINK_IMPOSTORS
from crossbar_cluster.core.pairing_token import with_master_key
from crossbar_cluster.core.proof import NONCE_BYTES, Connection, RouterIdentity
from crossbar_cluster.core.uplink_proof import PART, Login, challenge_part
from crossbar_cluster.node.known_master import known_master, remember
from crossbar_cluster.node.settings import InvalidSetting
from crossbar_cluster.node.uplink import Uplink

NODE, MASTER, OTHER = (SigningKey(bytes([n]) * 32) for n in (1, 2, 3))
URL = "ws://10.0.0.2:9000/ws"


def public(key):
    return key.verify_key.encode().hex()


class Log:
    """Keeps what it is told, filled in."""

    def __init__(self):
        self.lines = []

    def info(self, text, **values):
        self.lines.append(text.format(**values))

    warn = error = debug = info

    def matching(self, part):
        return [line for line in self.lines if part in line]


class Transport:
    """One end of a connection: what has been sent, and whether it is open."""

    def __init__(self):
        self.transport_details = TransportDetails()
        self._serializer = SimpleNamespace(SERIALIZER_ID="json")
        self.sent, self.open = [], True

    def send(self, said):
        self.sent.append(said)

    def isOpen(self):
        return self.open

    def close(self):
        self.open = False


class Node:
    """A released node's session with a master, and what the rest of the node is told of it."""

    def __init__(self, directory):
        from crossbar.edge.node.management import NodeManagementSession

        txaio.use_twisted()
        self.directory = directory
        clock = SimpleNamespace(seconds=lambda: 0.0)
        self.runner = Uplink((URL,), public(NODE), clock, log=Log())
        key = CryptosignKey.from_bytes(bytes(NODE))
        node = SimpleNamespace(_cbdir=str(directory), secmod={1: key}, _controller=None)
        self.ready, self.ended = Deferred(), Deferred()
        self.ready.addErrback(lambda _: None)
        extra = {"node": node, "on_ready": self.ready, "on_exit": self.ended}
        self.session = NodeManagementSession(self.runner, ComponentConfig(extra=extra))
        self.session.log = Log()
        self.transport = Transport()
        self.session.onOpen(self.transport)
        [self.hello] = self.transport.sent

    @property
    def nonce(self):
        return bytes.fromhex(self.hello.authextra[PART]["nonce"])

    def challenged(self, extra, method="cryptosign"):
        """Send a CHALLENGE. :returns: what the node has signed; None: it has signed nothing."""
        before = len(self.transport.sent)
        self.session.onMessage(message.Challenge(method, {"channel_binding": None, **extra}))
        signed = [said for said in self.transport.sent[before:] if isinstance(said, message.Authenticate)]
        return signed[0].signature if signed else None

    def welcomed(self):
        """Send a WELCOME. :returns: whether the node's session is handed to the rest of the node."""
        welcome = message.Welcome(
            7,
            {"dealer": RoleDealerFeatures()},
            realm="default",
            authid="node1",
            authrole="node",
            authmethod="cryptosign",
        )
        self.session.onMessage(welcome)
        reactor.runUntilCurrent()
        return self.ready.called

    def told(self):
        """What the operator is told when the connection has ended."""
        self.runner._tell_why()
        return self.runner.log.lines


@pytest.fixture
def node(tmp_path, monkeypatch):
    monkeypatch.delenv("CROSSBAR_CLUSTER_MASTER_KEY", raising=False)
    return lambda: Node(tmp_path)


def proof_of(master, node, claimed=None, challenge=None):
    """A CHALLENGE's extra as the master with that key makes it."""
    login = Login(claimed or public(master), public(NODE), "default", node.nonce, os.urandom(NONCE_BYTES))
    extra = {PART: challenge_part(login, master.sign(login.proof).signature)}
    return {"challenge": (challenge or login.challenge).hex(), **extra}


# -- the node ---------------------------------------------------------------------------------------------------------


def test_the_first_master_that_proves_a_key_is_known_from_then_on(node, tmp_path):
    first = node()
    signed = bytes.fromhex(first.challenged(proof_of(MASTER, first)))
    NODE.verify_key.verify(signed)
    assert first.welcomed()
    assert known_master(str(tmp_path), {}).keys == {public(MASTER)}
    assert (tmp_path / "master.pub").stat().st_mode & 0o777 == 0o600
    [line] = first.session.log.matching("From now on this node knows its master")
    assert public(MASTER) in line and "trust-master" in line

    again = node()
    assert again.challenged(proof_of(MASTER, again)) and again.welcomed()
    assert not again.session.log.matching("From now on")


def test_a_master_is_known_only_once_it_has_let_the_node_in(node, tmp_path):
    first = node()
    assert first.challenged(proof_of(MASTER, first))
    first.session.onMessage(message.Abort("fabric.auth-failed.node-unpaired", "who are you"))
    assert not (tmp_path / "master.pub").exists()


def test_another_key_gets_no_signature_and_the_log_says_what_to_do(node, tmp_path):
    remember(str(tmp_path), public(MASTER))
    stranger = node()
    assert stranger.challenged(proof_of(OTHER, stranger)) is None
    assert not stranger.welcomed() and not stranger.transport.open and not stranger.ended.called
    assert known_master(str(tmp_path), {}).keys == {public(MASTER)}
    assert METRICS.collect()[UPLINK_IMPOSTORS.name][0][1] >= 1
    [line] = stranger.told()
    assert URL in line and public(MASTER) in line and public(OTHER) in line
    assert f"crossbar-cluster trust-master {public(OTHER)} --cbdir {tmp_path}" in line


@pytest.mark.parametrize("made", ["no proof", "another's signature", "another challenge", "no nonce", "a list"])
def test_what_is_no_proof_of_the_key_gets_no_signature(node, tmp_path, made):
    remember(str(tmp_path), public(MASTER))
    stranger = node()
    extra = {
        "no proof": lambda: {"challenge": "ab" * 32},
        "another's signature": lambda: proof_of(OTHER, stranger, claimed=public(MASTER)),
        "another challenge": lambda: proof_of(MASTER, stranger, challenge=bytes(32)),
        "no nonce": lambda: {"challenge": "ab" * 32, PART: {"version": 1}},
        "a list": lambda: {"challenge": "ab" * 32, PART: []},
    }[made]()
    assert stranger.challenged(extra) is None
    assert not stranger.welcomed() and not stranger.transport.open
    [line] = stranger.told()
    assert "does not prove to be this node's master" in line


def test_who_is_refused_is_not_told_what_the_node_knows(node, tmp_path, monkeypatch):
    remember(str(tmp_path), public(MASTER))
    stranger, silent = node(), node()
    assert stranger.challenged(proof_of(OTHER, stranger)) is None
    assert not silent.welcomed()
    monkeypatch.setenv("CROSSBAR_CLUSTER_MASTER_KEY", str(tmp_path / "secret path"))
    troubled = node()
    assert troubled.challenged(proof_of(OTHER, troubled)) is None
    for refused in (stranger, silent, troubled):
        [abort] = [said for said in refused.transport.sent if isinstance(said, message.Abort)]
        assert abort.message == "this node does not take you for its master"
        assert refused.told() != []


def test_a_proof_that_was_recorded_is_of_no_use(node, tmp_path):
    remember(str(tmp_path), public(MASTER))
    recorded = proof_of(MASTER, node())
    assert node().challenged(recorded) is None


def test_a_challenge_of_a_router_worker_is_not_signed_even_beside_a_proof(node, tmp_path):
    """A program in between that hands one on: what the node signs for its master opens no router."""
    remember(str(tmp_path), public(MASTER))
    between = node()
    router = RouterIdentity("router1", "w1", public(OTHER))
    asked = Connection(router, public(NODE), bytes(32), bytes(32)).challenge
    assert between.challenged(proof_of(MASTER, between, challenge=asked)) is None
    stranger = node()
    assert stranger.challenged({"challenge": asked.hex()}) is None


def test_who_lets_the_node_in_without_a_word_gets_nothing(node):
    stranger = node()
    assert not stranger.welcomed()
    assert isinstance(stranger.transport.sent[-1], message.Abort)
    assert "without having proven who it is" in stranger.told()[0]


def test_nobody_ends_a_node_by_refusing_it(node):
    refused = node()
    refused.runner.stop = lambda: pytest.fail("the node has stopped connecting")
    refused.session.onMessage(message.Abort("fabric.auth-failed.node-already-connected", "go away"))
    assert not refused.ready.called and not refused.transport.open


def test_a_master_of_the_plain_release_is_taken_until_one_has_proven_a_key(node, tmp_path, monkeypatch):
    plain = {"challenge": "ab" * 32}
    first = node()
    assert first.challenged(plain) and first.welcomed()
    assert first.session.log.matching("cannot prove who it is")
    assert not (tmp_path / "master.pub").exists()
    remember(str(tmp_path), public(MASTER))
    known = node()
    assert known.challenged(plain) is None
    [line] = known.told()
    assert public(MASTER) in line and "CROSSBAR_CLUSTER_UNPROVEN_MASTERS=accept" in line
    monkeypatch.setenv("CROSSBAR_CLUSTER_UNPROVEN_MASTERS", "accept")
    told_to = node()
    assert told_to.challenged(plain) and told_to.welcomed()
    somebody_else = node()
    assert somebody_else.challenged(proof_of(OTHER, somebody_else)) is None, "and says so"
    (tmp_path / "master.pub").unlink()
    monkeypatch.setenv("CROSSBAR_CLUSTER_UNPROVEN_MASTERS", "refuse")
    assert node().challenged(plain) is None


@pytest.mark.parametrize("method", ["cryptosign-proxy", "ticket"])
def test_other_questions_are_not_answered(node, method):
    asked = node()
    assert asked.challenged({"challenge": "ab" * 32}, method) is None


# -- where a node has its master's key from ---------------------------------------------------------------------------


def test_an_operators_word_counts_before_what_the_node_has_met(tmp_path):
    cbdir, token = str(tmp_path), tmp_path / "token"
    environ = {}
    assert known_master(cbdir, environ).source == "nothing"
    (tmp_path / "key.activate").write_text(f"t\nmaster-public-key-ed25519: {public(OTHER)}\n\nnode-oid: x\n")
    assert known_master(cbdir, environ).source == "activation file"
    remember(cbdir, public(MASTER))
    assert known_master(cbdir, environ).source == "file"
    token.write_text(with_master_key("s" * 32, public(OTHER)) + "\n")
    environ["CROSSBAR_CLUSTER_PAIRING_TOKEN_FILE"] = str(token)
    assert known_master(cbdir, environ).keys == {public(OTHER)}
    environ["CROSSBAR_CLUSTER_MASTER_KEY"] = f"{public(MASTER)}, {public(NODE)}"
    assert known_master(cbdir, environ).keys == {public(MASTER), public(NODE)}
    token.write_text("s" * 40)
    del environ["CROSSBAR_CLUSTER_MASTER_KEY"]
    assert known_master(cbdir, environ).source == "file", "a token of before says nothing of the master"


def test_beside_a_token_of_before_the_key_that_the_node_has_kept_counts_as_well(tmp_path):
    """While the master's key is being changed, and the old token says nothing of the old key."""
    cbdir, token = str(tmp_path), tmp_path / "token"
    environ = {"CROSSBAR_CLUSTER_PAIRING_TOKEN_FILE": str(token)}
    new, before, old = with_master_key("n" * 32, public(OTHER)), "b" * 40, with_master_key("o" * 32, public(NODE))
    token.write_text(f"{new}\n{before}\n")
    assert known_master(cbdir, environ).keys == {public(OTHER)}
    remember(cbdir, public(MASTER))
    known = known_master(cbdir, environ)
    assert (known.keys, known.source) == ({public(OTHER), public(MASTER)}, "pairing token")
    token.write_text(f"{new}\n{old}\n")
    assert known_master(cbdir, environ).keys == {public(OTHER), public(NODE)}, "the tokens say it all"
    token.write_text(f"{new}\n{before}\n")
    (tmp_path / "master.pub").write_text("nonsense")
    assert known_master(cbdir, environ).keys == {public(OTHER)}


@pytest.mark.parametrize("token", [None, "short", ""])
def test_a_node_whose_token_cannot_be_used_knows_its_master_by_its_file(node, tmp_path, monkeypatch, token):
    file = tmp_path / "token"
    if token is not None:
        file.write_text(token)
    monkeypatch.setenv("CROSSBAR_CLUSTER_PAIRING_TOKEN_FILE", str(file))
    unknowing = node()
    assert unknowing.challenged(proof_of(MASTER, unknowing)) is None, "the token may say who it is"
    assert "CROSSBAR_CLUSTER_PAIRING_TOKEN_FILE" in unknowing.told()[0]
    remember(str(tmp_path), public(MASTER))
    paired = node()
    assert paired.challenged(proof_of(MASTER, paired)) and paired.welcomed()
    stranger = node()
    assert stranger.challenged(proof_of(OTHER, stranger)) is None


def test_only_a_proof_that_does_not_hold_counts_as_an_impostor(node, tmp_path, monkeypatch):
    def counted():
        return sum(value for _, value in METRICS.collect()[UPLINK_IMPOSTORS.name])

    monkeypatch.setenv("CROSSBAR_CLUSTER_MASTER_KEY", str(tmp_path / "not there yet"))
    METRICS.begin(UPLINK_IMPOSTORS)
    before = counted()
    early = node()
    assert early.challenged(proof_of(MASTER, early)) is None and early.told()
    assert counted() == before, "that is the node's own trouble"
    monkeypatch.setenv("CROSSBAR_CLUSTER_MASTER_KEY", public(MASTER))
    stranger = node()
    assert stranger.challenged(proof_of(OTHER, stranger)) is None
    assert counted() == before + 1


def test_a_file_that_is_to_name_the_master_and_is_not_there_yet_is_waited_for(node, tmp_path, monkeypatch):
    monkeypatch.setenv("CROSSBAR_CLUSTER_MASTER_KEY", str(tmp_path / "shown" / "key.pub"))
    early = node()
    assert early.challenged(proof_of(MASTER, early)) is None
    assert "CROSSBAR_CLUSTER_MASTER_KEY" in early.told()[0]
    (tmp_path / "shown").mkdir()
    (tmp_path / "shown" / "key.pub").write_text(
        f"Crossbar.io node public key\n\npublic-key-ed25519: {public(MASTER)}\n"
    )
    later = node()
    assert later.challenged(proof_of(MASTER, later)) and later.welcomed()
    assert not (tmp_path / "master.pub").exists(), "the operator says who it is"


@pytest.mark.parametrize("written", ["", "public-key-ed25519: ab\n", "nonsense", "\xff"])
def test_a_file_that_is_broken_is_no_reason_to_take_anybody(tmp_path, written):
    (tmp_path / "master.pub").write_bytes(written.encode("latin-1"))
    with pytest.raises(InvalidSetting):
        known_master(str(tmp_path), {})


# -- the master -------------------------------------------------------------------------------------------------------


def asked(tmp_path, authextra, principal=None, channel_id=None):
    """The CHALLENGE for a HELLO to a master, and the pending authentication, which expects the answer."""
    from crossbar.router.auth.cryptosign import PendingAuthCryptosign

    (tmp_path / "key.priv").write_text(f"private-key-ed25519: {bytes(MASTER).hex()}\n")
    told = principal or {"pubkey": public(NODE), "realm": "default", "authid": "node1", "role": "node", "extra": None}
    authenticator = SimpleNamespace(
        call=lambda *args: succeed(told), node_proven=lambda *args: {"x": 1}, pair_proven=lambda *args: None,
        refusal=lambda *args: None, _realm="r", _session_id=1, _authid="a", _authrole="t",
    )  # fmt: skip
    container = SimpleNamespace(
        config=SimpleNamespace(extra=SimpleNamespace(cbdir=str(tmp_path))),
        has_realm=lambda realm: True, has_role=lambda realm, role: True,
        get_service_session=lambda realm, role: succeed(authenticator),
    )  # fmt: skip
    over = TransportDetails(channel_id={"tls-unique": channel_id} if channel_id else {})
    config = {"type": "dynamic", "authenticator": "x", "authenticator-realm": "r", "authenticator-role": "t"}
    pending = PendingAuthCryptosign(1, over, container, config)
    pending.log = Log()
    details = SimpleNamespace(authid=None, authrole=told["role"], authextra=authextra)
    answers = []
    pending.hello(None, details).addCallback(answers.append)
    [challenge] = answers
    assert isinstance(challenge, Challenge), challenge
    return challenge, pending


def test_released_halves_understand_each_other(node, tmp_path):
    from autobahn.wamp.types import Accept

    joining = node()
    remember(joining.directory, public(MASTER))
    challenge, pending = asked(tmp_path, joining.hello.authextra)
    json.dumps(challenge.extra)
    signature = joining.challenged(challenge.extra)
    assert isinstance(pending.authenticate(signature), Accept)
    assert joining.welcomed()


def test_the_binding_to_a_tls_channel_stays(tmp_path):
    nonce, channel_id = os.urandom(32), os.urandom(32)
    extra = {PART: {"version": 1, "nonce": nonce.hex()}, "channel_binding": "tls-unique"}
    challenge, pending = asked(tmp_path, extra, channel_id=channel_id)
    bound = bytes(a ^ b for a, b in zip(bytes.fromhex(challenge.extra["challenge"]), channel_id, strict=True))
    assert pending._expected_signed_message == bound


@pytest.mark.parametrize(
    ("authextra", "role"),
    [
        (None, "node"),
        ({"pubkey": "ab"}, "node"),
        ({PART: {"version": 1}}, "node"),
        ({PART: 7}, "node"),
        ({PART: {"version": 1, "nonce": "00" * 32}}, "owner"),
    ],
    ids=["nothing", "the plain release", "no nonce", "no part", "a user"],
)
def test_others_get_the_challenge_of_the_release(tmp_path, authextra, role):
    principal = {"pubkey": public(NODE), "realm": "default", "authid": "a", "role": role, "extra": None}
    challenge, _ = asked(tmp_path, authextra, principal)
    assert set(challenge.extra) == {"challenge", "channel_binding"}
