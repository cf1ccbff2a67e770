"""Whatever a HELLO says, a router worker neither raises nor lets anybody in. On the released class, with the patch."""

from types import SimpleNamespace

import pytest
from autobahn.wamp.types import Accept, Challenge, Deny, TransportDetails
from hypothesis import given, settings
from hypothesis import strategies as st
from nacl.signing import SigningKey

from crossbar_cluster.core.proof import PART, hello_part

KEY = SigningKey(bytes(32))
PUBLIC = KEY.verify_key.encode().hex()
PRINCIPALS = {"proxy1": {"role": "rlink", "authorized_keys": [PUBLIC]}}
GOOD = {
    "pubkey": PUBLIC,
    "proxy_realm": "realm1",
    "proxy_authid": "a",
    "proxy_authrole": "anonymous",
    "proxy_authextra": {"x": 1},
    PART: hello_part(bytes(32)),
}
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=70) | st.binary(max_size=40),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)


class Log:
    def __getattr__(self, name):
        assert name in ("info", "debug", "warn"), f"log.{name}"
        return lambda *args, **kwargs: None


class Worker:
    """A router worker with one realm that has one role."""

    roles = {"anonymous", "rlink", "trusted"}  # noqa: RUF012

    def __init__(self, directory):
        self.config = SimpleNamespace(extra=SimpleNamespace(node="router1", worker="w1", cbdir=str(directory)))
        self.awaited = None  #: a router that clients have to wait for
        links = SimpleNamespace(awaited=lambda: self.awaited)
        self._router_factory = {"realm1": SimpleNamespace(links=links)}

    def has_realm(self, realm):
        return realm == "realm1"

    def has_role(self, realm, role):
        return role in self.roles


def pending(tmp_path, principals=PRINCIPALS, config=None):
    from crossbar.router.auth.cryptosign import PendingAuthCryptosignProxy

    if not (tmp_path / "key.priv").exists():
        (tmp_path / "key.priv").write_text(f"private-key-ed25519: {'11' * 32}\n")
    details = SimpleNamespace(channel_id={}, marshal=dict)
    config = config or {"type": "static", "principals": principals}
    auth = PendingAuthCryptosignProxy(1, details, Worker(tmp_path), config)
    auth.log = Log()
    return auth


def hello(auth, realm="realm1", authid="proxy1", authextra=GOOD):
    return auth.hello(realm, SimpleNamespace(authid=authid, authrole=None, authextra=authextra))


def signature(challenge: Challenge, key=KEY) -> str:
    asked = bytes.fromhex(challenge.extra["challenge"])
    return (key.sign(asked).signature + asked).hex()


def test_who_has_the_key_gets_in_as_the_client_that_it_names(tmp_path):
    auth = pending(tmp_path)
    accepted = auth.authenticate(signature(hello(auth)))
    assert isinstance(accepted, Accept)
    assert (accepted.realm, accepted.authid, accepted.authrole) == ("realm1", "a", "anonymous")
    assert accepted.authextra == {"x": 1}
    assert isinstance(auth.authenticate(signature(hello(pending(tmp_path)))), Deny), "once"


def test_what_has_changed_since_hello_counts(tmp_path):
    principals = dict(PRINCIPALS)
    auth = pending(tmp_path, principals)
    signed = signature(hello(auth))
    principals.clear()
    assert isinstance(auth.authenticate(signed), Deny)


def test_the_client_s_tls_channel_is_known_by_its_id(tmp_path):
    """The released router cannot read it as the proxy has it, and then tells nobody of the session."""
    over = TransportDetails(channel_type=TransportDetails.CHANNEL_TYPE_TLS, channel_id={"tls-unique": bytes(range(32))})
    auth = pending(tmp_path)
    extra = GOOD | {"proxy_authextra": {"x": 1, "transport": over.marshal()}}
    accepted = auth.authenticate(signature(hello(auth, authextra=extra)))
    assert isinstance(accepted, Accept), accepted
    assert accepted.authextra["x"] == 1
    assert TransportDetails.parse(accepted.authextra["transport"]).channel_id == {"tls-unique": bytes(range(32))}


