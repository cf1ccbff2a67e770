"""The operators' commands as processes of their own, asking a master that is made of a WAMP session and its answers."""

import asyncio
import contextlib
import json
import os
import pty
import signal
import ssl
import subprocess
import sys
import sysconfig
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import pytest_asyncio

from crossbar_cluster.operator.client import CBORSerializer  # first: it tells Autobahn to use asyncio

# isort: split
from autobahn.asyncio.websocket import WebSocketServerFactory, WebSocketServerProtocol
from autobahn.wamp import cryptosign, message, role
from autobahn.websocket.types import ConnectionDeny

MREALM = "crossbarfabriccenter.mrealm."
STATUS = MREALM + "get_cluster_status"
MOVED = {"group": "g", "worker": "g_1", "what": "moved", "from_node": "router1", "to_node": "router2"}
DOCUMENT = {
    "now": 1_795_000_000_000_000_000,
    "master": {
        "realm": "default",
        "started": 1_794_999_000_000_000_000,
        "crossbar": "26.10.1",
        "crossbar_cluster": "1.0.0",
        "passes": 1,
        "calls": 2,
        "failures": 3,
    },
    "nodes": [
        {
            "oid": "7c6b2f5e-5a7e-4a3e-9c07-0f1b6f9d2b11",
            "name": f"node-{'x' * 150}",
            "status": "online",
            "since": None,
            "address": "10.0.0.2",
            "address_source": "environment",
            "address_since": None,
        }
    ],
    "groups": [
        {
            "oid": "5f0c1f0e-54f3-4a51-8a46-0a3f8f0d7a01",
            "group": "g",
            "cluster_oid": "5f0c1f0e-54f3-4a51-8a46-0a3f8f0d7a02",
            "cluster": "c",
            "scale": 1,
            "placements": [{"node": "router1", "worker": "g_1"}],
        },
    ],
    "realms": [],
    "webclusters": [],
    "workers": [],
    "problems": [],
}


class Failing(Exception):
    """Answered as a WAMP error: URI, message."""


@dataclass
class FakeMaster:
    """Welcomes the one key it knows and answers calls from a table; keeps what it was asked."""

    directory: Path
    realms: tuple[str, ...] = ("default",)
    answers: dict = field(default_factory=lambda: {STATUS: DOCUMENT})
    calls: list = field(default_factory=list)
    url: str = ""

    def __post_init__(self) -> None:
        self.key = cryptosign.CryptosignKey.from_bytes(bytes(range(32)))
        self.key_file = self.write_key("default.priv", bytes(range(32)))
        self._server = None
        self._sessions: set = set()

    def write_key(self, name: str, secret: bytes) -> Path:
        file = self.directory / name
        file.write_text(f"Key of a user\n\nuser-id: superuser\nprivate-key-ed25519: {secret.hex()}\n")
        return file

    async def start(self, tls: ssl.SSLContext | None = None, port: int = 0) -> None:
        loop = asyncio.get_running_loop()
        factory = WebSocketServerFactory(protocols=["wamp.2.cbor"])
        factory.protocol = lambda: FakeSession(self)
        self._server = await loop.create_server(factory, "127.0.0.1", port, ssl=tls)
        self.port = self._server.sockets[0].getsockname()[1]
        self.url = f"{'wss' if tls else 'ws'}://127.0.0.1:{self.port}/ws"

    async def stop(self) -> None:
        self._server.close()
        for session in list(self._sessions):
            if session.transport is not None:
                session.transport.abort()


