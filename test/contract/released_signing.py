"""The node's key signs for the node's own workers. On the released controller, without a network."""

from types import SimpleNamespace

import pytest
from autobahn.wamp.exception import ApplicationError

from crossbar.edge.node.node import FabricNodeControllerSession


class Log:
    def __init__(self):
        self.lines = []

    def warn(self, text, **values):
        self.lines.append(text.format(**values))

    def info(self, text, **values):
        pass


class Controller(FabricNodeControllerSession):
    log = None

    def __init__(self):
        self._node = SimpleNamespace(
            secmod={
                1: SimpleNamespace(
                    sign=lambda data: b"signed " + data, sign_challenge=lambda *challenge: f"signed {challenge[1:]}"
                )
            }
        )
        self._workers = {"w1": SimpleNamespace(TYPE="router"), "p1": SimpleNamespace(TYPE="proxy")}
        self._workers["c1"] = SimpleNamespace(TYPE="container")
        self._realm = "crossbar"
        self.log = Log()


def caller(authrole):
    return SimpleNamespace(caller=7, caller_authid="somebody", caller_authrole=authrole)


def test_own_workers_get_signatures():
    controller = Controller()
    details = caller("crossbar.worker.w1")
    assert controller.sign(b"data", details=details) == b"signed data"
    in_container = caller("crossbar.worker.c1")
    assert controller.sign_challenge("cryptosign", {"challenge": "ab"}, None, None, details=in_container)
    signed = controller.sign_challenge("cryptosign", {"challenge": "ab"}, None, None, details=details)
    assert signed == "signed (None, None)" and not controller.log.lines


@pytest.mark.parametrize("role", ["trusted", "controller", "crossbar.worker.w2", "node", None])
def test_others_do_not_and_the_log_says_who_asked(role):
    controller = Controller()
    for ask in (
        lambda: controller.sign(b"data", details=caller(role)),
        lambda: controller.sign_challenge("cryptosign", {"challenge": "ab"}, None, None, details=caller(role)),
    ):
        with pytest.raises(ApplicationError) as refused:
            ask()
        assert refused.value.error == "wamp.error.not_authorized"
    assert len(controller.log.lines) == 2 and all(f"somebody (role {role}" in line for line in controller.log.lines)


@pytest.mark.parametrize("worker", ["w1", "p1"])
@pytest.mark.parametrize("data", [bytes(32), "ab" * 16, None])
def test_no_worker_gets_a_signature_that_could_prove_the_node_s_key(worker, data):
    """A client has only to ask for it, by a challenge of its own in its HELLO (WAMP-cryptosign, static)."""
    controller = Controller()
    with pytest.raises(ApplicationError) as refused:
        controller.sign(data, details=caller(f"crossbar.worker.{worker}"))
    assert refused.value.error == "wamp.error.not_authorized"
    [line] = controller.log.lines
    assert f"crossbar.worker.{worker}" in line


@pytest.mark.parametrize(("worker", "method"), [("w1", "cryptosign-proxy"), ("w1", None), ("p1", "cryptosign")])
def test_no_worker_gets_an_answer_to_a_challenge_that_it_need_not_answer(worker, method):
    controller = Controller()
    with pytest.raises(ApplicationError) as refused:
        asked = {"challenge": "ab" * 32}
        controller.sign_challenge(method, asked, None, None, details=caller(f"crossbar.worker.{worker}"))
    assert refused.value.error == "wamp.error.not_authorized"


def test_the_released_router_asks_for_it_when_its_client_does(tmp_path):
    """The premise: what a client says in its HELLO is what the node's key is to sign."""
    import txaio
    from nacl.signing import SigningKey

    txaio.use_twisted()
    from crossbar.router.auth.cryptosign import PendingAuthCryptosign

    asked, key = [], SigningKey(bytes(32)).verify_key.encode().hex()
    session = SimpleNamespace(call=lambda *args: asked.append(args) or txaio.create_future())
    container = SimpleNamespace(
        get_controller_session=lambda: session, has_realm=lambda realm: True, has_role=lambda realm, role: True
    )
    transport = SimpleNamespace(channel_id={}, marshal=dict)
    config = {"type": "static", "principals": {"a": {"role": "user", "authorized_keys": [key]}}}
    pending = PendingAuthCryptosign(1, transport, container, config)
    extra = {"pubkey": key, "challenge": "cd" * 32}
    pending.hello("realm1", SimpleNamespace(authid="a", authrole=None, authextra=extra))
    assert asked[0] == ("crossbar.sign", bytes.fromhex("cd" * 32))


def test_both_are_still_registered_as_procedures():
    for name in ("sign", "sign_challenge"):
        assert getattr(FabricNodeControllerSession, name)._wampuris


@pytest.mark.parametrize(
    ("details", "clean"),
    [
        (caller("trusted"), True),  # the master, or an operator through it
        (caller("crossbar.worker.w1"), None),  # a worker of a master, whose database is full
        (None, None),  # the controller itself, after a worker has failed
    ],
)
def test_a_node_that_is_told_to_end_has_not_failed(monkeypatch, details, clean):
    from crossbar.node.controller import NodeController

    controller = Controller()
    controller._shutdown_was_clean, controller._shutdown_requested = None, True
    controller.shutdown(details=details)  # the release's own does nothing twice
    assert controller._shutdown_was_clean is clean
    assert getattr(NodeController.shutdown, "_wampuris", None), "still a procedure"
