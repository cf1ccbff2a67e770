"""What a cluster costs while nothing changes: the management calls that its nodes are asked, and the master's events.

Twice the same cluster, one after the other: 4 proxies in one web cluster, 4 routers, 10 realms with a router worker
each; the master first with the patches, then as released. The master is real, the nodes are simulated (`simulation.py`)
and count what they are asked. Counting begins when everything is as configured, and some time has passed since.

    python bench/idle.py [--count-s 120] [--json]
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections import Counter
from typing import Any

from autobahn.wamp.types import SubscribeOptions
from rich.table import Table
from simulation import Site, Tell, calls_by_procedure, converge, run_benchmark, simulated_cluster, software

PROXIES, ROUTERS, REALMS = 4, 4, 10
#: What is left to do when everything is as configured, the master does meanwhile: the release ticks every 10 s.
SETTLE_S = 15.0


async def measure(options: argparse.Namespace, tell: Tell) -> dict[str, Any]:
    wanted = {"ours": (True,), "release": (False,), "both": (True, False)}[options.only]
    return {"count_s": options.count_s, "cases": [await measure_case(patched, options, tell) for patched in wanted]}


async def measure_case(patched: bool, options: argparse.Namespace, tell: Tell) -> dict[str, Any]:
    async with simulated_cluster(patched, lambda step: tell(f"{software(patched)}: {step}")) as simulated:
        proxies = simulated.add(*(f"proxy{n}" for n in range(1, PROXIES + 1)))
        routers = simulated.add(*(f"router{n}" for n in range(1, ROUTERS + 1)))
        site = Site("bench", proxies, {f"realm{n}": routers[n % ROUTERS] for n in range(1, REALMS + 1)})
        await simulated.pair()
        await simulated.join(simulated.nodes)
        await simulated.configure(site)
        simulated.tell("waiting until everything is as configured")
        await converge(simulated, [site])
        await asyncio.sleep(SETTLE_S)
        simulated.tell(f"counting for {options.count_s:g} s")
        events: Counter[str] = Counter()
        await simulated.cluster.management.subscribe(
            lambda *args, details, **kwargs: events.update([details.topic]),
            "crossbarfabriccenter.",
            SubscribeOptions(match="prefix", details_arg="details"),
        )
        before = calls_by_procedure(simulated.nodes)
        await asyncio.sleep(options.count_s)
        calls = calls_by_procedure(simulated.nodes)
        calls.subtract(before)
        await converge(simulated, [site])
    return {"patched": patched, "calls": dict(+calls), "events": dict(events)}


def table(measured: dict[str, Any]) -> Table:
    cases = measured["cases"]
    shown = Table(
        title=f"Nothing changes: {PROXIES} proxies, {ROUTERS} routers, {REALMS} realms",
        caption=f"Per minute, counted over {measured['count_s']:g} s.",
    )
    shown.add_column("")
    for case in cases:
        shown.add_column(software(case["patched"]), justify="right", no_wrap=True)
    if len(cases) == 2:
        shown.add_column("ours / release", justify="right")

    def row(label: str, counts: list[int]) -> None:
        per_minute = [f"{count * 60 / measured['count_s']:.1f}" for count in counts]
        shown.add_row(label, *per_minute, *([ratio(*counts)] if len(counts) == 2 else []))

    for kind in ("calls", "events"):
        row(f"{kind}, all", [sum(case[kind].values()) for case in cases])
        for name in sorted({name for case in cases for name in case[kind]}):
            row(f"  {name}", [case[kind].get(name, 0) for case in cases])
        shown.add_section()
    return shown


def ratio(ours: int, release: int) -> str:
    if not ours:
        return "0"
    return f"1/{release / ours:.1f}"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--count-s", type=float, default=120.0, help="how long calls are counted (default: 120)")
    parser.add_argument(
        "--only", choices=("ours", "release", "both"), default="both", help="which master to measure (default: both)"
    )
    return run_benchmark(parser, measure, table)


if __name__ == "__main__":
    sys.exit(main())