class FakeSession(WebSocketServerProtocol):
    def __init__(self, master: FakeMaster) -> None:
        super().__init__()
        self._master = master
        self._serializer = CBORSerializer()

    def onConnect(self, request):
        self._master._sessions.add(self)
        if request.path != "/ws":
            raise ConnectionDeny(404, "nothing here")
        return "wamp.2.cbor"

    def onMessage(self, payload, isBinary):
        for received in self._serializer.unserialize(payload, isBinary):
            answer = self._answer(received)
            if answer is not None:
                self.sendMessage(*self._serializer.serialize(answer))

    def _answer(self, received):
        master = self._master
        match received:
            case message.Hello():
                if received.realm not in master.realms:
                    return message.Abort("wamp.error.no_such_realm", "no such realm")
                if received.authextra["pubkey"] != master.key.public_key() or received.authid != "superuser":
                    return message.Abort("wamp.error.authentication_failed", "unknown key")
                return message.Challenge("cryptosign", {"challenge": "00" * 32})
            case message.Authenticate():
                roles = {"dealer": role.RoleDealerFeatures(), "broker": role.RoleBrokerFeatures()}
                return message.Welcome(1, roles, "default", "superuser", "user", "cryptosign")
            case message.Goodbye():
                return message.Goodbye()
            case message.Call():
                arguments = received.args or []
                master.calls.append((received.procedure.removeprefix(MREALM), *arguments))
                try:
                    if received.procedure not in master.answers:
                        raise Failing("wamp.error.no_such_procedure", "no callee registered")
                    answer = master.answers[received.procedure]
                    answer = answer(*arguments) if callable(answer) else answer
                    if isinstance(answer, Exception):
                        raise answer
                    return None if answer is None else message.Result(received.request, args=[answer])
                except Failing as e:
                    uri, *said = e.args
                    return message.Error(message.Call.MESSAGE_TYPE, received.request, uri, args=said)


@pytest_asyncio.fixture
async def master(tmp_path):
    fake = FakeMaster(tmp_path)
    await fake.start()
    yield fake
    await fake.stop()


def environment(**variables: str) -> dict[str, str]:
    left_out = ("CROSSBAR_FABRIC_URL", "FORCE_COLOR", "COLUMNS")
    return {k: v for k, v in os.environ.items() if k not in left_out} | variables


def command(*arguments: str) -> list[str]:
    return [str(Path(sysconfig.get_path("scripts")) / "crossbar-cluster"), *arguments]