@settings(deadline=None, max_examples=200)
@given(anything | st.dictionaries(st.sampled_from(list(TransportDetails().marshal())), anything))
def test_a_transport_is_one_that_the_router_can_read_or_is_refused(tmp_path_factory, transport):
    extra = GOOD | {"proxy_authextra": {"transport": transport}}
    auth = pending(tmp_path_factory.getbasetemp())
    answer = hello(auth, authextra=extra)
    if isinstance(answer, Deny):
        assert "transport" in answer.message
    else:
        TransportDetails.parse(auth.authenticate(signature(answer)).authextra["transport"])


class Session:
    """One of a router, that has come through a node."""

    def __init__(self, auth, goodbye_sent=False, fails=False):
        self._pending_auth = auth
        self._goodbye_sent = goodbye_sent
        self._fails = fails
        self._transport = SimpleNamespace(isOpen=lambda: not self.closed, close=self._close)
        self.closed, self.left = False, None

    def _close(self):
        self.closed = True

    def leave(self, reason, message):
        assert not self._goodbye_sent, "the released session raises"
        self.left = reason

    def onMessage(self, message):
        if self._fails:
            raise RuntimeError("a session that is broken")


def test_new_principals_end_the_sessions_of_others_and_no_more(tmp_path):
    from crossbar_cluster.node.router_worker import update_principals

    def let_in(principals):
        auth = pending(tmp_path, principals)
        assert isinstance(auth.authenticate(signature(hello(auth))), Accept)
        return auth

    ours, elsewhere = dict(PRINCIPALS), dict(PRINCIPALS)  # of two listeners
    stubborn, broken = Session(let_in(ours), goodbye_sent=True), Session(let_in(ours), fails=True)
    foreign, other, own = Session(let_in(ours)), Session(let_in(elsewhere)), Session(None)
    sessions = dict(enumerate((stubborn, broken, foreign, other, own)))
    config = {"config": {"auth": {"cryptosign-proxy": {"principals": ours}}}}
    controller = SimpleNamespace(
        transports={"t": SimpleNamespace(marshal=lambda: config)},
        realms={"r": SimpleNamespace(router=SimpleNamespace(_session_id_to_session=sessions))},
        log=SimpleNamespace(warn=lambda *a, **k: None, error=lambda *a, **k: None),
    )
    update_principals(
        controller, "t", dict(PRINCIPALS) | {"another": {"role": "rlink", "authorized_keys": ["11" * 32]}}
    )
    assert not any(session.closed for session in sessions.values()), "it is still among them"
    update_principals(controller, "t", {"proxy1": {"role": "rlink", "authorized_keys": ["11" * 32]}})
    assert [session.closed for session in sessions.values()] == [True, True, True, False, False]
    assert foreign.left == "wamp.close.auth-changed"


@pytest.mark.parametrize("principals", [PRINCIPALS, {}])
def test_nobody_authenticates_without_a_challenge(tmp_path, principals):
    auth = pending(tmp_path, principals)
    assert isinstance(hello(auth, authid="nobody"), Deny)
    assert isinstance(auth.authenticate("00" * 96), Deny)


@settings(deadline=None, max_examples=300)
@given(st.dictionaries(st.sampled_from([*GOOD, "x"]), anything), anything, anything)
def test_no_hello_raises_or_is_accepted(tmp_path_factory, changes, realm, authid):
    tmp_path = tmp_path_factory.getbasetemp()
    for extra, asked, node in ((GOOD | changes, "realm1", "proxy1"), (GOOD, realm, "proxy1"), (GOOD, "realm1", authid)):
        answer = hello(pending(tmp_path), asked, node, extra)
        assert isinstance(answer, Deny | Challenge)
        assert not isinstance(answer, Deny) or answer.message
    for extra in (changes, realm, None):
        assert isinstance(hello(pending(tmp_path), authextra=extra), Deny)


@settings(deadline=None, max_examples=200)
@given(anything | st.binary(min_size=96, max_size=96).map(bytes.hex))
def test_no_other_signature_is_accepted(tmp_path_factory, given_signature):
    auth = pending(tmp_path_factory.getbasetemp())
    assert isinstance(hello(auth), Challenge)
    assert isinstance(auth.authenticate(given_signature), Deny)


