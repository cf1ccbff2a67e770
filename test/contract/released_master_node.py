"""What a master does for its uplinks and its own workers: pings, and a restart when one of them has died."""

import copy
import json
import signal
from importlib.resources import files
from types import SimpleNamespace

import pytest
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.task import Clock

from crossbar_cluster.node import restart
from crossbar_cluster.node.pings import quicken_master


class Reactor(Clock):
    """A clock that also takes system event triggers."""

    def __init__(self):
        super().__init__()
        self.triggers = []
        self.stopped = False

    def addSystemEventTrigger(self, phase, event, function, *args):
        self.triggers.append((phase, event, lambda: function(*args)))

    def fire(self, phase):
        for when, _, function in self.triggers:
            if when == phase:
                function()

    def stop(self):
        self.stopped = True

    def callFromThread(self, function, *args):
        function(*args)


class Log:
    """Keeps what it is told, filled in."""

    def __init__(self):
        self.lines = []

    def info(self, text, **values):
        self.lines.append(text.format(**values))

    warn = error = debug = info

    def failure(self, text="", failure=None, **values):
        self.lines.append(f"failure: {failure}")

    def matching(self, part):
        return [line for line in self.lines if part in line]


BUILTIN = json.loads((files("crossbar") / "master/node/config.json").read_text())


def pings(config):
    options = config["workers"][0]["transports"][2]["paths"]["ws"]["options"]
    return options["auto_ping_interval"], options["auto_ping_timeout"]


@pytest.mark.parametrize(
    "said, expected",
    [
        ({}, (4000, 5000)),
        ({"open_handshake_timeout": 9000}, (4000, 5000)),
        ({"auto_ping_interval": 10000}, (10000, 5000)),
        ({"auto_ping_interval": 20000, "auto_ping_timeout": 9000}, (20000, 9000)),
    ],
)
def test_the_master_pings_every_four_seconds_unless_the_operator_says_otherwise(tmp_path, said, expected):
    from crossbar._util import merge_config

    own = {"version": 2, "workers": [{"transports": ["COPY", "COPY", {"paths": {"ws": {"options": said}}}]}, "COPY"]}
    file = tmp_path / "config.json"
    file.write_text(json.dumps(own))
    config = merge_config(BUILTIN, own)
    quicken_master(config, BUILTIN, file)
    assert pings(config) == expected


def test_without_a_file_of_its_own_too():
    config = copy.deepcopy(BUILTIN)
    quicken_master(config, BUILTIN, None)
    assert pings(config) == (4000, 5000)
    assert config["workers"][1] == BUILTIN["workers"][1]


@pytest.fixture
def master(monkeypatch):
    monkeypatch.delenv("CROSSBAR_CLUSTER_RESTARTS", raising=False)
    monkeypatch.setattr(restart.time, "monotonic", lambda: reactor.seconds())
    reactor = Reactor()
    node = SimpleNamespace(
        _reactor=reactor,
        _controller=SimpleNamespace(_shutdown_requested=False, _workers={}),
        _bridge_session=SimpleNamespace(_container_workers={"cfcontainer1": {}}),
        log=Log(),
        restarts=0,
    )

    def stop(restart):
        node.restarts += restart
        node._controller._shutdown_requested = True
        return succeed(None)

    node.stop = stop
    return node


def watch(master):
    master._controller._shutdown_requested = False
    return restart.MasterWorkers(master, frozenset({"cfrouter1", "cfrealmmanager1"}))


@pytest.mark.parametrize("worker", ["cfrouter1", "cfrealmmanager1", "cfcontainer1"])
def test_the_death_of_a_worker_restarts_the_master_once(master, worker):
    killed = []

    def gone(signal):
        raise ProcessExitedAlready

    for name, kill in (("gone", gone), ("other", killed.append)):
        proto = SimpleNamespace(transport=SimpleNamespace(signalProcess=kill))
        master._controller._workers[name] = SimpleNamespace(proto=proto, id=name)
    master._controller._workers["begun"] = SimpleNamespace(proto=None, id="begun")
    watching = watch(master)
    watching.ended(worker)
    watching.ended("cfrouter1")
    master._reactor.advance(0)
    assert master.restarts == 1 and len(master.log.matching(f"worker {worker} has died")) == 1
    master._reactor.advance(restart.END_WORKERS_WITHIN_S)
    assert killed == ["KILL"]


@pytest.mark.parametrize("worker", ["cfrouter1", "cfcontainer1"])
def test_a_worker_that_dies_before_it_is_ready_does_so_too(master, worker):
    ready = Deferred()
    master._controller._workers[worker] = SimpleNamespace(ready=ready)
    master._bridge_session._container_workers = {}
    watch(master).begun(worker)
    ready.errback(RuntimeError("exit code 1"))
    passed_on = []
    ready.addErrback(passed_on.append)
    del master._controller._workers[worker]
    master._reactor.advance(0)
    assert master.restarts == 1 and passed_on


