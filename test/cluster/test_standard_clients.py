"""Clients that come as they are from Autobahn's libraries survive a router that moves again and again."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from crossbar_cluster.lab.process import NodeProcess

CLIENTS = Path(__file__).parent / "clients"
MOVES = int(os.environ.get("LAB_MOVES", "3"))
AUTOBAHN_JS = "autobahn@22.11.1"
BACK_WITHIN_S = 40.0


@pytest.fixture(scope="module")
def node_modules(tmp_path_factory) -> Path:
    """Where Autobahn|JS is installed, from the npm registry."""
    if shutil.which("npm") is None:
        pytest.skip("there is no npm to install Autobahn|JS with")
    directory = tmp_path_factory.mktemp("npm")
    done = subprocess.run(
        ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", AUTOBAHN_JS],
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=200,
    )
    if done.returncode != 0:
        pytest.skip(f"Autobahn|JS cannot be installed: {done.stderr.strip().splitlines()[-1:]}")
    return directory / "node_modules"


@pytest.fixture
def command(request) -> list[str]:
    if request.param == "autobahn.js":
        modules = request.getfixturevalue("node_modules")
        return ["env", f"NODE_PATH={modules}", "node", str(CLIENTS / "autobahn.js")]
    return [sys.executable, str(CLIENTS / request.param)]


@pytest.mark.slow
@pytest.mark.parametrize("command", ["component.py", "runner.py", "autobahn.js"], indirect=True)
async def test_it_comes_back_by_itself(lab, tmp_path, command):
    url = f"ws://{lab.proxy1.host.address}:8080/ws"
    client = await NodeProcess.start("client", [*command, url, "realm1"], dict(os.environ), tmp_path, tmp_path / "log")
    try:
        await client.line("answered", timeout_s=BACK_WITHIN_S)
        for _ in range(MOVES):
            mark = client.mark()
            await lab.cluster.move(lab.router1, lab.host())
            closed = await client.line("closed", since=mark, timeout_s=BACK_WITHIN_S)
            assert "wamp.close.normal" not in closed.text
            await client.line("answered", since=closed_at(client, mark), timeout_s=BACK_WITHIN_S)
            assert client.running
    finally:
        await client.kill()


@pytest.mark.slow
@pytest.mark.parametrize("command", ["component.py", "runner.py", "autobahn.js"], indirect=True)
async def test_it_comes_back_after_it_has_been_turned_away(lab, tmp_path, command):
    """Longer than a client waits for a router there is none: it is told so, and asks again."""
    url = f"ws://{lab.proxy1.host.address}:8080/ws"
    await lab.router1.running.kill()
    await lab.proxy1.running.line("Backend .*router1.* is lost", timeout_s=20)
    mark = lab.proxy1.running.mark()
    client = await NodeProcess.start("client", [*command, url, "realm1"], dict(os.environ), tmp_path, tmp_path / "log")
    try:
        await lab.proxy1.running.line("is turned away", since=mark, timeout_s=30)
        assert not client.find("answered")
        await lab.cluster.start(lab.router1)
        await client.line("answered", timeout_s=BACK_WITHIN_S)
    finally:
        await client.kill()


def closed_at(client: NodeProcess, mark: int) -> int:
    """A mark behind the first end of the client's connection since ``mark``."""
    return next(n for n in range(mark, client.mark()) if "closed" in client.lines[n].text) + 1
