"""What a link costs: calls and events a second between clients on two routers of a realm, beside those on one router.

One real cluster of a master and a realm on two routers; the clients connect straight to the router workers, with the
key of a node that is paired as a proxy, so that routers are what is measured. Rounds on one router and across the link
alternate. Beside the rates stands what they cost the routers, which does not depend on how many cores there are: on
one router only one is busy, across a link two are.

- calls: 10 callers with 5 calls in flight each, 5 callees with a procedure each;
- events to one: 10 publishers with a topic and a subscriber each: every event crosses the link by itself;
- events to ten: one publisher, 10 subscribers: an event crosses the link once, for all of them.

    python bench/mesh.py [--rounds 3] [--json]
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from statistics import median
from typing import Any

import psutil
from autobahn.wamp import message
from rich.table import Table
from simulation import Tell, run_benchmark
from storm import REALM, backend_port, storm, straight_at, worker_of

from crossbar_cluster.lab.cluster import Cluster, Node, loopback_cluster
from crossbar_cluster.lab.raw_client import RawClient

ACTIVE = 10  #: callers, publishers
CALLEES = 5
CALLS_IN_FLIGHT = 5  #: of each caller
EVENTS_IN_FLIGHT = 20  #: published before their acknowledgement is waited for
WARM_S = 1.0
MEASURE_S = 5.0
JOINS = 500
AT_ONCE = 50

Join = Callable[[], Awaitable[RawClient]]


class Work:
    """Raw clients that go on until it is closed. :ivar done: what they have brought about, in whatever unit."""

    def __init__(self) -> None:
        self.done = 0
        self._clients: list[RawClient] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def client(self, join: Join) -> RawClient:
        client = await join()
        self._clients.append(client)
        return client

    def go_on(self, work: Any) -> None:
        self._tasks.append(asyncio.create_task(work))

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for client in self._clients:
            client.close()

    # -- calls --------------------------------------------------------------------------------------------------

    async def begin_calls(self, here: Join, there: Join) -> None:
        for number in range(CALLEES):
            callee = await self.client(there)
            await callee.ask(message.Register(1, f"bench.echo.{number}"))
            self.go_on(self._answer(callee))
        for number in range(ACTIVE):
            self.go_on(self._call(await self.client(here), f"bench.echo.{number % CALLEES}"))

    async def _answer(self, callee: RawClient) -> None:
        while True:
            invocation = await callee.receive()
            callee.send(message.Yield(invocation.request, args=invocation.args))

    async def _call(self, caller: RawClient, procedure: str) -> None:
        await _shown(lambda: caller.ask(message.Call(1, procedure, args=[1])))
        request = 1 + CALLS_IN_FLIGHT
        for number in range(2, request + 1):
            caller.send(message.Call(number, procedure, args=[number]))
        while True:
            answer = await caller.receive()
            if not isinstance(answer, message.Result):
                raise ConnectionError(f"a call is answered with {answer}")
            self.done += 1
            request += 1
            caller.send(message.Call(request, procedure, args=[request]))

    # -- events -------------------------------------------------------------------------------------------------

    async def begin_events_to_one(self, here: Join, there: Join) -> None:
        for number in range(ACTIVE):
            await self._begin_events(here, there, f"bench.event.{number}", 1)

    async def begin_events_to_ten(self, here: Join, there: Join) -> None:
        await self._begin_events(here, there, "bench.event", ACTIVE)

    async def _begin_events(self, here: Join, there: Join, topic: str, subscribers: int) -> None:
        for _ in range(subscribers):
            subscriber = await self.client(there)
            await subscriber.ask(message.Subscribe(1, topic))
            self.go_on(self._listen(subscriber))
        self.go_on(self._publish(await self.client(here), topic))

    async def _listen(self, subscriber: RawClient) -> None:
        while True:
            await subscriber.receive()
            self.done += 1

    async def _publish(self, publisher: RawClient, topic: str) -> None:
        request = 0
        while True:
            for _ in range(EVENTS_IN_FLIGHT):
                request += 1
                publisher.send(message.Publish(request, topic, args=[request], acknowledge=True))
            for _ in range(EVENTS_IN_FLIGHT):
                await publisher.receive()


async def _shown(call: Callable[[], Awaitable[Any]]) -> None:
    """Wait until what was registered on the other router is shown on this one."""
    while not isinstance(await call(), message.Result):
        await asyncio.sleep(0.05)


KINDS = {
    "calls": Work.begin_calls,
    "events to one": Work.begin_events_to_one,
    "events to ten": Work.begin_events_to_ten,
}


async def measure(options: argparse.Namespace, tell: Tell) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="crossbar-cluster-bench-", ignore_cleanup_errors=True) as directory:
        async with loopback_cluster(Path(directory)) as (cluster, network):
            cluster.tell = tell
            router1, router2, proxy = (cluster.add_node(n, network.host()) for n in ("router1", "router2", "proxy1"))
            await cluster.boot()
            await cluster.start_webcluster(proxy)
            await cluster.start_realm(REALM, router1, router2, scale=2)
            await cluster.served(REALM, proxy)
            return {"rounds": options.rounds, **await measure_cluster(cluster, [router1, router2], proxy, options)}


async def measure_cluster(
    cluster: Cluster, routers: list[Node], proxy: Node, options: argparse.Namespace
) -> dict[str, Any]:
    here, there = [
        straight_at(cluster, proxy, router.host.address, await backend_port(cluster, router)) for router in routers
    ]
    workers = [psutil.Process((await worker_of(cluster, router, "router"))["pid"]) for router in routers]
    rates: dict[str, Any] = {}
    for kind, begin in KINDS.items():
        rounds: dict[str, list[dict[str, float]]] = {"one": [], "link": []}
        for number in range(options.rounds):
            for case, other in (("one", here), ("link", there)):
                cluster.tell(f"{kind}, round {number + 1}, {'on one router' if case == 'one' else 'across the link'}")
                rounds[case].append(await measure_round(begin, here, other, workers))
        rates[kind] = {
            case: {name: median(each[name] for each in found) for name in found[0]} for case, found in rounds.items()
        }
    cluster.tell(f"{JOINS} clients join, half of them on each router")
    before = [worker.memory_info().rss for worker in workers]
    clients, joins = await storm(alternating(here, there), JOINS, AT_ONCE)
    grown = sum(worker.memory_info().rss for worker in workers) - sum(before)
    for client in clients:
        client.close()
    return {"rates": rates, "joins": joins, "client_kb": grown / JOINS / 1024}


def alternating(*joins: Join) -> Join:
    turn = 0

    async def join() -> RawClient:
        nonlocal turn
        turn += 1
        return await joins[turn % len(joins)]()

    return join


async def measure_round(begin: Any, here: Join, there: Join, workers: list[psutil.Process]) -> dict[str, float]:
    """:returns: ``rate`` per second; ``router_us``: CPU time of both routers for each; ``routers`` and ``load`` (of the
    clients): cores used.
    """
    work = Work()
    try:
        await begin(work, here, there)
        await asyncio.sleep(WARM_S)
        began, done, cpu, own = time.perf_counter(), work.done, cpu_s(workers), time.process_time()
        await asyncio.sleep(MEASURE_S)
        took, count = time.perf_counter() - began, work.done - done
        if not count:
            raise ConnectionError("nothing has come through")
        return {
            "rate": count / took,
            "router_us": (cpu_s(workers) - cpu) / count * 1e6,
            "routers": (cpu_s(workers) - cpu) / took,
            "load": (time.process_time() - own) / took,
        }
    finally:
        await work.close()


def cpu_s(workers: list[psutil.Process]) -> float:
    return sum(times.user + times.system for times in (worker.cpu_times() for worker in workers))


def table(measured: dict[str, Any]) -> Table:
    shown = Table(title=f"A link between two routers, median of {measured['rounds']} rounds")
    shown.add_column("")
    for column in ("one router", "across a link", "link / one router"):
        shown.add_column(column, justify="right")
    for kind, cases in measured["rates"].items():
        one, link = cases["one"], cases["link"]
        for title, name, form in (
            (f"{kind}, per second", "rate", "{:.0f}"),
            ("   CPU of the routers for each, microseconds", "router_us", "{:.0f}"),
            ("   cores used: routers", "routers", "{:.2f}"),
            ("   cores used: clients", "load", "{:.2f}"),
        ):
            ratio = f"{link[name] / one[name]:.2f}" if name in ("rate", "router_us") else ""
            shown.add_row(title, form.format(one[name]), form.format(link[name]), ratio)
    shown.caption = (
        f"Joins straight at the two routers: {measured['joins']:.0f} a second; "
        f"{measured['client_kb']:.0f} KiB of the routers' memory for each client."
    )
    return shown


def main() -> int:
    parser = argparse.ArgumentParser(description="Calls and events a second across a link, beside one router.")
    parser.add_argument("--rounds", type=int, default=3, help="how often each is measured (default: %(default)s)")
    return run_benchmark(parser, measure, table)


if __name__ == "__main__":
    sys.exit(main())
