"""The image, built on a base that is made here, and what a user does with docker-compose.yml.

These tests take minutes, need root, Docker and the package mirrors, and are run by themselves: `just test-image`.
LAB_BASE_IMAGE names a base image that is there already (Debian bookworm with python3); LAB_IMAGE a finished one.
"""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections import Counter
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
PROJECT = "crossbarlab"
REALMS = ("realm1", "realm2")
PORTS = (18080, 18081)
WITHIN_S = 90.0
HOST = LoopbackHost("127.0.0.1", LoopbackNetwork(ROOT))  # where clients are; nothing is written there
FILES = ("-f", "docker-compose.yml", "-f", "test/image/two-routers.yml")
ROUTERS = ("crossbar_router_realm1", "crossbar_router_realm1b", "crossbar_router_realm2")
PROXIES = ("crossbar_proxy1", "crossbar_proxy2")
NODES = ("crossbar_master", *ROUTERS, *PROXIES)
ROLLED = (*PROXIES, *ROUTERS, "crossbar_master")
CLIENTS = "crossbar_clients"
COUNT = 50  # of the clients of realm1
BACK_WITHIN_S = 2.0
LISTENS = "0A"  # a socket's state, in /proc/net/tcp
#: What is documented. Routers listen for proxies at a port from 10000 to 10100 besides.
LISTENS_AT = {
    "crossbar_master": {9000, 9090},
    **{router: {9090} for router in ROUTERS},
    **{proxy: {8080, 9090} for proxy in PROXIES},
}


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
    if os.geteuid() != 0 and "Server Version" not in run("docker", "info", check=False):
        pytest.skip("no Docker engine is running, and only root can start one")
    engine = run(".ci/image", "start", str(tmp_path_factory.mktemp("dockerd") / "log")).strip()
    yield
    if engine:
        os.kill(int(engine), signal.SIGTERM)
        until(lambda: not Path(f"/proc/{engine}").exists(), 30, "the Docker engine has ended")


@pytest.fixture(scope="session")
def image(docker: None) -> str:
    if given := os.environ.get("LAB_IMAGE"):
        return given
    if "LAB_BASE_IMAGE" not in os.environ and (shutil.which("debootstrap") is None or os.geteuid() != 0):
        pytest.skip("debootstrap, which needs root, makes the base image; or name one in LAB_BASE_IMAGE")
    run(".ci/image", "build")
    return "crossbar-lab"


@dataclass
class Composed:
    """The cluster of docker-compose.yml, with a second router for realm1.

    :ivar env: what docker-compose is told in its environment, from now on.
    """

    env: dict[str, str]

    def compose(self, *argv: str) -> str:
        return run("docker-compose", "-p", PROJECT, *FILES, *argv, **self.env)

    def made_anew(self, node: str) -> None:
        """Make a container anew, as an operator would; return when it is healthy."""
        self.compose("up", "-d", "--no-deps", "--force-recreate", node)
        until(lambda: self.health(node) == "healthy", WITHIN_S, f"{node} is healthy")

    def logs(self, container: str) -> str:
        return run("docker", "logs", container)

    def logged(self, container: str, text: str, within_s: float = 60.0) -> None:
        until(lambda: text in self.logs(container), within_s, f"{text!r} in the log of {container}")

    def health(self, container: str) -> str:
        return run("docker", "inspect", "-f", "{{.State.Health.Status}}", container).strip()

    def listening(self, container: str) -> set[int]:
        """The TCP ports that anybody but the container itself can reach."""
        pid = run("docker", "inspect", "-f", "{{.State.Pid}}", container).strip()
        found = set()
        for file in ("tcp", "tcp6"):
            for line in Path(f"/proc/{pid}/net/{file}").read_text().splitlines()[1:]:
                _, local, _, state, *_ = line.split()
                address, port = local.split(":")
                # as the kernel prints them, words in the order of this machine: of 127.0.0.0/8 the last byte comes last
                own = address.endswith("7F") if file == "tcp" else address == f"{'0' * 24}01000000"
                if state == LISTENS and not own:
                    found.add(int(port, 16))
        return found


@pytest.fixture(scope="session")
def composed(image: str) -> Iterator[Composed]:
    ports = {f"PROXY{n}_PORT": str(port) for n, port in enumerate(PORTS, 1)}  # others may have 8080
    cluster = Composed({"CROSSBAR_IMAGE": image, **ports})
    try:
        cluster.compose("up", "-d")
        yield cluster
    finally:
        with contextlib.suppress(AssertionError):
            cluster.compose("--profile", "clients", "down", "-v", "--timeout", "20")


class Clients:
    """The container with 50 clients of realm1, and what it has told."""

    def __init__(self, composed: Composed) -> None:
        self._composed = composed

    def events(self) -> list[dict]:
        return [json.loads(line) for line in self._composed.logs(CLIENTS).splitlines()]

    def joined(self) -> dict[int, dict]:
        """The clients that are joined now, and where."""
        found = {}
        for event in self.events():
            if event["event"] == "joined":
                found[event["client"]] = event
            elif event["event"] == "lost":
                del found[event["client"]]
        return found

    def all_joined(self) -> bool:
        return len(self.joined()) == COUNT

    @contextlib.contextmanager
    def only_lose(self, key: str, value: str) -> Iterator[None]:
        """See that exactly the clients that are at a proxy, or on a router, are lost meanwhile, and soon back.

        No join fails: not at a proxy that is up. (Where nobody answers, a client goes on to the next one.)
        """
        until(self.all_joined, WITHIN_S, "all clients are joined")
        before, concerned = len(self.events()), {n for n, at in self.joined().items() if at[key] == value}
        yield
        until(self.all_joined, WITHIN_S, "all clients are joined again")
        happened = self.events()[before:]
        kinds = Counter(event["event"] for event in happened)
        assert not kinds["failed"] and not kinds["gave_up"], [
            e for e in happened if e["event"] in ("failed", "gave_up")
        ]
        assert sorted(event["client"] for event in happened if event["event"] == "lost") == sorted(concerned)
        returns = [event["away_s"] for event in happened if event["event"] == "joined"]
        print(
            f"{value}: {len(concerned)} clients lost, back after {max(returns, default=0):.2f} s at most", dict(kinds)
        )
        assert all(away_s < BACK_WITHIN_S for away_s in returns), returns


