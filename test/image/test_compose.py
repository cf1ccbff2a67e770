"""The image, built on a base that is made here, and what a user does with docker-compose.yml.

These tests take minutes, need root, Docker and the package mirrors, and are run by themselves: `just test-image`.
LAB_BASE_IMAGE names a base image that is there already (Debian bookworm with python3); LAB_IMAGE a finished one.
"""

import asyncio
import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from crossbar_cluster.lab.client import Client, JoinFailed, join
from crossbar_cluster.lab.host import LoopbackHost, LoopbackNetwork

pytestmark = [
    pytest.mark.skipif("LAB_IMAGE_TESTS" not in os.environ, reason="takes minutes: run it by `just test-image`"),
    pytest.mark.timeout(1200),
]

ROOT = Path(__file__).parent.parent.parent
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
PACKAGES = "python3,python3-venv,ca-certificates"
PROJECT = "crossbarlab"
REALMS = ("realm1", "realm2")
PORTS = (18080, 18081)
WITHIN_S = 90.0
HOST = LoopbackHost("127.0.0.1", LoopbackNetwork(ROOT))  # where clients are; nothing is written there
NODES = ("crossbar_master", "crossbar_router_realm1", "crossbar_router_realm2", "crossbar_proxy1", "crossbar_proxy2")