def test_the_operators_own_worker_and_a_shutdown_do_not(master):
    watching = watch(master)
    watching.ended("mine")
    master._controller._shutdown_requested = True
    watching.ended("cfrouter1")
    master._controller._shutdown_requested = False
    master._reactor.fire("before")
    watching.ended("cfrouter1")
    master._reactor.advance(60)
    assert master.restarts == 0 and not master.log.lines


def test_restarts_in_a_row_slow_down_and_a_long_life_ends_the_row(master):
    pauses = []
    for life_s in (0, 0, 0, 0, 0, 0, 100, 0):
        watching = watch(master)
        master._reactor.advance(life_s)
        watching.ended("cfrouter1")
        before, restarts = master._reactor.seconds(), master.restarts
        while master.restarts == restarts:
            master._reactor.advance(0.5 if master._reactor.seconds() > before or pauses else 0)
        pauses.append(master._reactor.seconds() - before)
    assert pauses == pytest.approx([0, 1, 2, 4, 8, 10, 0.5, 1], abs=0.5)


def test_a_shutdown_that_fails_restarts_all_the_same(master):
    master.stop = lambda restart: fail(RuntimeError("no"))
    watch(master).ended("cfrouter1")
    master._reactor.advance(0)
    assert master._reactor.stopped


def test_the_released_master_hands_the_end_of_its_workers_over(monkeypatch):
    from crossbar.master.node.node import FabricCenterNode

    node = FabricCenterNode.__new__(FabricCenterNode)
    node._realm, node._router_factory = "crossbar", SimpleNamespace(drop_role=lambda *args: None)
    ended = []
    node._worker_watch = SimpleNamespace(ended=ended.append)
    node._drop_worker_role("crossbar.worker.cfrouter1")
    assert ended == ["cfrouter1"]


def test_a_restart_executes_the_same_command_after_everything_else(monkeypatch):
    node = SimpleNamespace(_reactor=Reactor())
    restart.restart_after_shutdown(node)
    restart.restart_after_shutdown(node)
    assert [(phase, event) for phase, event, _ in node._reactor.triggers] == [("after", "shutdown")]
    executed = []
    monkeypatch.setattr(restart.os, "execv", lambda *args: executed.append(args))
    monkeypatch.setattr(restart.sys, "orig_argv", ["python3", "/usr/bin/crossbar", "master", "start"])
    node._reactor.fire("after")
    assert executed == [(restart.sys.executable, [restart.sys.executable, "/usr/bin/crossbar", "master", "start"])]


def test_a_node_that_is_told_to_end_while_it_restarts_ends(monkeypatch):
    from crossbar_cluster.node.draining import end_at_second_signal

    monkeypatch.setattr(signal, "getsignal", lambda number: signal.SIG_DFL)
    handlers = {}
    monkeypatch.setattr(signal, "signal", handlers.__setitem__)
    monkeypatch.setattr(restart.os, "execv", lambda *args: pytest.fail("begun anew"))
    controller, complete = SimpleNamespace(_shutdown_requested=False), Deferred()
    node = SimpleNamespace(
        _reactor=Reactor(),
        _controller=controller,
        _shutdown_complete=complete,
        _boot_complete=succeed(None),
        log=Log(),
    )
    end_at_second_signal(node)
    restart.restart_after_shutdown(node)
    handlers[signal.SIGTERM](signal.SIGTERM, None)
    assert node._reactor.stopped and controller._shutdown_requested
    node._reactor.fire("after")
    assert complete.result == {"was_clean": True}
    assert len(node.log.matching("Received SIGTERM")) == 1
    assert node._shutdown_complete is None, "the release completes it, if there is one: a second time"


def test_only_the_second_signal_of_a_kind_ends_a_node_at_once(monkeypatch):
    """`crossbar stop` sends SIGINT, and after 5 s SIGTERM."""
    from crossbar_cluster.node import draining

    monkeypatch.setattr(signal, "getsignal", lambda number: signal.SIG_DFL)
    handlers, exits = {}, []
    monkeypatch.setattr(signal, "signal", handlers.__setitem__)
    monkeypatch.setattr(draining, "_end", lambda node, signum: None)
    monkeypatch.setattr(draining.os, "_exit", exits.append)
    draining.end_at_second_signal(SimpleNamespace(_reactor=Reactor(), _controller=SimpleNamespace(_workers={})))
    for number in (signal.SIGINT, signal.SIGTERM):
        handlers[number](number, None)
    assert not exits
    handlers[signal.SIGTERM](signal.SIGTERM, None)
    assert exits == [128 + signal.SIGTERM]


# -- the key that it is given ---------------------------------------------------------------------------------------