@pytest.fixture(scope="session")
def clients(composed: Composed) -> Clients:
    found = Clients(composed)
    composed.compose("--profile", "clients", "up", "-d", "--no-deps", CLIENTS)
    until(found.all_joined, WITHIN_S, "all clients are joined")
    return found


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
    assert "uid=1000" in run("docker", "exec", "crossbar_router_realm1", "id")
    assert "Read-only file system" in run(
        "docker", "exec", "-u", "0", "crossbar_router_realm1", "touch", "/x", check=False
    )


def test_what_the_users_verification_looks_for_is_there(composed: Composed, clients: Clients) -> None:
    assert "CROSSBAR_NODE_CLUSTER_IP=crossbar_router_realm1" in run("docker", "exec", "crossbar_router_realm1", "env")
    composed.logged("crossbar_master", "Node authentication received: node crossbar_router_realm1")
    composed.logged("crossbar_proxy1", "proxy backend session joined")


@pytest.mark.parametrize("node", [*NODES, CLIENTS])
def test_nothing_listens_but_what_is_documented(composed: Composed, clients: Clients, node: str) -> None:
    ports = composed.listening(node)
    assert ports >= LISTENS_AT.get(node, set())
    undocumented = ports - LISTENS_AT.get(node, set())
    assert undocumented <= (set(range(10000, 10101)) if "router" in node else set()), undocumented
    assert bool(undocumented) == ("router" in node), "a router listens for proxies"


async def test_configured_again_nothing_changes(composed: Composed) -> None:
    composed.compose("up", "--no-deps", "--exit-code-from", "crossbar_configure", "crossbar_configure")
    assert composed.logs("crossbar_configure").rstrip().endswith("Nothing to do: all that is described is there.")


async def test_a_router_that_is_made_anew_under_another_address_is_found(composed: Composed, clients: Clients) -> None:
    """As in the user's verification, and with an IP address as the node's address, as in Kubernetes."""
    old = "crossbar_router_realm1"
    for new in ("172.31.255.211", "172.31.255.212"):
        composed.env.update(ROUTER_REALM1_ADDRESS=new, ROUTER_REALM1_CLUSTER_IP=new)
        with clients.only_lose("router", "crossbar_router_realm1"):
            composed.made_anew("crossbar_router_realm1")
        assert f"CROSSBAR_NODE_CLUSTER_IP={new}" in run("docker", "exec", "crossbar_router_realm1", "env")
        composed.logged("crossbar_master", f"cluster IP changed from {old} to {new}")
        old = new
        # half of those who come now are sent there
        await on_router("crossbar_router_realm1")


async def on_router(router: str) -> None:
    """Wait until clients of realm1 are sent to a router, by both proxies."""
    for port in PORTS:
        deadline = time.monotonic() + WITHIN_S
        found = ""
        while found != router:
            assert time.monotonic() < deadline, f"nobody is sent to {router} at port {port}"
            joined = await client(port, "realm1")
            found = joined.joined.result().authextra["x_cb_node"]
            await joined.close()


@pytest.mark.parametrize("node", ROLLED)
async def test_whatever_container_is_made_anew_clients_are_back_at_once(
    composed: Composed, clients: Clients, node: str
) -> None:
    """One after the other, each when the one before is healthy. Nobody notices that the master is made anew."""
    realm, other_realm = REALMS if node != "crossbar_router_realm2" else REALMS[::-1]
    port, other_port = PORTS if node != "crossbar_proxy2" else PORTS[::-1]
    unconcerned = await client(other_port, other_realm)
    key, value = ("proxy", f"ws://{node}:8080/ws") if "proxy" in node else ("router", node)

    def make_anew() -> None:
        with clients.only_lose(key, value):
            composed.made_anew(node)

    await asyncio.to_thread(make_anew)  # the unconcerned client has to answer its proxy's pings meanwhile
    await served(port, realm)
    assert await unconcerned.call("wamp.session.count") >= 1, f"{node} has cost an unconcerned client"
    await unconcerned.close()
    for port in PORTS:
        for realm in REALMS:
            await served(port, realm)


def test_the_clients_end_well(composed: Composed, clients: Clients) -> None:
    run("docker", "stop", CLIENTS)
    summary = clients.events()[-1]
    assert summary["event"] == "summary" and summary["good"] and summary["failed_joins"] == 0, summary
    assert summary["calls"] > 0 and summary["calls_unanswered"] == 0
    assert run("docker", "inspect", "-f", "{{.State.ExitCode}}", CLIENTS).strip() == "0"


@pytest.mark.parametrize("node", [*NODES, CLIENTS])
def test_no_log_has_a_traceback(composed: Composed, clients: Clients, node: str) -> None:
    assert "Traceback" not in composed.logs(node)