def run(*argv: str, check: bool = True, timeout_s: float = 900.0, **env: str) -> str:
    """Run a command in the checkout. :returns: what it has printed, errors included."""
    done = subprocess.run(
        argv, cwd=ROOT, env={**os.environ, **env}, text=True, timeout=timeout_s,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert not check or done.returncode == 0, (
        f"{' '.join(argv)} ended with code {done.returncode}:\n{done.stdout[-4000:]}"
    )
    return done.stdout


def until(condition: Callable[[], object], within_s: float, what: str) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {within_s:g} s: {what}"
        time.sleep(0.2)


@pytest.fixture(scope="session")
def docker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A Docker engine: the one that is there, or one that is started for the tests."""
    missing = [command for command in ("docker", "docker-compose", "dockerd") if shutil.which(command) is None]
    if missing:
        pytest.skip(f"there is no {missing[0]} (Debian: docker.io, docker-compose)")
    if "Server Version" in run("docker", "info", check=False):
        yield
        return
    if os.geteuid() != 0:
        pytest.skip("no Docker engine is running, and only root can start one")
    log = (tmp_path_factory.mktemp("dockerd") / "log").open("w")
    with subprocess.Popen(["dockerd"], stdout=log, stderr=log) as engine:
        try:
            until(lambda: "Server Version" in run("docker", "info", check=False), 60, "a Docker engine that answers")
            yield
        finally:
            engine.terminate()


@pytest.fixture(scope="session")
def base_image(docker: None, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Debian bookworm with python3: no image can be pulled where there is no image registry."""
    if given := os.environ.get("LAB_BASE_IMAGE"):
        return given
    if shutil.which("debootstrap") is None or os.geteuid() != 0:
        pytest.skip("debootstrap, which needs root, makes the base image; or name one in LAB_BASE_IMAGE")
    root = tmp_path_factory.mktemp("base")
    mirror = "http://deb.debian.org/debian"
    run("debootstrap", "--variant=minbase", f"--include={PACKAGES}", "bookworm", str(root), mirror)
    shutil.copy(CERTIFICATES, root / CERTIFICATES.lstrip("/"))  # those that this machine trusts
    archive = tmp_path_factory.mktemp("archive") / "base.tar"
    run("tar", "-C", str(root), "-cf", str(archive), ".")
    run("docker", "import", str(archive), "crossbar-lab-base")
    archive.unlink()
    shutil.rmtree(root)
    return "crossbar-lab-base"


@pytest.fixture(scope="session")
def image(request: pytest.FixtureRequest) -> str:
    if given := os.environ.get("LAB_IMAGE"):
        request.getfixturevalue("docker")
        return given
    base = request.getfixturevalue("base_image")
    arguments = {"BASE_IMAGE": base, "PIP_CERT": CERTIFICATES}
    options = [option for name, value in arguments.items() for option in ("--build-arg", f"{name}={value}")]
    run("docker", "build", "--network", "host", *options, "-f", "docker/Dockerfile", "-t", "crossbar-lab", ".")
    return "crossbar-lab"


@dataclass
class Composed:
    """The cluster of docker-compose.yml."""

    image: str

    def compose(self, *argv: str, **env: str) -> str:
        ports = {f"PROXY{n}_PORT": str(port) for n, port in enumerate(PORTS, 1)}  # others may have 8080
        return run("docker-compose", "-p", PROJECT, *argv, CROSSBAR_IMAGE=self.image, **ports, **env)

    def logs(self, container: str) -> str:
        return run("docker", "logs", container)

    def logged(self, container: str, text: str, within_s: float = 60.0) -> None:
        until(lambda: text in self.logs(container), within_s, f"{text!r} in the log of {container}")

    def health(self, container: str) -> str:
        return run("docker", "inspect", "-f", "{{.State.Health.Status}}", container).strip()

    def address(self, container: str) -> str:
        found = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
        return run("docker", "inspect", "-f", found, container).strip()


@pytest.fixture(scope="session")
def composed(image: str) -> Iterator[Composed]:
    cluster = Composed(image)
    cluster.compose("up", "-d")
    try:
        yield cluster
    finally:
        with contextlib.suppress(AssertionError):
            cluster.compose("down", "-v", "--timeout", "20")


async def client(port: int, realm: str) -> Client:
    return await join(HOST, "127.0.0.1", port, realm)


async def served(port: int, realm: str, within_s: float = WITHIN_S) -> None:
    """Wait until a client can join and call."""
    deadline = time.monotonic() + within_s
    while True:
        try:
            joined = await client(port, realm)
            assert await joined.call("wamp.session.count") >= 1
            await joined.close()
            return
        except (JoinFailed, OSError) as e:
            assert time.monotonic() < deadline, f"{realm} is not served at port {port}: {e}"
            await asyncio.sleep(0.2)


async def test_up_on_an_empty_machine_ends_with_served_realms(composed: Composed) -> None:
    for port in PORTS:
        for realm in REALMS:
            await served(port, realm)
    until(lambda: all(composed.health(node) == "healthy" for node in NODES), WITHIN_S, "all nodes healthy")
    environment = run("docker", "exec", "crossbar_router_realm1", "env")
    assert "CROSSBAR_NODE_CLUSTER_IP=crossbar_router_realm1" in environment
    assert "uid=1000" in run("docker", "exec", "crossbar_router_realm1", "id")
    composed.logged("crossbar_master", "Node authentication received: node crossbar_router_realm1")
    composed.logged("crossbar_proxy1", "proxy backend session joined")


async def test_configured_again_nothing_changes(composed: Composed) -> None:
    composed.compose("up", "--no-deps", "--exit-code-from", "crossbar_configure", "crossbar_configure")
    assert composed.logs("crossbar_configure").rstrip().endswith("Nothing to do: all that is described is there.")


async def test_a_router_that_is_made_anew_under_another_address_is_found(composed: Composed) -> None:
    """As in the user's verification; the address is an IP address here, because a host name would stay the same."""
    composed.compose("up", "-d", "--no-deps", "crossbar_router_realm1", ROUTER_REALM1_CLUSTER_IP="172.31.255.254")
    composed.logged("crossbar_master", "cluster IP changed from crossbar_router_realm1 to 172.31.255.254")
    composed.compose("up", "-d", "--no-deps", "crossbar_router_realm1")
    composed.logged("crossbar_master", "cluster IP changed from 172.31.255.254 to crossbar_router_realm1")
    for port in PORTS:
        await served(port, "realm1")
        await served(port, "realm2")


async def test_clients_come_back_whatever_container_is_made_anew(composed: Composed) -> None:
    for node in NODES:
        realm, other_realm = REALMS if not node.endswith("realm2") else REALMS[::-1]
        port, other_port = PORTS if node != "crossbar_proxy2" else PORTS[::-1]
        unconcerned = await client(other_port, other_realm)
        composed.compose("up", "-d", "--no-deps", "--force-recreate", node)
        await served(port, realm)
        assert await unconcerned.call("wamp.session.count") >= 1, f"{node} has cost an unconcerned client"
        await unconcerned.close()
    for port in PORTS:
        for realm in REALMS:
            await served(port, realm)


def test_no_log_has_a_traceback(composed: Composed) -> None:
    for node in NODES:
        assert "Traceback" not in composed.logs(node), node
