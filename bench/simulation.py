"""What the benchmarks of the control plane share: a real master that manages simulated nodes.

A `Site` is configured as users do it: proxies that are one web cluster, and application realms, each with a router
worker group of its own on one router. Whether the master has brought it to what is configured is asked of the nodes
(`Site.unserved`), with and without the patches alike.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ipaddress
import json
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from recovery import machine
from rich.console import Console
from rich.table import Table

from crossbar_cluster.lab.cluster import MASTER_PORT, PROXY_PORT, Cluster, loopback_cluster
from crossbar_cluster.lab.process import ProcessFailed, group_members
from crossbar_cluster.lab.simulated import SimulatedNode
from crossbar_cluster.lab.simulated_worker import SimulatedProxy, SimulatedRouter

#: How often it is looked at whether something has come about, seconds. What is measured is stamped when it happens.
POLL_S = 0.02
#: How many nodes join at the same time.
JOINS_AT_ONCE = 25
#: Pairing waits for the master's next look at the directory of keys, 10 s apart.
PAIRING_TIMEOUT_S = 120.0
CONVERGE_TIMEOUT_S = 120.0

Tell = Callable[[str], None]


@dataclass
class Site:
    """A web cluster and the realms that are served by it."""

    name: str
    proxies: list[SimulatedNode]
    realms: dict[str, SimulatedNode]  #: name -> the router it is placed on

    @property
    def nodes(self) -> list[SimulatedNode]:
        """Each node once: a router may have several realms."""
        return [*dict.fromkeys(self.realms.values()), *self.proxies]

    def unserved(self) -> str | None:
        """What is not yet as configured, the first of it; None when nothing is."""
        for realm, router in self.realms.items():
            endpoint = self.endpoint(realm)
            if endpoint is None:
                return f"{realm} is not running on {router.name}"
            for proxy in self.proxies:
                if not any(
                    worker.leads_to(realm, endpoint) and "ws" in worker.services.get("primary", ())
                    for worker in proxy.workers.values()
                    if isinstance(worker, SimulatedProxy)
                ):
                    return f"{proxy.name} does not lead {realm} to {router.name}"
        return None

    def endpoint(self, realm: str) -> tuple[str, int] | None:
        """Host and port at which the realm can be reached; None when its router does not serve it."""
        router = self.realms[realm]
        ports = (
            port
            for worker in router.workers.values()
            if isinstance(worker, SimulatedRouter) and realm in worker.realm_names
            for port in worker.ports
        )
        return next(((router.address, port) for port in ports), None)

    def pointed_at(self, endpoint: tuple[str, int]) -> list[float]:
        """When each proxy was told that a connection leads to ``endpoint``, as far as they were, monotonic seconds."""
        workers = (worker for proxy in self.proxies for worker in proxy.workers.values())
        return [w.pointed_at[endpoint] for w in workers if isinstance(w, SimulatedProxy) and endpoint in w.pointed_at]


@dataclass
class SimulatedCluster:
    """A running master and the simulated nodes that it manages."""

    cluster: Cluster
    tell: Tell
    nodes: list[SimulatedNode] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._addresses = iter(ipaddress.ip_network("10.0.0.0/8").hosts())

    def fresh_address(self) -> str:
        """An address that no node has named yet. Nobody ever connects to it."""
        return str(next(self._addresses))

    def add(self, *names: str) -> list[SimulatedNode]:
        added = [SimulatedNode(name, self.cluster.client_host, self.fresh_address()) for name in names]
        self.nodes += added
        return added

    @property
    def calls(self) -> int:
        """How many management calls the nodes have been asked so far."""
        return calls_of(self.nodes)

    async def pair(self) -> None:
        """Have the master pair all nodes, and look up their object ids.

        The keys are removed then: the master reads all of them every 10 s, which would be measured as well.
        """
        self.tell(f"pairing {len(self.nodes)} nodes")
        for node in self.nodes:
            node.write_key(self.cluster.watched)
        deadline = time.monotonic() + PAIRING_TIMEOUT_S
        while len(await self.cluster.manage("get_nodes")) < len(self.nodes):
            if time.monotonic() > deadline:
                raise self.cluster.master.running.failure(f"did not pair all nodes within {PAIRING_TIMEOUT_S:g} s")
            await asyncio.sleep(0.2)
        for node in self.nodes:
            node.oid = (await self.cluster.manage("get_node_by_authid", node.name))["oid"]
            cbdir = self.cluster.watched / node.name / ".crossbar"
            for file in cbdir.iterdir():
                file.unlink()

    async def join(self, nodes: Iterable[SimulatedNode]) -> None:
        """Let ``nodes`` join, a few at a time. :raises JoinFailed:"""
        waiting = iter(list(nodes))

        async def join_next() -> None:
            for node in waiting:
                await node.join(self.cluster.master.host.address, MASTER_PORT)

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(JOINS_AT_ONCE):
                    group.create_task(join_next())
        except BaseExceptionGroup as failed:  # the first is the cause; as it is, it is told in one line
            raise failed.exceptions[0] from None

    async def move(self, node: SimulatedNode) -> None:
        """Let ``node`` come back, empty, at another address."""
        node.address = self.fresh_address()
        await self.join([node])

    async def configure(self, site: Site) -> None:
        """Configure and start the site on the master. Its nodes must be paired."""
        manage = self.cluster.manage
        web = await manage(
            "webcluster.create_webcluster", {"name": f"web_{site.name}", "tcp_port": PROXY_PORT, "tcp_shared": True}
        )
        self.cluster.webcluster = web["oid"]
        for proxy in site.proxies:
            await manage("webcluster.add_webcluster_node", web["oid"], proxy.oid, {"parallel": 1})
        await manage("webcluster.add_webcluster_service", web["oid"], "ws", {"type": "websocket"})
        await manage("webcluster.start_webcluster", web["oid"])
        for realm, router in site.realms.items():
            await self.cluster.start_realm(realm, router)  # all it takes of a node is its name and oid

    def memory_mb(self) -> float:
        """Resident memory of all of the master's processes."""
        return sum(_resident_bytes(pid) for pid in group_members(self.cluster.master.running.pid)) / 2**20