async def run(*arguments: str, **variables: str) -> tuple[int, str, str]:
    """Run ``crossbar-cluster``. :returns: exit code, stdout, stderr."""
    process = await asyncio.create_subprocess_exec(
        *command(*arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(**variables)
    )
    out, err = await asyncio.wait_for(process.communicate(), 60)
    return process.returncode, out.decode(), err.decode()


async def ask(master: FakeMaster, *arguments: str, **variables: str) -> tuple[int, str, str]:
    return await run(*arguments, "--url", master.url, "--key", str(master.key_file), **variables)


async def test_a_converged_cluster(master):
    code, out, err = await ask(master, "status")
    assert (code, err) == (0, "")
    assert out.startswith("converged: 1 node, 0 realms")
    assert DOCUMENT["nodes"][0]["name"] in out  # on one line: there is no terminal that would be too narrow
    assert max(map(len, out.splitlines())) < 250
    assert master.calls == [("get_cluster_status",)]


async def test_a_cluster_that_is_not(master):
    master.answers[STATUS] = DOCUMENT | {"problems": [{"object": "realm1", "reason": "router1 is away"}]}
    code, out, err = await ask(master, "status")
    assert (code, err) == (1, "")
    assert [line.rstrip() for line in out.splitlines()[:2]] == ["not converged", "  realm1: router1 is away"]


@pytest.mark.parametrize("problems", [[], [{"object": "realm1", "reason": "router1 is away"}]])
async def test_json_is_the_answer_as_it_came(master, problems):
    master.answers[STATUS] = DOCUMENT | {"problems": problems, "of a later version": [1]}
    code, out, err = await ask(master, "status", "--json")
    assert (code, err) == (1 if problems else 0, "")
    assert json.loads(out) == master.answers[STATUS]


async def test_the_environment_names_master_and_key(master):
    (master.directory / ".crossbar").mkdir()
    master.key_file.rename(master.directory / ".crossbar" / "default.priv")
    code, _, err = await run("status", CROSSBAR_FABRIC_URL=master.url, HOME=str(master.directory))
    assert (code, err) == (0, "")


def certificate(directory: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1, signed by itself, and its key."""
    cert, key = directory / "cert.pem", directory / "key.pem"
    kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    name = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    arguments = [*kind, *name, "-days", "2", "-out", str(cert), "-keyout", str(key)]
    subprocess.run(["openssl", "req", "-x509", *arguments], check=True, capture_output=True)
    return cert, key


async def test_tls(tmp_path):
    try:
        cert, key = certificate(tmp_path)
    except FileNotFoundError:
        pytest.skip("there is no openssl command to make a certificate with")
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(cert, key)
    master = FakeMaster(tmp_path)
    await master.start(tls)
    try:
        code, out, err = await ask(master, "status", SSL_CERT_FILE=str(cert))
        assert (code, err) == (0, "")
        assert out.startswith("converged")
        code, out, err = await ask(master, "status")
        assert (code, out) == (2, "")
        assert "is not trusted: self-signed certificate" in err and "SSL_CERT_FILE" in err
    finally:
        await master.stop()


async def fails(*arguments, says, **variables):
    """The command cannot ask: exit code 2, one line on stderr that has every word of ``says``, nothing on stdout."""
    code, out, err = await run(*arguments, **variables)
    assert (code, out) == (2, ""), err
    assert err.count("\n") == 1
    for word in says:
        assert word in err


async def test_what_keeps_it_from_asking_is_one_clear_line(master, tmp_path):
    url, key = ("--url", master.url), ("--key", str(master.key_file))
    other = master.write_key("other.priv", bytes(32))
    (tmp_path / "no.key").write_text("nothing: at all\n")
    (tmp_path / "short.key").write_text("user-id: superuser\nprivate-key-ed25519: 00ff\n")
    (tmp_path / "node.key").write_text(f"node-authid: router1\nprivate-key-ed25519: {'00' * 32}\n")
    await fails("status", *url, "--key", str(other), says=["refuses the key", str(other), "superuser"])
    missing = str(tmp_path / "missing")
    await fails("status", *url, "--key", missing, says=[f"no key file {missing}", "crossbar shell init"])
    for broken in ("no.key", "short.key", "node.key"):
        await fails("status", *url, "--key", str(tmp_path / broken), says=["holds no private key"])
    await fails("status", *url, "--key", str(tmp_path), says=["cannot be read", str(tmp_path)])
    await fails("status", *url, *key, "--realm", "other", says=["no management realm 'other'", "--realm"])
    await fails("status", *key, "--url", "ws://127.0.0.1:9/ws", says=["not reachable", "127.0.0.1:9"])
    await fails("status", *key, "--url", "ws://no.invalid/ws", says=["not reachable", "no.invalid"])
    elsewhere = master.url.replace("/ws", "/elsewhere")
    await fails("status", *key, "--url", elsewhere, says=["not reachable", elsewhere, "404", "--url"])
    for wrong in ("localhost:9000", "http://localhost/ws", "ws://", "ws://localhost:http/", "ws://localhost:70000/"):
        await fails("status", *key, "--url", wrong, says=[repr(wrong), "no URL of a master"])
    master.answers[STATUS] = {"now": 1}
    await fails("status", *url, *key, says=["another version", "problems"])
    master.answers[STATUS] = Failing("wamp.error.runtime_error", "a\nbug")
    await fails("status", *url, *key, says=["cannot tell", "a bug", "wamp.error.runtime_error"])
    del master.answers[STATUS]
    await fails("status", *url, *key, says=["without crossbar-cluster", STATUS, "crossbar version"])


async def test_a_master_that_is_lost_while_it_is_asked(master):
    master.answers[STATUS] = None
    asking = asyncio.create_task(ask(master, "status"))
    while not master.calls:
        await asyncio.sleep(0.02)
    await master.stop()
    code, out, err = await asking
    assert (code, out) == (2, "")
    assert "connection to the master" in err and "was lost" in err


async def test_interrupted(master):
    """130, and no word of what was broken off: not the 1 of a cluster that is not converged."""
    master.answers[STATUS] = None
    arguments = command("status", "--url", master.url, "--key", str(master.key_file))
    process = await asyncio.create_subprocess_exec(*arguments, stderr=subprocess.PIPE, env=environment())
    while not master.calls:
        await asyncio.sleep(0.02)
    process.send_signal(signal.SIGINT)
    assert (await process.communicate())[1] == b""
    assert process.returncode == 130


async def test_placements_are_listed(master):
    code, out, err = await ask(master, "placements", "list")
    assert (code, err) == (0, "")
    assert out.splitlines()[2].split() == ["g", "c", "1", "g_1", "router1"]
    code, out, err = await ask(master, "placements", "list", "--json")
    assert (code, json.loads(out)) == (0, DOCUMENT["groups"])


@pytest.mark.parametrize(
    ("arguments", "call", "unchanged"),
    [
        (("move", "router1"), ("move_placements", "router1", None), "nothing to move"),
        (("move", "router1", "--to", "router2"), ("move_placements", "router1", "router2"), "nothing to move"),
        (("drain", "router1"), ("drain_node", "router1"), "router1 is drained"),
        (("undrain", "router1"), ("undrain_node", "router1"), "may be placed on router1 again"),
    ],
)
async def test_placements_are_changed(master, arguments, call, unchanged):
    procedure = f"{MREALM}routercluster.{call[0]}"
    master.answers[procedure] = [MOVED]
    code, out, err = await ask(master, "placements", *arguments)
    assert (code, out, err) == (0, "g_1 of group g: moved from router1 to router2\n", "")
    assert master.calls == [(f"routercluster.{call[0]}", *call[1:])]
    code, out, _ = await ask(master, "placements", *arguments, "--json")
    assert (code, json.loads(out)) == (0, [MOVED])
    master.answers[procedure] = []
    code, out, _ = await ask(master, "placements", *arguments)
    assert code == 0
    assert unchanged in out
    master.answers[procedure] = Failing("crossbar.error.no_capacity", "no member is free:\nadd a node")
    code, out, err = await ask(master, "placements", *arguments)
    assert (code, out) == (1, "")
    assert err == "The master refuses: no member is free: add a node (crossbar.error.no_capacity)\n"


PLACED = {"group": "g", "worker": "g_2", "what": "placed", "from_node": None, "to_node": "router2"}
SCALE = MREALM + "routercluster.scale_workergroup"
GROUP = DOCUMENT["groups"][0]


@pytest.mark.parametrize("named", [("g",), (GROUP["oid"],), ("g", "--cluster", "c")])
async def test_a_group_is_scaled(master, named):
    master.answers[SCALE] = {"workergroup": {"name": "g", "scale": 2}, "changes": [PLACED], "missing": 0}
    group, *options = named
    code, out, err = await ask(master, "placements", "scale", group, "2", *options)
    assert (code, out, err) == (0, "g_2 of group g: placed on router2\n", "")
    assert master.calls[-1] == ("routercluster.scale_workergroup", GROUP["cluster_oid"], GROUP["oid"], 2)


async def test_what_scaling_a_group_tells(master):
    answer = {"workergroup": {"name": "g", "scale": 2}, "changes": [], "missing": 0}
    master.answers[SCALE] = answer
    said = "Worker group g has a scale of 2; no placement has changed.\n"
    assert await ask(master, "placements", "scale", "g", "2") == (0, said, "")
    master.answers[SCALE] = answer | {"changes": [PLACED], "missing": 3}
    code, out, err = await ask(master, "placements", "scale", "g", "2")
    assert (code, out.splitlines()[0], err) == (0, "g_2 of group g: placed on router2", "")
    assert "3 of the router workers of group g have no node yet" in out and "hard limit" in out
    code, out, _ = await ask(master, "placements", "scale", "g", "2", "--json")
    assert (code, json.loads(out)) == (0, master.answers[SCALE])
    master.answers[SCALE] = Failing("wamp.error.invalid_configuration", "its scale is 0")
    said = "The master refuses: its scale is 0 (wamp.error.invalid_configuration)\n"
    assert await ask(master, "placements", "scale", "g", "0") == (1, "", said)


async def test_the_group_to_scale_has_to_be_the_only_one_of_its_name(master):
    twin = GROUP | {"oid": "twin", "cluster": "d", "cluster_oid": "of d"}
    master.answers = {STATUS: DOCUMENT | {"groups": [GROUP, twin]}, SCALE: {"changes": [PLACED], "missing": 0}}
    code, out, err = await ask(master, "placements", "scale", "g", "2")
    assert (code, out) == (2, "")
    assert "Router clusters c and d" in err and "--cluster" in err
    assert (await ask(master, "placements", "scale", "g", "2", "--cluster", "d"))[0] == 0
    assert master.calls[-1][1:] == ("of d", "twin", 2)
    for unknown in (("x", "2"), ("g", "2", "--cluster", "x")):
        code, out, err = await ask(master, "placements", "scale", *unknown)
        assert (code, out) == (1, "")
        assert "there is no worker group" in err and "placements list" in err
    assert (await ask(master, "placements", "scale", "g", "two"))[0] == 2


async def test_a_master_that_cannot_scale_groups(master):
    older = {key: value for key, value in GROUP.items() if not key.endswith("oid")}
    master.answers[STATUS] = DOCUMENT | {"groups": [older]}
    code, out, err = await ask(master, "placements", "scale", "g", "2")
    assert (code, out) == (2, "")
    assert "an older one" in err and SCALE in err


class Terminal:
    """A command on a terminal of its own, and what it has shown there."""

    def __init__(self, *arguments: str) -> None:
        self._fd, theirs = pty.openpty()
        self.shown = ""
        self.process = subprocess.Popen(
            command(*arguments),
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=environment(TERM="xterm", COLUMNS="120"),
        )
        os.close(theirs)
        os.set_blocking(self._fd, False)

    def read(self) -> str:
        with contextlib.suppress(OSError):
            while data := os.read(self._fd, 65536):
                self.shown += data.decode(errors="replace")
        return self.shown

    async def shows(self, text: str) -> None:
        """Wait until ``text`` is shown, after what was waited for before."""
        async with asyncio.timeout(30):
            while text not in self.read():
                await asyncio.sleep(0.02)
        self.shown = self.shown.partition(text)[2]

    async def ended(self) -> int:
        async with asyncio.timeout(10):
            while self.process.poll() is None:
                self.read()
                await asyncio.sleep(0.02)
        return self.process.returncode

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._fd)


@pytest.fixture
def watched(master):
    terminal = Terminal("status", "--watch", "--url", master.url, "--key", str(master.key_file))
    yield terminal
    terminal.close()


async def test_watching_goes_on_when_the_master_goes_away(master, watched):
    await watched.shows("converged")
    master.answers[STATUS] = DOCUMENT | {"problems": [{"object": "realm1", "reason": "router1 is away"}]}
    await watched.shows("router1 is away")
    await master.stop()
    await watched.shows("no answer for")
    await watched.shows("not reachable")
    await watched.shows("router1 is away")  # the last answer stays
    master.answers[STATUS] = DOCUMENT
    await master.start(port=master.port)
    await watched.shows("all as configured")
    watched.process.send_signal(signal.SIGINT)
    assert await watched.ended() == 0
    assert "Traceback" not in watched.read() and "Aborted" not in watched.read()


async def test_watching_says_that_the_master_does_not_answer(master, watched):
    await watched.shows("converged")
    master.answers[STATUS] = None
    await watched.shows("no answer for 3 s")
    await watched.shows("Waiting")
    watched.process.send_signal(signal.SIGINT)
    assert await watched.ended() == 0


async def test_watching_waits_for_a_master_that_is_not_there_yet(master, tmp_path):
    await master.stop()
    terminal = Terminal("status", "--watch", "--url", master.url, "--key", str(master.key_file))
    try:
        await terminal.shows("not reachable")
        await master.start(port=master.port)
        await terminal.shows("all as configured")
    finally:
        terminal.close()


async def test_watching_ends_when_it_never_will_see_anything(master):
    terminal = Terminal("status", "--watch", "--url", master.url, "--key", str(master.directory / "missing"))
    try:
        assert await terminal.ended() == 2
        assert "no key file" in terminal.read()
    finally:
        terminal.close()


@pytest.mark.parametrize("arguments", [("--watch", "--json"), ("--watch",)])
async def test_watching_needs_a_terminal(master, arguments):
    code, out, err = await ask(master, "status", *arguments)
    assert (code, out) == (2, "")
    assert "--watch repaints a terminal" in err
    assert master.calls == []


def test_the_commands_cost_nothing_when_another_one_runs():
    """Neither Autobahn nor rich is imported to say what commands there are."""
    code = "import sys, crossbar_cluster.cli; sys.exit(any(m in sys.modules for m in ('autobahn', 'rich', 'txaio')))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