def test_a_proxy_that_cannot_prove_anything(tmp_path, monkeypatch):
    unproven = {name: value for name, value in GOOD.items() if name != PART}
    denied = hello(pending(tmp_path), authextra=unproven)
    assert isinstance(denied, Deny)
    assert "proxy1" in denied.message and "upgrade" in denied.message
    monkeypatch.setenv("CROSSBAR_CLUSTER_UNPROVEN_PROXIES", "accept")
    assert isinstance(hello(pending(tmp_path), authextra=unproven), Accept)
    assert isinstance(hello(pending(tmp_path), authextra=unproven | {"proxy_authrole": "trusted"}), Deny)
    assert isinstance(hello(pending(tmp_path)), Challenge), "who can is asked all the same"


LINK = GOOD | {"proxy_authrole": "rlink", PART: hello_part(bytes(32), "w2")}


def linking(tmp_path, routers=("proxy1",)):
    auth = pending(tmp_path)
    auth._backend_auth._routers = routers
    return auth


def test_a_router_that_may_link_itself_proves_its_key_and_is_told_which_life_it_has_met(tmp_path):
    from crossbar_cluster.node.backend_auth import LIFE_EXTRA, linked_worker_of
    from crossbar_cluster.node.router_worker import LIFE

    auth = linking(tmp_path)
    accepted = auth.authenticate(signature(hello(auth, authextra=LINK)))
    assert isinstance(accepted, Accept) and accepted.authrole == "rlink"
    assert accepted.authextra == {LIFE_EXTRA: LIFE}
    assert linked_worker_of(Session(auth)) == ("proxy1", "w2")
    assert linked_worker_of(Session(pending(tmp_path))) is None and linked_worker_of(object()) is None
    wrong = linking(tmp_path)
    hello(wrong, authextra=LINK)
    assert isinstance(wrong.authenticate("00" * 96), Deny)


@pytest.mark.parametrize(
    ("routers", "extra"),
    [
        pytest.param((), LINK, id="a-node-that-has-no-router-of-the-group"),
        pytest.param(("proxy1",), LINK | {"proxy_authrole": "anonymous"}, id="a-link-with-the-role-of-clients"),
        pytest.param(("proxy1",), GOOD | {"proxy_authrole": "rlink"}, id="a-client-with-the-role-of-links"),
        pytest.param(("proxy1",), LINK | {PART: {"version": 1, "linked_worker": "w2"}}, id="without-a-nonce"),
        pytest.param(("proxy1",), LINK | {PART: {**LINK[PART], "linked_worker": ""}}, id="without-a-worker"),
        pytest.param(("proxy1",), LINK | {PART: {**LINK[PART], "linked_worker": 7}}, id="with-a-worker-of-no-name"),
    ],
)
def test_nobody_else_gets_a_link(tmp_path, monkeypatch, routers, extra):
    for unproven in ("refuse", "accept"):  # what proxies may do without a proof, routers may not
        monkeypatch.setenv("CROSSBAR_CLUSTER_UNPROVEN_PROXIES", unproven)
        assert isinstance(hello(linking(tmp_path, routers), authextra=extra), Deny)
        without = {name: value for name, value in extra.items() if name != PART}
        if without["proxy_authrole"] == "rlink":
            assert isinstance(hello(linking(tmp_path, routers), authextra=without), Deny)


def test_clients_wait_for_a_router_that_is_about_to_be_linked_and_links_do_not(tmp_path):
    auth = linking(tmp_path)
    auth._realm_container.awaited = "router2 w2"
    denied = hello(auth)
    assert isinstance(denied, Deny)
    assert denied.reason == "wamp.error.unavailable" and "router2 w2" in denied.message
    assert isinstance(hello(auth, authextra=LINK), Challenge)


def test_a_node_that_has_no_router_of_the_group_any_more_keeps_no_link(tmp_path):
    from crossbar_cluster.node.router_worker import update_principals

    config = {"type": "static", "principals": dict(PRINCIPALS), "routers": ["proxy1"]}
    link, client = pending(tmp_path, config=config), pending(tmp_path, config=config)
    assert isinstance(link.authenticate(signature(hello(link, authextra=LINK))), Accept)
    assert isinstance(client.authenticate(signature(hello(client))), Accept)
    sessions = [Session(link), Session(client)]
    transport = SimpleNamespace(marshal=lambda: {"config": {"auth": {"cryptosign-proxy": config}}})
    controller = SimpleNamespace(
        transports={"t": transport},
        realms={"r": SimpleNamespace(router=SimpleNamespace(_session_id_to_session=dict(enumerate(sessions))))},
        log=SimpleNamespace(warn=lambda *a, **k: None, error=lambda *a, **k: None),
    )
    update_principals(controller, "t", dict(PRINCIPALS), ["proxy1"])
    assert [session.closed for session in sessions] == [False, False]
    update_principals(controller, "t", dict(PRINCIPALS), [])
    assert [session.closed for session in sessions] == [True, False]


