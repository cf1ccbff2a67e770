"""`crossbar-cluster demo` as people run it: real processes, one temporary directory, nothing left behind."""

import asyncio
import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import sysconfig
import tempfile
import threading
import time
from pathlib import Path

import pytest

from crossbar_cluster.demo import checks, rounds, runner

COMMAND = str(Path(sysconfig.get_path("scripts")) / "crossbar-cluster")
MILESTONES = ["authenticated", "record_refreshed", "worker_listening", "proxy_repointed", "client_served"]
#: A log line's time is late by as much as the lab takes to read it.
READING_S = 0.03


@pytest.fixture
def tmp_path():
    """Shorter than pytest's own: the nodes have Unix domain sockets below it."""
    path = Path(tempfile.mkdtemp(prefix="td-", dir="/tmp"))
    yield path
    shutil.rmtree(path)


def start(tmp_path, *args, **kwargs):
    kwargs = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **kwargs}
    env = {**os.environ, "TMPDIR": str(tmp_path)}
    return subprocess.Popen(
        [COMMAND, "demo", *args], env=env, preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL), **kwargs
    )


def run(tmp_path, *args):
    process = start(tmp_path, *args)
    out, err = process.communicate(timeout=280)
    return process.returncode, out, err


def left_processes(tmp_path):
    """Processes that belong to a demo in ``tmp_path``: by working directory, environment or command line."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            try:
                text = os.readlink(entry / "cwd").encode()
                text += (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
            except OSError:
                continue
            if str(tmp_path).encode() in text:
                found.append((int(entry.name), text.split(b"\0")[0]))
    return found


def assert_nothing_is_left(tmp_path):
    assert left_processes(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_every_round_recovers(tmp_path):
    code, out, err = run(tmp_path, "--rounds", "2", "--watch-s", "60", "--json")
    assert code == 0, err
    document = json.loads(out)
    assert document["recovered"] is True
    assert document["patched"] is True
    assert document["error"] is None
    assert set(document["versions"]) == {"crossbar", "crossbar-cluster"}
    first, second = document["rounds"]
    assert first["old_address"] != first["new_address"] == second["old_address"] != second["new_address"]
    for result in (first, second):
        assert result["recovered"] is True
        times = [result["seconds"]["back"], *(result["seconds"][name] for name in MILESTONES)]
        assert all(before <= after + READING_S for before, after in itertools.pairwise(times)), times
        assert result["seconds"]["killed"] < 0
        assert result["outage_s"] > result["seconds"]["client_served"]
        assert result["calls_answered"] > 0
    assert document["client_served_s"]["max"] == max(r["seconds"]["client_served"] for r in (first, second))
    assert "record refreshed" in err
    assert_nothing_is_left(tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_release_does_not_recover(tmp_path):
    code, out, err = run(tmp_path, "--release", "--rounds", "1", "--watch-s", "12", "--json")
    assert code == 1, err
    document = json.loads(out)
    assert document["recovered"] is False
    assert document["patched"] is False
    assert document["error"] is None
    (result,) = document["rounds"]
    assert result["recovered"] is False
    assert result["outage_s"] is None
    assert result["seconds"]["client_served"] is None
    assert result["seconds"]["record_refreshed"] is None
    assert f"it says {result['old_address']}" in err
    assert_nothing_is_left(tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("moment", "number", "again"),
    [
        ("making keys", signal.SIGINT, False),
        ("starting the master", signal.SIGINT, True),
        ("starting the nodes", signal.SIGTERM, False),
        ("waiting for a client", signal.SIGHUP, True),
        ("back, at", signal.SIGINT, True),
    ],
)
def test_a_signal_leaves_nothing_behind(tmp_path, moment, number, again):
    process = start(tmp_path, "--rounds", "1", stderr=subprocess.STDOUT)
    lines = []
    for line in process.stdout:
        lines.append(line)
        if moment in line:
            break
    else:
        pytest.fail("".join(lines))
    time.sleep(0.3)  # into the step that has just begun
    assert left_processes(tmp_path), "nothing runs that could be left behind"
    process.send_signal(number)
    if again:
        time.sleep(0.05)
        process.send_signal(number)
    out = process.communicate(timeout=60)[0]
    assert process.returncode == 128 + number
    assert "Traceback" not in out
    assert f"Stopped by {number.name}" in out
    assert_nothing_is_left(tmp_path)


@pytest.mark.parametrize(("node", "setting"), [("master", "MASTER_PORT"), ("proxy1", "PROXY_PORT")])
def test_a_port_in_use_is_named_with_its_owner(tmp_path, monkeypatch, node, setting):
    """Whoever listens at all addresses is in the way. Not at the true ports: other clusters may be running here."""
    with socket.create_server(("0.0.0.0", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setattr(rounds, setting, port)
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        with pytest.raises(checks.CannotStart) as refused:
            asyncio.run(runner.run(rounds.Options(), keep=False, tell=lambda event: pytest.fail(f"started: {event}")))
    assert f"Port {port} is in use: {node} cannot listen" in str(refused.value)
    assert f"(process {os.getpid()}), which listens at 0.0.0.0:{port}" in str(refused.value)
    assert_nothing_is_left(tmp_path)


def test_a_router_takes_the_next_port():
    with socket.create_server(("127.9.9.9", 0)) as taken:
        port = taken.getsockname()[1]
        checks.check_listeners([("router1", "127.9.9.9", range(port, port + 50))])
        with pytest.raises(checks.CannotStart, match=f"Port {port} is in use"):
            checks.check_listeners([("router1", "127.9.9.9", range(port, port + 1))])


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_node_that_dies_is_told_of_with_its_log(tmp_path):
    process = start(tmp_path, "--rounds", "1", stderr=subprocess.STDOUT)
    hung = threading.Timer(200, process.kill)
    hung.start()
    try:
        for line in process.stdout:
            if "starting the nodes" in line:
                break
        time.sleep(0.5)
        for pid, _ in left_processes(tmp_path):
            if "/master\0" in os.readlink(f"/proc/{pid}/cwd") + "\0" and os.getpgid(pid) == pid:
                os.killpg(pid, signal.SIGKILL)
                killed_at = time.monotonic()
                break
        out = process.communicate(timeout=60)[0]
    finally:
        hung.cancel()
    assert process.returncode == 1
    assert time.monotonic() - killed_at < 10
    assert "master: ended unexpectedly, with code -9" in out
    assert "last lines of" in out
    assert_nothing_is_left(tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_kept_cluster_runs_on_until_it_is_stopped(tmp_path):
    code, out, err = run(tmp_path, "--rounds", "1", "--watch-s", "60", "--keep", "--json")
    kept = json.loads(out)["kept"]
    try:
        assert code == 0, err
        host, port = kept["url"].removeprefix("ws://").removesuffix("/ws").split(":")
        until = time.monotonic() + 5
        while time.monotonic() < until:
            with socket.create_connection((host, int(port)), timeout=5):
                pass
            assert all(Path(f"/proc/{pid}/cwd").exists() for pid in kept["pids"].values())
            time.sleep(0.5)
        assert Path(kept["management_key"]).is_file()
    finally:
        subprocess.run(kept["stop"], shell=True, check=True)
    until = time.monotonic() + 20
    while left_processes(tmp_path) and time.monotonic() < until:
        time.sleep(0.05)
    assert_nothing_is_left(tmp_path)


def test_too_little_memory_is_refused(monkeypatch):
    monkeypatch.setattr(checks, "free_memory_mb", lambda: 400)
    with pytest.raises(checks.CannotStart, match=r"needs 1100 MB .* 400 MB"):
        checks.check_machine()


def test_a_directory_too_deep_for_sockets_is_refused(tmp_path):
    deep = tmp_path / ("x" * 80)
    deep.mkdir()
    code, out, _ = run(deep, "--json")
    assert code == 1
    assert "TMPDIR=/tmp" in json.loads(out)["error"]
    assert_nothing_is_left(deep)


@pytest.mark.parametrize("args", [["--rounds", "0"], ["--watch-s", "0"], ["--nonsense"]])
def test_wrong_usage(tmp_path, args):
    code, _, err = run(tmp_path, *args)
    assert code == 2
    assert "Usage" in err
