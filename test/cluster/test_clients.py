"""`crossbar-cluster clients` against a real cluster: two routers of one realm behind two proxies."""

import asyncio
import json
import os
import signal
import sysconfig
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from crossbar_cluster.lab.cluster import PROXY_PORT, Cluster, Node, loopback_cluster
from crossbar_cluster.lab.process import NodeProcess

from .conftest import until

REALM = "realm1"
COUNT = 10
WITHIN_S = 30.0
BACK_WITHIN_S = 2.0
COMMAND = str(Path(sysconfig.get_path("scripts")) / "crossbar-cluster")


class Run:
    """The command while it runs, and what it has printed."""

    def __init__(self, process: NodeProcess) -> None:
        self.process = process

    @classmethod
    async def start(cls, directory: Path, *options: str) -> "Run":
        log = directory / "clients.log"
        process = await NodeProcess.start("clients", [COMMAND, "clients", *options], dict(os.environ), directory, log)
        return cls(process)

    def events(self, kind: str) -> list[dict]:
        documents = (json.loads(line.text) for line in self.process.lines if line.text)
        return [document for document in documents if document["event"] == kind]

    async def count(self, kind: str, number: int) -> bool:
        return len(self.events(kind)) >= number

    def on_router(self, router: str) -> set[int]:
        """The clients that are on a router now, by their last join."""
        last = {event["client"]: event["router"] for event in self.events("joined")}
        return {client for client, on in last.items() if on == router}

    async def all_joined(self) -> bool:
        return len(self.events("joined")) - len(self.events("lost")) == COUNT

    async def end(self) -> tuple[int, dict]:
        """:returns: exit code and summary."""
        self.process.signal(signal.SIGTERM)
        return await self.ended()

    async def ended(self) -> tuple[int, dict]:
        code = await self.process.ended(WITHIN_S)
        (summary,) = self.events("summary")
        return code, summary

    async def kill(self) -> None:
        await self.process.kill()


@dataclass
class Two:
    """A realm on two routers behind two proxies."""

    cluster: Cluster
    routers: list[Node]
    proxies: list[Node]

    @property
    def urls(self) -> list[str]:
        return [f"ws://{proxy.host.address}:{PROXY_PORT}/ws" for proxy in self.proxies]

    @property
    def options(self) -> list[str]:
        return [option for url in self.urls for option in ("--url", url)]


@pytest_asyncio.fixture(scope="module")
async def two(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Two]:
    async with loopback_cluster(tmp_path_factory.mktemp("clients")) as (cluster, network):
        routers = [cluster.add_node(name, network.host()) for name in ("router1", "router2")]
        proxies = [cluster.add_node(name, network.host()) for name in ("proxy1", "proxy2")]
        await cluster.boot()
        await cluster.start_webcluster(*proxies)
        await cluster.start_realm(REALM, *routers, scale=2)
        for proxy in proxies:
            await cluster.served(REALM, proxy)
        yield Two(cluster, routers, proxies)


@pytest.mark.slow
async def test_who_is_lost_with_a_proxy_or_a_router_is_back_at_the_other(two: Two, tmp_path: Path) -> None:
    proxy1, router1 = two.proxies[0], two.routers[0]
    run = await Run.start(tmp_path, *two.options, "--realm", REALM, "--count", str(COUNT), "--json")
    try:
        await until(run.all_joined, WITHIN_S)
        assert {event["proxy"] for event in run.events("joined")} == set(two.urls)
        assert {event["router"] for event in run.events("joined")} == {"router1", "router2"}
        at_proxy1 = {event["client"] for event in run.events("joined") if event["proxy"] == two.urls[0]}
        await proxy1.running.kill()
        await until(lambda: run.count("lost", len(at_proxy1)), WITHIN_S)
        await until(run.all_joined, WITHIN_S)
        assert {event["client"] for event in run.events("lost")} == at_proxy1
        assert all(event["proxy"] == two.urls[1] for event in run.events("joined")[COUNT:])
        on_router1 = run.on_router("router1")
        lost = len(run.events("lost"))
        await router1.running.terminate()  # it drains: nobody is refused meanwhile
        await until(lambda: run.count("lost", lost + len(on_router1)), WITHIN_S)
        await until(run.all_joined, WITHIN_S)
        assert {event["client"] for event in run.events("lost")[lost:]} == on_router1 != set()
        code, summary = await run.end()
    finally:
        await run.kill()
    assert run.events("failed") == run.events("gave_up") == []
    assert code == 0 and summary["good"], summary
    assert (summary["clients"], summary["joined"], summary["failed_joins"]) == (COUNT, COUNT, 0)
    assert summary["losses"] == len(run.events("lost")) == summary["joins"] - COUNT
    assert summary["slowest_return_s"] == max(event["away_s"] or 0 for event in run.events("joined")) < BACK_WITHIN_S
    assert summary["calls"] > 0 and summary["calls_unanswered"] == 0
    for node in (proxy1, router1):
        await two.cluster.bring_up(node)
    for proxy in two.proxies:
        await two.cluster.served(REALM, proxy)


@pytest.mark.slow
async def test_a_realm_that_there_is_not_fails_each_join(two: Two, tmp_path: Path) -> None:
    run = await Run.start(tmp_path, *two.options, "--realm", "nowhere", "--count", "2", "--for", "12", "--json")
    try:
        code, summary = await run.ended()
    finally:
        await run.kill()
    assert code == 1 and not summary["good"] and summary["joined"] == 0
    assert {failure["proxy"] for failure in summary["failures"]} == set(two.urls)
    assert all("no_such_realm" in failure["reason"] for failure in summary["failures"]), summary
    assert summary["away"] == {}


@pytest.mark.slow
async def test_people_get_a_line_for_what_is_worth_one(two: Two, tmp_path: Path) -> None:
    away = "ws://127.0.0.1:1/ws"
    options = ["--url", away, *two.options, "--realm", REALM, "--count", "3"]
    process = (await Run.start(tmp_path, *options)).process
    try:
        await process.line("3 clients joined at 2 proxies within", timeout_s=WITHIN_S)
        process.signal(signal.SIGINT)
        assert await process.ended(WITHIN_S) == 0
    finally:
        await process.kill()
    joined, summary = (line.text for line in process.lines)
    assert "3 clients joined" in joined
    assert "3 of 3 clients are joined after" in summary and "0 losses; no failed joins" in summary


async def test_an_answer_that_is_none_of_a_proxy_is_a_failed_join(tmp_path: Path) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with (
        await asyncio.start_server(answer, "127.0.0.1", 0) as refusing,
        await asyncio.start_server(hang_up, "127.0.0.1", 0) as leaving,
    ):
        refuses, leaves = (f"ws://127.0.0.1:{each.sockets[0].getsockname()[1]}/ws" for each in (refusing, leaving))
        run = await Run.start(tmp_path, "--url", refuses, "--url", leaves, "--count", "1", "--for", "2", "--json")
        try:
            code, summary = await run.ended()
        finally:
            await run.kill()
    assert code == 1
    assert [failure["proxy"] for failure in summary["failures"]] == [refuses], summary
    assert "503" in summary["failures"][0]["reason"]
    assert list(summary["away"]) == [leaves]


@pytest.mark.parametrize("options", [[], ["--url", "http://127.0.0.1"], ["--url", "ws://127.0.0.1", "--count", "0"]])
async def test_wrong_usage_is_told_at_once(options: list[str], tmp_path: Path) -> None:
    process = (await Run.start(tmp_path, *options)).process
    assert await process.ended(WITHIN_S) == 2
    assert any(line.text.startswith(("Error", "Usage")) for line in process.lines)
