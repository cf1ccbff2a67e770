"""What well-behaved clients notice of those that are not, and of nodes, clocks and hosts that go wrong.

First with the patches, then as released: a real cluster, ``--clients`` well-behaved clients (`neighbours.py`), and in
turn each of the cases below for ``--seconds``. Who is on the very node that is stopped is not counted: pairs of clients
elsewhere are.

    python bench/abuse.py [--clients 100] [--seconds 15] [--cases flood slow ...] [--only ours] [--json]
    python bench/abuse.py --soak-minutes 120 --seed 1     # all cases at random, and what is kept at the end

A soak counts what every process keeps (`crossbar_cluster.lab.census`) and its memory, before and after.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil
from neighbours import Neighbour, Neighbourhood, Served
from rich.table import Table
from simulation import Tell, run_benchmark, software

from crossbar_cluster.lab.cluster import PROXY_PORT, Cluster, Node, loopback_cluster
from crossbar_cluster.lab.process import ProcessFailed

REALM = "realm1"
CALM_WITHIN_S = 120.0
BEFORE_S = 8.0  #: how long the clients are watched before each case: what it is compared with
AFTER_S = 5.0  #: what a case does may show only when it is over
FEW_DESCRIPTORS = 256
CENSUS_WITHIN_S = 60.0


@dataclass
class Stage:
    """A cluster and its clients, as a case finds them."""

    cluster: Cluster
    routers: list[Node]
    proxies: list[Node]
    clients: Neighbourhood

    @property
    def places(self) -> list[str]:
        return [f"{proxy.host.address}:{PROXY_PORT}" for proxy in self.proxies]

    def workers(self, *nodes: Node) -> list[psutil.Process]:
        """The worker processes of nodes that run."""
        found: list[psutil.Process] = []
        for node in nodes:
            if node.process is not None and node.process.running:
                found += psutil.Process(node.process.pid).children()
        return found

    @property
    def nodes(self) -> list[Node]:
        return [self.cluster.master, *self.routers, *self.proxies]


Unconcerned = Sequence[Neighbour]
Case = Callable[[Stage], contextlib.AbstractAsyncContextManager[Unconcerned]]
CASES: dict[str, Case] = {}


def case(make: Callable[[Stage], AsyncIterator[Unconcerned]]) -> None:
    """Add a case: it goes on until it is left, and gives the clients that are not to notice it."""
    CASES[make.__name__] = contextlib.asynccontextmanager(make)


@contextlib.contextmanager
def abusers(kind: str, stage: Stage) -> Any:
    script = Path(__file__).with_name("abusers.py")
    process = subprocess.Popen([sys.executable, str(script), kind, REALM, *stage.places], stderr=subprocess.DEVNULL)
    try:
        yield
        if process.poll() is not None:
            raise ProcessFailed(f"abusers.py {kind} has ended with code {process.returncode}")
    finally:
        process.kill()
        process.wait()


@case
async def flood(stage: Stage) -> AsyncIterator[Unconcerned]:
    with abusers("flood", stage):
        yield stage.clients.all


@case
async def slow(stage: Stage) -> AsyncIterator[Unconcerned]:
    with abusers("slow", stage):
        yield stage.clients.all


@case
async def silent(stage: Stage) -> AsyncIterator[Unconcerned]:
    with abusers("silent", stage):
        yield stage.clients.all


@case
async def subscribe(stage: Stage) -> AsyncIterator[Unconcerned]:
    with abusers("subscribe", stage):
        yield stage.clients.all


@case
async def churn(stage: Stage) -> AsyncIterator[Unconcerned]:
    with abusers("churn", stage):
        yield stage.clients.all


@case
async def hung_router(stage: Stage) -> AsyncIterator[Unconcerned]:
    node = stage.routers[-1]
    with stopped(stage.workers(node)):
        yield stage.clients.unconcerned([node.name])


@case
async def hung_proxy(stage: Stage) -> AsyncIterator[Unconcerned]:
    node = stage.proxies[-1]
    with stopped(stage.workers(node)):
        yield stage.clients.unconcerned([], node.host.address)


@contextlib.contextmanager
def stopped(processes: Sequence[psutil.Process]) -> Any:
    for process in processes:
        process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGCONT)


@case
async def clock_back(stage: Stage) -> AsyncIterator[Unconcerned]:
    with stepped(stage, -3600.0):
        yield stage.clients.all


@case
async def clock_forward(stage: Stage) -> AsyncIterator[Unconcerned]:
    with stepped(stage, 3600.0):
        yield stage.clients.all


@contextlib.contextmanager
def stepped(stage: Stage, by_s: float) -> Any:
    """Step the clocks of one router and one proxy; and back, afterwards."""
    clocks = [node.host.clock(node.directory) for node in (stage.routers[0], stage.proxies[0])]
    for clock in clocks:
        clock.write_text(str(by_s))
    try:
        yield
    finally:
        for clock in clocks:
            clock.unlink()


@case
async def few_descriptors(stage: Stage) -> AsyncIterator[Unconcerned]:
    """The workers of all proxies may open no more than a few more files than they have now."""
    limits: dict[psutil.Process, tuple[int, int]] = {}
    for process in stage.workers(*stage.proxies):
        limits[process] = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)
        most = max(FEW_DESCRIPTORS, process.num_fds() + 50)
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (most, limits[process][1]))
    try:
        with abusers("idle", stage):
            yield stage.clients.all
    finally:
        for process, limit in limits.items():
            with contextlib.suppress(ProcessLookupError):
                resource.prlimit(process.pid, resource.RLIMIT_NOFILE, limit)


# -- measuring --------------------------------------------------------------------------------------------------


async def measure(options: argparse.Namespace, tell: Tell) -> dict[str, Any]:
    if options.soak_minutes:
        async with stage_of(True, options, tell) as stage:
            return await soak(stage, options, tell)
    clusters = []
    for patched in (True,) if options.only == "ours" else (True, False):
        async with stage_of(patched, options, tell) as stage:
            clusters.append({"patched": patched, "cases": await measure_cases(stage, options, tell)})
    return {"clients": options.clients, "clusters": clusters}


@contextlib.asynccontextmanager
async def stage_of(patched: bool, options: argparse.Namespace, tell: Tell) -> AsyncIterator[Stage]:
    """Two proxies and two routers that are one realm; as released one router, as two never serve anybody."""
    with tempfile.TemporaryDirectory(prefix="crossbar-cluster-bench-", ignore_cleanup_errors=True) as directory:
        async with loopback_cluster(Path(directory), patched=patched) as (cluster, network):
            cluster.tell = lambda step: tell(f"{software(patched)}: {step}")
            network.clocks = True
            names = ["router1", "router2"] if patched else ["router1"]
            routers = [cluster.add_node(name, network.host()) for name in names]
            proxies = [cluster.add_node(name, network.host()) for name in ("proxy1", "proxy2")]
            await cluster.boot()
            await cluster.start_webcluster(*proxies)
            await cluster.start_realm(REALM, *routers, scale=len(routers))
            for proxy in proxies:
                await cluster.served(REALM, proxy)
            places = [(proxy.host.address, PROXY_PORT) for proxy in proxies]
            async with Neighbourhood(options.clients, places, REALM) as clients:
                await clients.calm(CALM_WITHIN_S)
                yield Stage(cluster, routers, proxies, clients)


async def measure_cases(stage: Stage, options: argparse.Namespace, tell: Tell) -> dict[str, Any]:
    measured: dict[str, Any] = {}
    for name in options.cases:
        stage.cluster.tell(name)
        measured[name] = await measure_case(stage, name, options.seconds)
        try:
            await stage.clients.calm(CALM_WITHIN_S)
        except TimeoutError as e:
            measured[name]["problem"] = str(e)
            tell(f"{name}: {e}; the cases after it are left out")
            break
    return measured


async def measure_case(stage: Stage, name: str, seconds: float) -> dict[str, Any]:
    before = time.monotonic()
    await asyncio.sleep(BEFORE_S)
    began, memory = time.monotonic(), Memory(stage)
    watching = asyncio.create_task(memory.watch())
    async with CASES[name](stage) as unconcerned:
        await asyncio.sleep(seconds)
    ended = time.monotonic()
    await asyncio.sleep(AFTER_S)
    watching.cancel()
    calm = stage.clients.served(unconcerned, before, began)
    served = stage.clients.served(unconcerned, began, ended)
    lost = stage.clients.served(unconcerned, began, time.monotonic()).lost
    return {"calm": asdict(calm), "served": {**asdict(served), "lost": lost}, "grown_mb": memory.grown_mb}


class Memory:
    """By how much the worker that grows most has grown, resident."""

    def __init__(self, stage: Stage) -> None:
        self._processes = stage.workers(*stage.routers, *stage.proxies)
        self._before = {process: _resident_mb(process) for process in self._processes}
        self.grown_mb = 0.0

    async def watch(self) -> None:
        while True:
            grown = (_resident_mb(process) - self._before[process] for process in self._processes)
            self.grown_mb = max(self.grown_mb, *grown)
            await asyncio.sleep(0.5)


def _resident_mb(process: psutil.Process) -> float:
    with contextlib.suppress(psutil.NoSuchProcess):
        return float(process.memory_info().rss) / 2**20
    return 0.0


# -- soaking ----------------------------------------------------------------------------------------------------


async def soak(stage: Stage, options: argparse.Namespace, tell: Tell) -> dict[str, Any]:
    """All cases at random. What is kept is counted when all is calm: after the first of each, and at the end."""
    chance = random.Random(options.seed)
    names = list(options.cases)
    rounds: list[dict[str, Any]] = []
    for name in names:  # once each, so that whatever is made when it is first needed has been made
        rounds.append({"case": name, **await measure_case(stage, name, options.seconds)})
        await stage.clients.calm(CALM_WITHIN_S)
    first = await counted(stage)
    until = time.monotonic() + 60 * options.soak_minutes
    while time.monotonic() < until:
        name = chance.choice(names)
        rounds.append({"case": name, **await measure_case(stage, name, options.seconds * chance.uniform(0.3, 2.0))})
        served = rounds[-1]["served"]
        left_min = (until - time.monotonic()) / 60
        tell(f"{left_min:.0f} min left: {name}: {served['lost']} lost, p99 {served['p99_s']:.2f} s")
        await stage.clients.calm(CALM_WITHIN_S)
    return {"seed": options.seed, "rounds": rounds, "first": first, "last": await counted(stage)}


async def counted(stage: Stage) -> dict[str, Any]:
    """Memory and census of each process, by node and kind. What a case has left takes its time to go: it is waited."""
    await asyncio.sleep(60.0)
    found: dict[str, Any] = {}
    for node in stage.nodes:
        controller = psutil.Process(node.running.pid)
        for process in (controller, *controller.children()):
            found[f"{node.name} {_kind_of(process)}"] = {
                "resident_mb": _resident_mb(process),
                "descriptors": process.num_fds(),
                "kept": await census_of(node, process),
            }
    return found


def _kind_of(process: psutil.Process) -> str:
    words = process.cmdline()
    return " ".join(words[words.index("-m") + 1 :])[:100] if "-m" in words else "controller"


async def census_of(node: Node, process: psutil.Process) -> Mapping[str, int]:
    written = node.directory / "site" / f"census-{process.pid}.json"
    written.unlink(missing_ok=True)
    os.kill(process.pid, signal.SIGUSR2)
    async with asyncio.timeout(CENSUS_WITHIN_S):
        while not written.exists():
            await asyncio.sleep(0.1)
    census = json.loads(written.read_text())
    assert isinstance(census, dict)
    return census


# -- what is shown ----------------------------------------------------------------------------------------------


def table(measured: dict[str, Any]) -> Table:
    return soak_table(measured) if "rounds" in measured else cases_table(measured)


def cases_table(measured: dict[str, Any]) -> Table:
    shown = Table(title=f"{measured['clients']} well-behaved clients beside others")
    shown.add_column("case")
    for cluster in measured["clusters"]:
        name = software(cluster["patched"])
        for column in ("lost", "median", "calm", "p99", "MB grown"):
            shown.add_column(f"{name}\n{column}", justify="right")
    for name in measured["clusters"][0]["cases"]:
        row = [name]
        for cluster in measured["clusters"]:
            row += cells(cluster["cases"].get(name))
        shown.add_row(*row)
    return shown


def cells(found: Mapping[str, Any] | None) -> Collection[str]:
    if found is None:
        return ["-"] * 5
    calm, served = Served(**found["calm"]), Served(**found["served"])
    times = (served.median_s, calm.median_s, served.p99_s)
    lost = f"{served.lost} of {served.clients}" + (" !" if "problem" in found else "")
    return [lost, *(f"{1000 * s:.0f} ms" for s in times), f"{found['grown_mb']:.0f}"]


def soak_table(measured: dict[str, Any]) -> Table:
    rounds = measured["rounds"]
    lost = sum(each["served"]["lost"] for each in rounds)
    shown = Table(title=f"{len(rounds)} cases at random (seed {measured['seed']}), {lost} sessions lost")
    for column in ("process", "MB", "descriptors", "what is kept more of"):
        shown.add_column(column)
    for process, last in measured["last"].items():
        first = measured["first"].get(process)
        if first is None:
            shown.add_row(process, f"{last['resident_mb']:.0f}", str(last["descriptors"]), "it is a new one")
            continue
        more = {k: (first["kept"].get(k, 0), n) for k, n in last["kept"].items() if n > first["kept"].get(k, 0)}
        grown = sorted(more.items(), key=lambda item: item[1][0] - item[1][1])[:8]
        shown.add_row(
            process,
            f"{first['resident_mb']:.0f} -> {last['resident_mb']:.0f}",
            f"{first['descriptors']} -> {last['descriptors']}",
            "\n".join(f"{name}: {was} -> {now}" for name, (was, now) in grown),
        )
    return shown


def main() -> int:
    parser = argparse.ArgumentParser(description="What well-behaved clients notice of others that are not.")
    parser.add_argument("--clients", type=int, default=100, help="well-behaved ones (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=15.0, help="how long a case lasts (default: %(default)g)")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES), help="which, in this order")
    parser.add_argument("--only", choices=["ours"], help="without the release beside it")
    parser.add_argument("--soak-minutes", type=float, default=0.0, help="all cases at random for so long")
    parser.add_argument("--seed", type=int, default=1, help="of the soak (default: %(default)s)")
    return run_benchmark(parser, measure, table)


if __name__ == "__main__":
    sys.exit(main())
