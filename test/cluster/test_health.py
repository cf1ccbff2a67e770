"""Probes and metrics of a real cluster: before and after it serves, when nodes die, and when workers hang."""

import asyncio
import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
import urllib.parse
from pathlib import Path

import psutil
import pytest
import pytest_asyncio
from autobahn.wamp.exception import ApplicationError
from prometheus_client.parser import text_string_to_metric_families

from crossbar_cluster.health.workers import ANSWER_WITHIN_S
from crossbar_cluster.lab.client import JoinFailed, join
from crossbar_cluster.lab.cluster import MASTER_PORT, Cluster, Node, crossbar_command, loopback_cluster

from .conftest import PATCHED, RECOVERY_S, until
from .test_authentication import Stranger

ROOT = Path(__file__).resolve().parents[2]
PORT = 9090
SLACK_S = 2.0  # two cores, shared


async def http(cluster: Cluster, address: str, port: int, path: str, method: str = "GET") -> tuple[int, str]:
    """:returns: status and body. :raises OSError: nobody listens."""
    async with asyncio.timeout(10):
        reader, writer = await asyncio.open_connection(sock=await cluster.client_host.connect(address, port))
        try:
            writer.write(f"{method} {path} HTTP/1.0\r\n\r\n".encode())
            head, _, body = (await reader.read()).decode().partition("\r\n\r\n")
        finally:
            writer.close()
    return int(head.split()[1]), body


async def probe(cluster: Cluster, node: Node, path: str) -> tuple[int, dict]:
    status, body = await http(cluster, node.host.address, PORT, path)
    return status, json.loads(body)


async def families(cluster: Cluster, node: Node) -> dict:
    status, body = await http(cluster, node.host.address, PORT, "/metrics")
    assert status == 200
    return {family.name: family for family in text_string_to_metric_families(body)}


async def value(cluster: Cluster, node: Node, name: str, **labels: str) -> float | None:
    """The sum of a metric's samples with these labels; None: there is none."""
    found = await families(cluster, node)
    samples = [
        sample.value
        for family in found.values()
        for sample in family.samples
        if sample.name == f"crossbar_cluster_{name}" and labels.items() <= sample.labels.items()
    ]
    return sum(samples) if samples else None


async def comes_to(cluster: Cluster, node: Node, status: int, within_s: float = RECOVERY_S) -> dict:
    """Wait until /readyz answers that. :returns: its document."""
    document: dict = {}

    async def is_so() -> bool:
        nonlocal document
        try:
            found, document = await probe(cluster, node, "/readyz")
        except OSError as e:
            found, document = 0, {"error": repr(e)}
        return found == status

    try:
        await until(is_so, within_s)
    except AssertionError as e:
        raise AssertionError(f"{node.name}: {e}: {document}") from None
    return document


async def counts_to(cluster: Cluster, node: Node, number: float, name: str, **labels: str) -> None:
    """Wait until a metric has a value."""

    async def is_so() -> bool:
        return await value(cluster, node, name, **labels) == number

    await until(is_so, RECOVERY_S)


@pytest_asyncio.fixture(scope="module")
async def probed(tmp_path_factory):
    """Two routers and a proxy that is to serve on them, without any realm yet."""
    async with loopback_cluster(tmp_path_factory.mktemp("health"), patched=PATCHED) as (cluster, network):
        nodes = [cluster.add_node(name, network.host()) for name in ("router1", "router2", "proxy1")]
        for node in (cluster.master, *nodes):
            node.settings["CROSSBAR_HEALTH_PORT"] = str(PORT)
        cluster.nodes["proxy1"].settings["CROSSBAR_CLUSTER_DRAIN_SECONDS"] = "3"
        await cluster.boot()
        await cluster.start_webcluster(cluster.nodes["proxy1"])
        yield cluster