def given(tmp_path, monkeypatch, text=None):
    """A master's directory without a key, and a file with one. :returns: its directory, and the key's public half."""
    from crossbar.common.key import _maybe_generate_node_key
    from crossbar_cluster.core.keyfile import parse_tags
    from crossbar_cluster.node.own_key import VARIABLE

    (tmp_path / "given").mkdir()
    _maybe_generate_node_key(str(tmp_path / "given"))
    file = tmp_path / "given" / "key.priv"
    public = parse_tags(file.read_text())["public-key-ed25519"]
    if text is not None:
        file.write_text(text)
    monkeypatch.setenv(VARIABLE, str(file))
    (tmp_path / "master").mkdir()
    return tmp_path / "master", public


def released_master(log):
    from crossbar.master.node.node import FabricCenterNode

    master = FabricCenterNode.__new__(FabricCenterNode)
    master._node_secmod, master.log = None, log
    return master


def public_key_of(master):
    master.secmod.open()
    return master.secmod[1].public_key(binary=False)


def test_a_master_takes_the_key_that_it_is_given(tmp_path, monkeypatch):
    cbdir, public = given(tmp_path, monkeypatch)
    master = released_master(Log())
    master.load_keys(str(cbdir))
    assert public_key_of(master) == public
    assert (cbdir / "key.priv").stat().st_mode & 0o777 == 0o600


def test_a_master_keeps_the_key_that_it_has_and_says_so(tmp_path, monkeypatch):
    from crossbar.common.key import _maybe_generate_node_key

    cbdir, public = given(tmp_path, monkeypatch)
    _maybe_generate_node_key(str(cbdir))
    master = released_master(Log())
    master.load_keys(str(cbdir))
    assert public_key_of(master) != public
    [line] = master.log.matching("keeps its own key")
    assert public in line and "delete that Secret, or replace it by this node's own key.priv" in line


@pytest.mark.parametrize("text", ["", "nonsense", "private-key-ed25519: ab"])
def test_a_master_does_not_start_with_another_key_than_it_is_given(tmp_path, monkeypatch, text):
    cbdir, _ = given(tmp_path, monkeypatch, text)
    with pytest.raises(SystemExit, match="CROSSBAR_CLUSTER_KEY_FILE"):
        released_master(Log()).load_keys(str(cbdir))
    assert not (cbdir / "key.priv").exists()


BROKEN = {
    "another's public key": (r"public-key-ed25519: .*", "public-key-ed25519: " + "ab" * 32, "public key"),
    "no public key": (r"public-key-ed25519: .*\n", "", "public-key-ed25519"),
    "a short private key": (r"private-key-ed25519: .*", "private-key-ed25519: abcd", "private-key-ed25519"),
    "no creator": (r"creator: .*\n", "", "creator"),
    "no created-at": (r"created-at: .*\n", "", "created-at"),
    "no machine-id": (r"machine-id: .*\n", "", "machine-id"),
    "no title": (r"\A.*\n\n", "", "title line"),
    "another tag": (r"creator:", "maker: me\ncreator:", "maker"),
    "a tag twice": (r"creator:", "creator: me\ncreator:", "creator"),
    "no tag": (r"creator:", "words\ncreator:", "line 3"),
    "another's address": (r"public-adr-eth: .*", "public-adr-eth: 0x" + "ab" * 20, "public-adr-eth"),
}


@pytest.mark.parametrize("how", BROKEN)
def test_a_given_key_that_the_release_would_not_load_is_not_put_in_place(tmp_path, monkeypatch, how):
    import re

    cbdir, public = given(tmp_path, monkeypatch)
    file = tmp_path / "given" / "key.priv"
    good = file.read_text()
    pattern, instead, wrong = BROKEN[how]
    file.write_text(re.sub(pattern, instead, good, count=1))
    assert file.read_text() != good
    with pytest.raises(SystemExit) as refused:
        released_master(Log()).load_keys(str(cbdir))
    said = str(refused.value)
    assert str(file) in said and wrong in said and str(cbdir) not in said, said
    assert list(cbdir.iterdir()) == []
    file.write_text(good)  # put right
    master = released_master(Log())
    master.load_keys(str(cbdir))
    assert public_key_of(master) == public


def test_a_given_key_is_not_taken_beside_the_public_key_of_another(tmp_path, monkeypatch):
    from crossbar.common.key import _maybe_generate_node_key

    cbdir, _ = given(tmp_path, monkeypatch)
    _maybe_generate_node_key(str(cbdir))
    (cbdir / "key.priv").unlink()
    with pytest.raises(SystemExit, match=r"key\.pub is there"):
        released_master(Log()).load_keys(str(cbdir))
    assert [file.name for file in cbdir.iterdir()] == ["key.pub"]


def test_a_master_that_is_given_none_makes_one(tmp_path, monkeypatch):
    monkeypatch.setenv("CROSSBAR_CLUSTER_KEY_FILE", str(tmp_path / "not there"))
    master = released_master(Log())
    master.load_keys(str(tmp_path))
    assert (tmp_path / "key.priv").exists()
