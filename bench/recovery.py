"""How long a client waits when a router comes back somewhere else: crossbar-cluster and the release, side by side.

Four cases, one after the other, each on a real cluster of its own (`crossbar_cluster.lab`): with the patches and with
the release as it is, the router known by its address and by a host name. Every round kills the router with SIGKILL and
starts it at another address of 127.0.0.0/8, while a client calls through the proxy without pause.

    python bench/recovery.py [--rounds 3] [--watch-s 30] [--json]

bench/README.md says what the columns mean. Nothing here is an assertion: how long it takes depends on the machine, the
ratio much less.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import platform
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path

from rich.console import Console
from rich.table import Table

from crossbar_cluster.demo.events import spread
from crossbar_cluster.lab.cluster import Cluster, Node, loopback_cluster
from crossbar_cluster.lab.host import LoopbackHost, LoopbackNetwork
from crossbar_cluster.lab.process import NodeProcess, ProcessFailed

REALM = "realm1"
NAME = "router1.bench"
#: How long the client goes on calling before the next round.
PAUSE_S = 1.0

# Lines of the router's own log, which the release writes and the patches leave alone: both are measured alike.
AUTHENTICATED = "manager attached as node"
WORKER_STARTING = "Starting router-worker"
WORKER_LISTENING = "started as transport"


@dataclass(frozen=True)
class Round:
    """One move of the router. Seconds; None for what did not come while it was watched."""

    node_boot_s: float | None  #: the router's process is started -> the master has let it in
    worker_boot_s: float | None  #: it is told to start its router worker -> the worker listens
    served_s: float | None  #: the router's process is started -> the client's first answered call
    watched_s: float

    @property
    def floor_s(self) -> float | None:
        """What a recovery cannot be faster than: both boots."""
        if self.node_boot_s is None or self.worker_boot_s is None:
            return None
        return self.node_boot_s + self.worker_boot_s

    @property
    def overhead_s(self) -> float | None:
        """What was waited beyond the boots."""
        if self.served_s is None or self.floor_s is None:
            return None
        return self.served_s - self.floor_s


@dataclass
class Case:
    """One of the four cases and what was measured."""

    patched: bool
    by_name: bool
    rounds: list[Round] = field(default_factory=list)
    load: float = 0.0  #: 1-minute load average of the machine before the case began

    @property
    def title(self) -> str:
        software = "crossbar-cluster" if self.patched else "release"
        return f"{software}, {'host name' if self.by_name else 'address'}"

    @property
    def served_s(self) -> float | None:
        """Median over the rounds; None when the client was not served in one of them."""
        return spread([round_.served_s for round_ in self.rounds])[0]


# -- measuring --------------------------------------------------------------------------------------------------


async def measure(case: Case, rounds: int, watch_s: float, tell: Callable[[str], None]) -> None:
    """Run ``case`` on a cluster of its own and put what is measured into ``case.rounds``."""
    case.load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="crossbar-cluster-bench-", ignore_cleanup_errors=True) as directory:
        async with loopback_cluster(Path(directory), patched=case.patched) as (cluster, network):
            cluster.tell = lambda step: tell(f"{case.title}: {step}")
            router, proxy = await set_up(cluster, network, case.by_name)
            caller = cluster.caller(REALM, proxy)
            caller.start()
            try:
                await caller.served(0.0, 90.0)
                for number in range(1, rounds + 1):
                    await asyncio.sleep(PAUSE_S)
                    tell(f"{case.title}: round {number} of {rounds}")
                    process = await move(cluster, network, router, case.by_name)
                    served_at = await caller.served(process.started_at, watch_s)
                    with contextlib.suppress(ProcessFailed):  # a worker's log comes through its node: a bit late
                        await process.line(WORKER_LISTENING, timeout_s=PAUSE_S)
                    case.rounds.append(read_round(process, served_at, watch_s))
            finally:
                await caller.stop()


async def set_up(cluster: Cluster, network: LoopbackNetwork, by_name: bool) -> tuple[Node, Node]:
    """Boot and configure a master, a router and a proxy. :returns: the router and the proxy."""
    host = network.host()
    router = cluster.add_node("router1", host, name_of(host, network, by_name))
    proxy = cluster.add_node("proxy1", network.host())
    await cluster.boot()
    await cluster.start_webcluster(proxy)
    await cluster.start_realm(REALM, router)
    cluster.tell("waiting for a client to be served")
    await cluster.served(REALM, proxy)
    return router, proxy


async def move(cluster: Cluster, network: LoopbackNetwork, router: Node, by_name: bool) -> NodeProcess:
    host = network.host()
    return await cluster.move(router, host, name_of(host, network, by_name))


def name_of(host: LoopbackHost, network: LoopbackNetwork, by_name: bool) -> str:
    """What the node on ``host`` says of itself: the host's address, or a name that leads to it from now on."""
    if not by_name:
        return host.address
    network.name(NAME, host.address)
    return NAME