def test_a_node_does_not_start_with_a_port_that_is_none(tmp_path):
    done = subprocess.run(
        [crossbar_command(), "edge", "start", f"--cbdir={tmp_path}"],
        env={**os.environ, "CROSSBAR_HEALTH_PORT": "http"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert "Cannot start this node: CROSSBAR_HEALTH_PORT: 'http' is no TCP port" in done.stderr
    assert "Traceback" not in done.stderr


async def test_nodes_are_ready_when_they_can_serve_and_not_before(probed):
    proxy, routers = probed.nodes["proxy1"], [probed.nodes["router1"], probed.nodes["router2"]]
    for node in (probed.master, *probed.nodes.values()):
        status, document = await probe(probed, node, "/healthz")
        assert status == 200 and document["alive"], document
    document = await comes_to(probed, probed.master, 200)
    assert 9000 in document["workers"]["cfrouter1"]["listeners"]
    for router in routers:
        document = await comes_to(probed, router, 200)
        assert document["uplink"] == "joined" and document["workers"] == {}, "nothing is to run there"

    async def listens() -> bool:
        _, document = await probe(probed, proxy, "/readyz")
        return any(w["listeners"] == [8080] for w in document["workers"].values() if isinstance(w, dict))

    await until(listens, RECOVERY_S)
    status, document = await probe(probed, proxy, "/readyz")
    assert status == 503 and document["ready"] is False
    assert any("has no routes" in missing for missing in document["missing"]), document
    assert any("no backend is up" in missing for missing in document["missing"]), document

    await probed.start_realm("realm1", *routers, scale=2)
    document = await comes_to(probed, proxy, 200)
    assert document["missing"] == [] and document["uplink"] == "joined"
    await probed.served("realm1", proxy)
    for router in routers:
        [worker] = (await comes_to(probed, router, 200))["workers"].values()
        assert worker["listeners"] and worker["realms"] == {"realm1": 2}, "a role of clients, and that of links"


async def test_other_paths_and_methods(probed):
    at = probed.master.host.address
    assert (await http(probed, at, PORT, "/"))[0] == 404
    assert (await http(probed, at, PORT, "/readyz", "POST"))[0] == 405
    assert await http(probed, at, PORT, "/metrics", "HEAD") == (200, "")


async def test_the_readme_has_just_what_nodes_expose(probed):
    row = re.compile(r"^\| `(crossbar_cluster_\w+)` \| (\w+) \| (.*?) \| (.*?) \|", re.MULTILINE)
    table = {name: rest for name, *rest in row.findall((ROOT / "README.md").read_text(encoding="utf-8"))}
    for kind, node in (
        ("master", probed.master),
        ("router", probed.nodes["router1"]),
        ("proxy", probed.nodes["proxy1"]),
    ):
        exposed = await families(probed, node)
        names = {name + "_total" * (family.type == "counter"): family for name, family in exposed.items()}
        assert set(names) == {name for name, (_, _, places) in table.items() if kind in places.split(", ")}, kind
        for name, family in names.items():
            assert family.type == table[name][0], name
            labels = set(re.findall(r"`(\w+)`", table[name][1]))
            assert family.samples, f"{name} on {kind}: a number from the beginning"
            assert all(set(s.labels) - {"le"} == labels for s in family.samples), name


async def test_a_login_without_proof_is_counted(probed):
    before = await value(probed, probed.master, "node_claims_rejected_total", reason="unproven")
    stranger = Stranger(probed.node_key(probed.nodes["router1"]).public_key(), answers=True)
    at = (probed.client_host, probed.master.host.address, MASTER_PORT, None)
    with pytest.raises(JoinFailed):
        await join(*at, key=stranger, authrole="node", authextra={})
    assert await value(probed, probed.master, "node_claims_rejected_total", reason="unproven") == before + 1


async def test_workers_numbers_are_for_users_of_the_master_and_for_no_other_node(probed):
    worker = next(w["worker"] for w in (await probed.status())["workers"] if w["node"] == "proxy1")
    procedure = f"crossbarfabriccenter.node.proxy1.worker.{worker}.get_cluster_metrics"
    assert "crossbar_cluster_joins_total" in await probed.call(procedure)
    at = (probed.client_host, probed.master.host.address, MASTER_PORT, None)
    node = await join(*at, key=probed.node_key(probed.nodes["router1"]), authrole="node", authextra={})
    with pytest.raises(ApplicationError) as refused:
        await node.call(procedure)
    assert refused.value.error == ApplicationError.NOT_AUTHORIZED
    await node.close()


@contextlib.asynccontextmanager
async def prometheus(directory: Path, cluster: Cluster):
    """Debian's Prometheus, scraping all nodes each second, with our alert rules. :yields: queries it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = (ROOT / "ops" / "prometheus" / "prometheus.yml").read_text(encoding="utf-8")
    targets = [f"{node.host.address}:{PORT}" for node in (cluster.master, *cluster.nodes.values())]
    jobs = {"scrape_configs": [{"job_name": "crossbar-cluster", "static_configs": [{"targets": targets}]}]}
    config = config.partition("scrape_configs:")[0].replace("15s", "1s").replace("10s", "1s") + json.dumps(jobs)[1:-1]
    (directory / "prometheus.yml").write_text(config)
    shutil.copy(ROOT / "ops" / "prometheus" / "alerts.yml", directory)
    files = [f"--config.file={directory}/prometheus.yml", f"--storage.tsdb.path={directory}/data"]
    with open(directory / "prometheus.log", "wb") as log:
        process = subprocess.Popen(
            ["prometheus", *files, f"--web.listen-address=127.0.0.1:{port}"], stdout=log, stderr=subprocess.STDOUT
        )

    async def ask(path: str, **arguments: str) -> dict:
        with contextlib.suppress(OSError, ValueError, IndexError):
            query = f"/api/v1/{path}?{urllib.parse.urlencode(arguments)}"
            answer = json.loads((await http(cluster, "127.0.0.1", port, query))[1])
            assert answer["status"] == "success", (arguments, answer)
            return answer["data"]
        assert process.poll() is None, (directory / "prometheus.log").read_text()
        return {}

    try:
        yield ask
    finally:
        process.kill()
        process.wait()


async def test_prometheus_scrapes_all_kinds_of_nodes_and_answers(probed, tmp_path):
    if shutil.which("prometheus") is None:
        pytest.skip("prometheus is not installed (Debian: apt install prometheus)")
    async with prometheus(tmp_path, probed) as ask:

        async def all_are_up() -> bool:
            found = (await ask("query", query="up")).get("result", [])
            return [result["value"][1] for result in found] == ["1"] * 4

        await until(all_are_up, RECOVERY_S)
        [backends] = (await ask("query", query='sum(crossbar_cluster_backends{state="up"})'))["result"]
        assert backends["value"][1] == "2"
        [problems] = (await ask("query", query="crossbar_cluster_problems"))["result"]
        assert problems["metric"]["mrealm"] == "default"
        [group] = (await ask("rules"))["groups"]
        assert len(group["rules"]) > 10 and not any(rule.get("lastError") for rule in group["rules"])
        panels = json.loads((ROOT / "ops" / "grafana" / "crossbar-cluster.json").read_text(encoding="utf-8"))["panels"]
        for panel in panels:
            for target in panel["targets"]:
                expression = target["expr"].replace("$job", ".+").replace("$__rate_interval", "1m")
                await ask("query", query=expression)


async def test_routers_that_die_make_numbers_move_and_come_back_although_a_port_is_taken(probed):
    router, other, proxy = (probed.nodes[name] for name in ("router1", "router2", "proxy1"))
    await counts_to(probed, other, 1, "links", state="up")
    clients = [await probed.client("realm1", proxy) for _ in range(4)]
    await counts_to(probed, proxy, 4, "backend_clients")
    await counts_to(probed, router, 2, "sessions", realm="realm1")
    lost = await value(probed, proxy, "sessions_lost_total")
    joined = await value(probed, proxy, "joins_total", outcome="joined")
    losses = await value(probed, other, "link_losses_total")
    assert await value(probed, proxy, "join_duration_seconds_count") == joined
    await router.running.kill()
    await counts_to(probed, proxy, lost + 2, "sessions_lost_total")
    await counts_to(probed, proxy, 1, "backends", state="up")
    await counts_to(probed, other, losses + 1, "link_losses_total")
    await counts_to(probed, probed.master, 1, "nodes", status="offline")
    assert (await probe(probed, proxy, "/readyz"))[0] == 200, "one router of the realm is left"
    await other.running.kill()
    document = await comes_to(probed, proxy, 503)
    assert "no backend is up" in document["missing"][0] and "is suspect" in document["missing"][0]
    assert (await probe(probed, proxy, "/healthz"))[0] == 200, "to start it anew would be of no use"
    for client in clients:
        await client.close()

    await probed.start(other)
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind((router.host.address, PORT))
        taken.listen()
        process = await probed.start(router)
        await process.line(f"Health and metrics cannot be asked for: .* port {PORT}: .*in use")
        await process.line("The master can call this node", timeout_s=RECOVERY_S)  # it goes on without
    await comes_to(probed, proxy, 200)
    await comes_to(probed, router, 200)
    assert len(process.find("Health and metrics cannot be asked for")) == 1
    assert await value(probed, router, "uplink_connects_total") == 1
    assert await value(probed, router, "uplink_up") == 1
    await counts_to(probed, probed.master, 0, "nodes", status="offline")
    await counts_to(probed, proxy, 2, "backends", state="up")


@contextlib.contextmanager
def stopped(node: Node, kind: str):
    """The node's one worker of that kind hangs."""
    titles = {p.pid: " ".join(p.cmdline()) for p in psutil.Process(node.running.pid).children()}
    [pid] = [pid for pid, title in titles.items() if f"{kind}controller" in title.lower()]
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


async def test_a_worker_that_hangs_is_named_in_time_and_holds_up_nothing(probed):
    proxy = probed.nodes["proxy1"]
    [worker] = (await comes_to(probed, proxy, 200))["workers"]
    with stopped(proxy, "proxy"):
        begun = time.monotonic()
        asked = [probe(probed, proxy, "/readyz") for _ in range(20)]
        scrapes = [value(probed, proxy, "worker_up", worker=worker) for _ in range(5)]
        alive, *answers = await asyncio.gather(probe(probed, proxy, "/healthz"), *asked, *scrapes)
        took_s = time.monotonic() - begun
        assert took_s < ANSWER_WITHIN_S + SLACK_S, f"all at once took {took_s:.1f} s"
        assert alive[0] == 200
        for status, document in answers[:20]:
            assert status == 503 and document["missing"] == [f"worker {worker}: does not answer within 2 s"]
        assert answers[20:] == [0] * 5
    await comes_to(probed, proxy, 200, 5.0)
    assert await value(probed, proxy, "worker_up", worker=worker) == 1


async def test_a_master_whose_worker_hangs_is_not_alive(probed):
    with stopped(probed.master, "router"):
        status, document = await probe(probed, probed.master, "/healthz")
        assert status == 503 and document["problems"] == ["worker cfrouter1: does not answer within 2 s"]
        status, document = await probe(probed, probed.master, "/readyz")
        assert status == 503 and document["missing"] == ["worker cfrouter1: does not answer within 2 s"]
    await comes_to(probed, probed.master, 200, 5.0)
    assert (await probe(probed, probed.master, "/healthz"))[0] == 200


async def test_a_node_that_ends_says_so_while_its_clients_finish(probed):
    proxy = probed.nodes["proxy1"]
    await comes_to(probed, proxy, 200)
    client = await probed.client("realm1", proxy)
    called: asyncio.Event = asyncio.Event()

    async def endless() -> None:
        called.set()
        await asyncio.get_running_loop().create_future()

    await client.register(endless, "test.endless")
    calling = asyncio.ensure_future(client.call("test.endless"))
    await called.wait()
    proxy.running.signal(signal.SIGTERM)
    said = ("node: shutting down", "is about to end, and takes no new clients", "does not listen")

    async def says_so() -> bool:
        missing = (await probe(probed, proxy, "/readyz"))[1]["missing"]
        return all(any(part in problem for problem in missing) for part in said)

    await until(says_so, 3.0)
    with pytest.raises(Exception):  # noqa: B017 - however it ends
        await calling
    await proxy.running.ended(RECOVERY_S)
