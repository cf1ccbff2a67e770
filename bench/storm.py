"""Reconnect storms: how many clients a second get in through one proxy, what they can do then, and what each costs.

First with the patches, then as released, on a real cluster of a master, a router and a proxy each:

- joins/s: clients that join at the same time (``--at-once``), until ``--clients`` are there; also straight to the
  router worker, with the proxy's key, which is the limit to approach;
- memory: what the proxy's process has grown by for each of them;
- calls/s: callers that call a procedure of another client again and again, all through the proxy;
- events/s: events that one client publishes, as they arrive at ten others through the proxy.

    python bench/storm.py [--clients 1000] [--json]
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import psutil
from autobahn.wamp import message
from autobahn.wamp.role import DEFAULT_CLIENT_ROLES
from rich.table import Table
from simulation import Tell, run_benchmark, software

from crossbar_cluster.core.proof import METHOD, NONCE_BYTES, PART, hello_part
from crossbar_cluster.lab.cluster import PROXY_PORT, Cluster, Node, loopback_cluster
from crossbar_cluster.lab.raw_client import RawClient, anonymous, signed

REALM = "realm1"
CALLERS = 10
SUBSCRIBERS = 10
MEASURE_S = 5.0
IN_FLIGHT = 20  #: events published before their acknowledgement is waited for


async def measure(options: argparse.Namespace, tell: Tell) -> dict[str, Any]:
    return {"clients": options.clients, "cases": [await measure_case(p, options, tell) for p in (True, False)]}


async def measure_case(patched: bool, options: argparse.Namespace, tell: Tell) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="crossbar-cluster-bench-", ignore_cleanup_errors=True) as directory:
        async with loopback_cluster(Path(directory), patched=patched) as (cluster, network):
            cluster.tell = lambda step: tell(f"{software(patched)}: {step}")
            router, proxy = (cluster.add_node(name, network.host()) for name in ("router1", "proxy1"))
            await cluster.boot()
            await cluster.start_webcluster(proxy)
            await cluster.start_realm(REALM, router)
            await cluster.served(REALM, proxy)
            return {"patched": patched, **await measure_cluster(cluster, router, proxy, options)}


async def measure_cluster(cluster: Cluster, router: Node, proxy: Node, options: argparse.Namespace) -> dict[str, Any]:
    async def through_the_proxy() -> RawClient:
        client = await RawClient.connect(proxy.host.address, PROXY_PORT, websocket=True)
        await client.join(anonymous(REALM))
        return client

    worker = await proxy_process(cluster, proxy)
    warm, _ = await storm(through_the_proxy, 50, options.at_once)
    cluster.tell(f"{options.clients} clients join through the proxy")
    before = worker.memory_info().rss
    clients, joins = await storm(through_the_proxy, options.clients, options.at_once)
    grown = (worker.memory_info().rss - before) / options.clients / 1024
    cluster.tell("calls")
    calls = await calls_per_second(clients)
    cluster.tell("events")
    events = await events_per_second(clients)
    for client in warm + clients:
        client.close()
    cluster.tell(f"{options.clients} clients join straight at the router")
    port = await backend_port(cluster, router)
    straight = straight_at(cluster, proxy, router.host.address, port)
    direct, direct_joins = await storm(straight, options.clients, options.at_once)
    for client in direct:
        client.close()
    return {"joins": joins, "direct_joins": direct_joins, "calls": calls, "events": events, "client_kb": grown}


async def storm(join: Callable[[], Awaitable[RawClient]], count: int, at_once: int) -> tuple[list[RawClient], float]:
    """Let ``count`` clients join, ``at_once`` of them at a time. :returns: they, and how many a second got in."""
    clients: list[RawClient] = []
    left = iter(range(count))

    async def one_after_the_other() -> None:
        for _ in left:
            clients.append(await join())

    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(at_once):
            group.create_task(one_after_the_other())
    return clients, count / (time.perf_counter() - began)


def straight_at(cluster: Cluster, proxy: Node, address: str, port: int) -> Callable[[], Awaitable[RawClient]]:
    """A client that joins at a router worker as the proxy does for its clients."""
    key = cluster.node_key(proxy)
    authextra = {
        "pubkey": key.public_key(),
        "proxy_realm": REALM,
        "proxy_authid": "bench",
        "proxy_authrole": "anonymous",
        "proxy_authextra": None,
        PART: hello_part(bytes(NONCE_BYTES)),  # the release passes over it
    }
    hello = message.Hello(REALM, DEFAULT_CLIENT_ROLES, authmethods=[METHOD], authid=proxy.name, authextra=authextra)

    async def join() -> RawClient:
        client = await RawClient.connect(address, port, websocket=False)
        await client.join(hello, lambda extra: signed(key, extra))
        return client

    return join


async def calls_per_second(clients: list[RawClient]) -> float:
    callee, *callers = clients[: CALLERS + 1]
    await callee.ask(message.Register(1, "bench.echo"))
    done = 0

    async def answer() -> None:
        while True:
            invocation = await callee.receive()
            callee.send(message.Yield(invocation.request, args=invocation.args))

    async def call(caller: RawClient) -> None:
        nonlocal done
        request = 0
        while True:
            request += 1
            await caller.ask(message.Call(request, "bench.echo", args=[request]))
            done += 1

    return await per_second(lambda: done, answer(), *(call(caller) for caller in callers))


async def events_per_second(clients: list[RawClient]) -> float:
    publisher, *subscribers = clients[CALLERS + 1 : CALLERS + 2 + SUBSCRIBERS]
    for subscriber in subscribers:
        await subscriber.ask(message.Subscribe(1, "bench.event"))
    arrived = 0

    async def listen(subscriber: RawClient) -> None:
        nonlocal arrived
        while True:
            await subscriber.receive()
            arrived += 1

    async def publish() -> None:
        request = 0
        while True:
            for _ in range(IN_FLIGHT):
                request += 1
                publisher.send(message.Publish(request, "bench.event", args=[request], acknowledge=True))
            for _ in range(IN_FLIGHT):
                await publisher.receive()

    return await per_second(lambda: arrived, publish(), *(listen(each) for each in subscribers))


async def per_second(count: Callable[[], int], *work: Coroutine[Any, Any, None]) -> float:
    """Let all of ``work`` go on for a while. :returns: how much ``count`` grew a second, after a moment to begin."""
    tasks = [asyncio.create_task(each) for each in work]
    try:
        await asyncio.sleep(1.0)
        began, before = time.perf_counter(), count()
        await asyncio.sleep(MEASURE_S)
        return (count() - before) / (time.perf_counter() - began)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def proxy_process(cluster: Cluster, proxy: Node) -> psutil.Process:
    return psutil.Process((await worker_of(cluster, proxy, "proxy"))["pid"])


async def backend_port(cluster: Cluster, router: Node) -> int:
    prefix = f"crossbarfabriccenter.node.{router.name}"
    worker = (await cluster.call(f"{prefix}.get_workers", ["router"]))[0]
    transport = await cluster.call(f"{prefix}.worker.{worker}.get_router_transport", f"tnp_{worker}")
    return int(transport["config"]["endpoint"]["port"])


async def worker_of(cluster: Cluster, node: Node, kind: str) -> dict[str, Any]:
    prefix = f"crossbarfabriccenter.node.{node.name}"
    worker = (await cluster.call(f"{prefix}.get_workers", [kind]))[0]
    found = await cluster.call(f"{prefix}.get_worker", worker)
    assert isinstance(found, dict)
    return found


ROWS = (
    ("joins/s through the proxy", "joins", "{:.0f}"),
    ("joins/s straight at the router", "direct_joins", "{:.0f}"),
    ("calls/s", "calls", "{:.0f}"),
    ("events/s", "events", "{:.0f}"),
    ("memory of the proxy for each client, KiB", "client_kb", "{:.0f}"),
)


def table(measured: dict[str, Any]) -> Table:
    ours, release = measured["cases"]
    shown = Table(title=f"One proxy, one router, {measured['clients']} clients")
    shown.add_column("")
    for column in ("crossbar-cluster", "release", "ours / release"):
        shown.add_column(column, justify="right")
    for title, name, form in ROWS:
        ratio = ours[name] / release[name] if release[name] else float("nan")
        shown.add_row(title, form.format(ours[name]), form.format(release[name]), f"{ratio:.1f}")
    shown.caption = f"Through the proxy / straight at the router: {ours['joins'] / ours['direct_joins']:.2f} with ours."
    return shown


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Joins, calls and events a second through one proxy, beside the release."
    )
    parser.add_argument("--clients", type=int, default=1000, help="how many join (default: %(default)s)")
    parser.add_argument("--at-once", type=int, default=50, help="how many join at the same time (default: %(default)s)")
    return run_benchmark(parser, measure, table)


if __name__ == "__main__":
    sys.exit(main())