def calls_of(nodes: Iterable[SimulatedNode]) -> int:
    return sum(node.calls.total() for node in nodes)


def calls_by_procedure(nodes: Iterable[SimulatedNode]) -> Counter[str]:
    return sum((node.calls for node in nodes), Counter())


async def served(sites: list[Site], timeout_s: float) -> str | None:
    """Wait until all ``sites`` are as configured. :returns: None; or what is not, after ``timeout_s``."""
    deadline = time.monotonic() + timeout_s
    left = list(sites)
    while left:
        missing = left[-1].unserved()
        if missing is None:
            left.pop()
        elif time.monotonic() > deadline:
            return missing
        else:
            await asyncio.sleep(POLL_S)
    return None


async def converge(simulated: SimulatedCluster, sites: list[Site]) -> None:
    """Wait until all ``sites`` are as configured. :raises ProcessFailed: they were not in time."""
    if missing := await served(sites, CONVERGE_TIMEOUT_S):
        raise simulated.cluster.master.running.failure(f"not within {CONVERGE_TIMEOUT_S:g} s: {missing}")


async def pointed(site: Site, realm: str, timeout_s: float) -> tuple[float | None, float | None]:
    """Wait until all proxies of the site are told where the realm's router, which has moved, listens now.

    :returns: when the first was, and when the last was, monotonic seconds; None: not within ``timeout_s``.
    """
    deadline = time.monotonic() + timeout_s
    told: list[float] = []
    while len(told) < len(site.proxies):
        if time.monotonic() > deadline:
            return min(told, default=None), None
        await asyncio.sleep(POLL_S)
        if (endpoint := site.endpoint(realm)) is not None:
            told = site.pointed_at(endpoint)
    return min(told), max(told)


@contextlib.asynccontextmanager
async def simulated_cluster(patched: bool, tell: Tell) -> AsyncIterator[SimulatedCluster]:
    """A master, with the patches or as released, that has no node yet."""
    with tempfile.TemporaryDirectory(prefix="crossbar-cluster-bench-", ignore_cleanup_errors=True) as directory:
        async with loopback_cluster(Path(directory), patched=patched) as (cluster, _):
            simulated = SimulatedCluster(cluster, tell)
            try:
                cluster.tell = tell
                await cluster.boot()
                cluster.tell = lambda step: None  # a line for each of 200 realms would be too much
                yield simulated
            finally:
                for node in simulated.nodes:
                    node.die()


def _resident_bytes(pid: int) -> int:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:  # it has ended meanwhile
        return 0
    resident = [line.split()[1] for line in status.splitlines() if line.startswith("VmRSS:")]
    return int(resident[0]) * 1024 if resident else 0


# -- running a benchmark ----------------------------------------------------------------------------------------


def software(patched: bool) -> str:
    return "crossbar-cluster" if patched else "release"


def run_benchmark(
    parser: argparse.ArgumentParser,
    measure: Callable[[argparse.Namespace, Tell], Awaitable[dict[str, Any]]],
    table: Callable[[dict[str, Any]], Table],
) -> int:
    """Parse the arguments, measure, print the table or, with ``--json``, what was measured. :returns: an exit code."""
    parser.add_argument("--json", action="store_true", help="print what was measured as JSON instead of the table")
    options = parser.parse_args()
    began = time.monotonic()
    progress = Console(stderr=True, highlight=False)

    def tell(step: str) -> None:
        progress.print(f"{time.monotonic() - began:6.1f} s  {step}", soft_wrap=True)

    async def run() -> dict[str, Any]:
        task = asyncio.current_task()
        assert task is not None
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda loop, context: None)  # of connections that are dropped
        for number in (signal.SIGTERM, signal.SIGHUP):  # as for Ctrl-C: leave no process behind
            loop.add_signal_handler(number, task.cancel)
        return await measure(options, tell)

    try:
        measured = asyncio.run(run())
    except (KeyboardInterrupt, asyncio.CancelledError):
        progress.print("Stopped; everything has been cleaned up.")
        return 130
    except (ProcessFailed, ConnectionError) as failure:
        progress.print(f"The benchmark failed: {failure}", markup=False, soft_wrap=True)
        return 1
    if options.json:
        print(json.dumps({"machine": machine(), **measured}, indent=2))
        return 0
    console = Console(width=None if sys.stdout.isatty() else 150)
    console.print(table(measured))
    console.print(", ".join(f"{name} {value}" for name, value in machine().items()), soft_wrap=True)
    return 0
