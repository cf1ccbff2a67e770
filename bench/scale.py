"""What the control plane costs with 10, 100 and 1000 nodes: does it grow with the cluster, or with what changes?

The master is real, the nodes are simulated (`simulation.py`), in groups of five: a router, and four proxies that are a
web cluster and serve one realm on that router. For each size a master of its own, with the patches and, for the smaller
sizes, as released: all nodes join, everything is configured, nothing changes for a while, one router moves to another
address, and at last all nodes die and come back empty at once.

    python bench/scale.py [--sizes 10 100 1000] [--release-sizes 10 100] [--idle-s 120] [--json]
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from typing import Any

from rich.table import Table
from simulation import (
    SimulatedCluster,
    Site,
    Tell,
    calls_of,
    pointed,
    run_benchmark,
    served,
    simulated_cluster,
    software,
)

PROXIES_IN_GROUP = 4
#: What is left to do when everything is as configured, the master does meanwhile: the release ticks every 10 s.
SETTLE_S = 15.0
#: How long a change is watched.
WATCH_S = 60.0
#: Calls that a change causes may come until then after it has been carried out.
AFTERMATH_S = 2.0

COLUMNS = (
    ("", ""),
    ("nodes", ""),
    ("converged after", "configuration"),
    ("idle calls", "/min /node"),
    ("one router moves", "re-pointed after"),
    ("calls", "group + others"),
    ("all restart", "(join)"),
    ("calls", "/node"),
    ("memory", "MB"),
)


async def measure(options: argparse.Namespace, tell: Tell) -> dict[str, Any]:
    cases = [(size, True) for size in options.sizes] + [(size, False) for size in options.release_sizes]
    return {"idle_s": options.idle_s, "cases": [await measure_case(*case, options.idle_s, tell) for case in cases]}


async def measure_case(size: int, patched: bool, idle_s: float, tell: Tell) -> dict[str, Any]:
    title = f"{software(patched)}, {size} nodes"
    async with simulated_cluster(patched, lambda step: tell(f"{title}: {step}")) as simulated:
        sites = [add_group(simulated, number) for number in range(1, size // (1 + PROXIES_IN_GROUP) + 1)]
        await simulated.pair()
        simulated.tell("joining")
        began = time.monotonic()
        await simulated.join(simulated.nodes)
        case: dict[str, Any] = {"nodes": size, "patched": patched, "join_s": time.monotonic() - began}
        simulated.tell("configuring")
        began = time.monotonic()
        for site in sites:
            await simulated.configure(site)
        case["configure_s"] = time.monotonic() - began
        case["converge_s"] = await until_served(simulated, sites)
        case["converge_calls"] = simulated.calls
        await asyncio.sleep(SETTLE_S)
        simulated.tell(f"idle for {idle_s:g} s")
        before = simulated.calls
        await asyncio.sleep(idle_s)
        case["idle_calls"] = simulated.calls - before
        case["memory_mb"] = simulated.memory_mb()
        simulated.tell("one router moves")
        case |= await move_one(simulated, sites[len(sites) // 2])
        simulated.tell("all nodes die and come back")
        case |= await restart_all(simulated, sites)
    return case


def add_group(simulated: SimulatedCluster, number: int) -> Site:
    router, *proxies = simulated.add(f"router{number}", *(f"proxy{number}x{n}" for n in range(1, PROXIES_IN_GROUP + 1)))
    return Site(f"group{number}", proxies, {f"realm{number}": router})


async def until_served(simulated: SimulatedCluster, sites: list[Site]) -> float | None:
    """Wait until everything is as configured. :returns: after how many seconds; None: not within `WATCH_S`."""
    began = time.monotonic()
    missing = await served(sites, WATCH_S)
    if missing is not None:
        simulated.tell(f"not within {WATCH_S:g} s: {missing}")
        return None
    return time.monotonic() - began


async def move_one(simulated: SimulatedCluster, site: Site) -> dict[str, Any]:
    """Let the router of one group come back at another address; count what its group, and all others, are asked."""
    [(realm, router)] = site.realms.items()
    others = [node for node in simulated.nodes if node not in site.nodes]
    router.die()
    await asyncio.sleep(AFTERMATH_S)
    before, before_others = calls_of(site.nodes), calls_of(others)
    await simulated.move(router)
    _, told = await pointed(site, realm, WATCH_S)
    await asyncio.sleep(AFTERMATH_S)
    return {
        "move_s": told and told - router.welcomed_at,
        "move_calls": calls_of(site.nodes) - before,
        "move_calls_elsewhere": calls_of(others) - before_others,
    }


async def restart_all(simulated: SimulatedCluster, sites: list[Site]) -> dict[str, Any]:
    """Let all nodes die at once, and come back empty as fast as the master lets them in."""
    for node in simulated.nodes:
        node.die()
    await asyncio.sleep(AFTERMATH_S)
    before = simulated.calls
    began = time.monotonic()
    await simulated.join(simulated.nodes)
    joined_s = time.monotonic() - began
    after_s = await until_served(simulated, sites)
    return {
        "restart_join_s": joined_s,
        "restart_s": after_s and joined_s + after_s,
        "restart_calls": simulated.calls - before,
    }


def table(measured: dict[str, Any]) -> Table:
    shown = Table(
        title="The control plane with many nodes",
        caption=f"Idle calls counted over {measured['idle_s']:g} s. Never: not within the {WATCH_S:g} s watched.",
    )
    for column, unit in COLUMNS:
        shown.add_column(f"{column}\n{unit}", justify="right" if column else "left", no_wrap=True)
    for case in measured["cases"]:
        shown.add_row(
            software(case["patched"]),
            str(case["nodes"]),
            seconds(case["converge_s"]),
            f"{case['idle_calls'] * 60 / measured['idle_s'] / case['nodes']:.2f}",
            seconds(case["move_s"]),
            f"{case['move_calls']} + {case['move_calls_elsewhere']}",
            f"{seconds(case['restart_s'])} ({seconds(case['restart_join_s'])})",
            f"{case['restart_calls'] / case['nodes']:.1f}",
            f"{case['memory_mb']:.0f}",
        )
    return shown


def seconds(value: float | None) -> str:
    return "never" if value is None else f"{value:.2f} s"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--sizes", type=int, nargs="*", default=[10, 100, 1000], help="numbers of nodes (default: 10 100 1000)"
    )
    parser.add_argument(
        "--release-sizes", type=int, nargs="*", default=[10, 100], help="the same, with the release (default: 10 100)"
    )
    parser.add_argument("--idle-s", type=float, default=120.0, help="how long idle calls are counted (default: 120)")
    return run_benchmark(parser, measure, table)


if __name__ == "__main__":
    sys.exit(main())