def read_round(router: NodeProcess, served_at: float | None, watch_s: float) -> Round:
    """Take a round's durations from the log of the router that has come back."""
    started_at = router.started_at

    def first(pattern: str) -> float | None:
        lines = router.find(pattern)
        return lines[0].at if lines else None

    def between(a: float | None, b: float | None) -> float | None:
        return None if a is None or b is None else b - a

    return Round(
        node_boot_s=between(started_at, first(AUTHENTICATED)),
        worker_boot_s=between(first(WORKER_STARTING), first(WORKER_LISTENING)),
        served_s=between(started_at, served_at),
        watched_s=watch_s,
    )


# -- telling ----------------------------------------------------------------------------------------------------


def table(cases: list[Case], watched_s: float) -> Table:
    shown = Table(
        title="A router comes back at another address",
        caption=f"Seconds: median (max). Never: not within the {watched_s:g} s that were watched.",
    )
    for column in ("", "node boot", "worker boot", "boot floor", "client served", "beyond the floor", "release / ours"):
        shown.add_column(column, justify="right" if column else "left", no_wrap=True)
    for case in cases:
        columns = [
            [getattr(round_, name) for round_ in case.rounds]
            for name in ("node_boot_s", "worker_boot_s", "floor_s", "served_s", "overhead_s")
        ]
        shown.add_row(case.title, *(cell(values) for values in columns), ratio_cell(case, cases))
    return shown


def cell(values: list[float | None]) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return "never"
    missed = len(values) - len(known)
    return f"{statistics.median(known):.2f} ({max(known):.2f})" + (f", {missed} never" if missed else "")


def ratio(case: Case, cases: list[Case]) -> float | None:
    """How many times as long the client of the release waited; None for ours, or when it was never served."""
    ours = next(other for other in cases if other.patched and other.by_name == case.by_name)
    if case.patched or case.served_s is None or ours.served_s is None:
        return None
    return case.served_s / ours.served_s


def ratio_cell(case: Case, cases: list[Case]) -> str:
    if case.patched:
        return ""
    times = ratio(case, cases)
    return "never" if times is None else f"{times:.1f}"


def machine() -> dict[str, object]:
    return {
        "date": time.strftime("%Y-%m-%d"),
        "cores": len(os.sched_getaffinity(0)),
        "machine": platform.machine(),
        "system": platform.system(),
        "python": platform.python_version(),
        "crossbar": version("crossbar"),
        "crossbar-cluster": version("crossbar-cluster"),
    }


def as_json(cases: list[Case]) -> str:
    measured = [
        {
            "case": case.title,
            "patched": case.patched,
            "by": "host name" if case.by_name else "address",
            "load_before": case.load,
            "rounds": [
                {**asdict(round_), "floor_s": round_.floor_s, "overhead_s": round_.overhead_s} for round_ in case.rounds
            ],
            "release_to_ours": ratio(case, cases),
        }
        for case in cases
    ]
    return json.dumps({"machine": machine(), "cases": measured}, indent=2)


# -- running ----------------------------------------------------------------------------------------------------


async def run(cases: list[Case], rounds: int, watch_s: float, tell: Callable[[str], None]) -> None:
    task = asyncio.current_task()
    assert task is not None
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda loop, context: None)  # of connections that are killed
    for number in (signal.SIGTERM, signal.SIGHUP):  # as for Ctrl-C: leave no process behind
        loop.add_signal_handler(number, task.cancel)
    for case in cases:
        await measure(case, rounds, watch_s, tell)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3, help="moves of the router in each case (default: 3)")
    parser.add_argument("--watch-s", type=float, default=30.0, help="how long a client is waited for (default: 30)")
    parser.add_argument("--json", action="store_true", help="print every round as JSON instead of the table")
    options = parser.parse_args()
    cases = [Case(patched, by_name) for by_name in (False, True) for patched in (True, False)]
    began = time.monotonic()
    progress = Console(stderr=True, highlight=False)
    try:
        asyncio.run(
            run(
                cases,
                options.rounds,
                options.watch_s,
                lambda step: progress.print(f"{time.monotonic() - began:6.1f} s  {step}", soft_wrap=True),
            )
        )
    except (KeyboardInterrupt, asyncio.CancelledError):
        progress.print("Stopped; everything has been cleaned up.")
        return 130
    except (ProcessFailed, ConnectionError) as failure:
        progress.print(f"The benchmark failed: {failure}", markup=False, soft_wrap=True)
        return 1
    if options.json:
        print(as_json(cases))
        return 0
    console = Console(width=None if sys.stdout.isatty() else 130)
    console.print(table(cases, options.watch_s))
    known = ", ".join(f"{name} {value}" for name, value in machine().items())
    console.print(f"{known}; load before each case: {', '.join(f'{case.load:.1f}' for case in cases)}", soft_wrap=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