@pytest.mark.parametrize(
    ("realms", "comes_in"),
    [
        ({"proxy1": ["realm1"]}, True),
        ({"proxy1": ["realm2"]}, False),
        ({"proxy2": ["realm1"]}, False),
        ({}, False),
        (None, True),  # a master of a version before does not say
    ],
)
def test_a_proxy_brings_clients_of_the_realms_that_its_web_clusters_serve(tmp_path, realms, comes_in):
    config = {"type": "static", "principals": PRINCIPALS} | ({} if realms is None else {"realms": realms})
    auth = pending(tmp_path, config=config)
    answer = hello(auth)
    assert isinstance(answer, Challenge if comes_in else Deny)
    if not comes_in:
        assert "serves realm realm1" in answer.message and answer.reason == "wamp.error.unavailable"


def test_realms_are_told_while_it_listens_and_count_at_once(tmp_path):
    from crossbar_cluster.node.router_worker import update_principals

    method = {"type": "static", "principals": dict(PRINCIPALS), "routers": []}
    config = {"config": {"auth": {"cryptosign-proxy": method}}}
    transport = SimpleNamespace(marshal=lambda: config)
    controller = SimpleNamespace(transports={"t": transport}, realms={}, log=Log())
    auth = pending(tmp_path, config=method)
    signed = signature(hello(auth))
    update_principals(controller, "t", dict(PRINCIPALS), [], {"proxy1": ["realm2"]})
    assert isinstance(auth.authenticate(signed), Deny)
    update_principals(controller, "t", dict(PRINCIPALS), [])  # by a master of a version before
    assert "realms" not in method
    assert isinstance(hello(pending(tmp_path, config=method)), Challenge)


def test_links_of_routers_are_of_no_web_cluster(tmp_path):
    config = {"type": "static", "principals": PRINCIPALS, "routers": ["proxy1"], "realms": {}}
    extra = GOOD | {"proxy_authrole": "rlink", PART: hello_part(bytes(32), "w2")}
    assert isinstance(hello(pending(tmp_path, config=config), authextra=extra), Challenge)


def test_a_listener_of_the_release_takes_what_the_master_tells_of_realms():
    """Of any version: what it does not know it passes over, beside the principals; within them it would not."""
    from crossbar.common.checkconfig import InvalidConfigException, check_transport_auth_cryptosign

    told = {"type": "static", "principals": PRINCIPALS, "routers": [], "realms": {"proxy1": ["realm1"]}}
    check_transport_auth_cryptosign(told)
    within = {"type": "static", "principals": {"proxy1": PRINCIPALS["proxy1"] | {"realms": ["realm1"]}}}
    with pytest.raises(InvalidConfigException):
        check_transport_auth_cryptosign(within)


def test_a_worker_says_who_may_connect_as_its_master_knows_it_of_either_version():
    """Else a master would go on updating it for ever."""
    from uuid import UUID

    from crossbar_cluster.core.digest import digest
    from crossbar_cluster.core.router import DesiredRouter, ObservedRouter
    from crossbar_cluster.core.worker import WorkerKey
    from crossbar_cluster.node.router_worker import _access, update_principals

    peers, serves = (("proxy1", PUBLIC), ("router2", "11" * 32)), (("proxy1", ("realm1",)),)
    desired = DesiredRouter(WorkerKey(UUID(int=1), "w1"), "router1", (), peers, (), ("router2",), serves)
    method = {"type": "static", "principals": {}, "routers": []}
    transport = SimpleNamespace(marshal=lambda: {"config": {"auth": {"cryptosign-proxy": method}}})
    controller = SimpleNamespace(transports={"t": transport}, realms={}, log=Log())
    for observed, arguments in ((ObservedRouter(), 3), (ObservedRouter(by_realm=False), 2)):
        told = desired.access_on(observed)
        assert len(told) == arguments
        update_principals(controller, "t", *told)
        assert digest(_access(method)) == digest(told)
