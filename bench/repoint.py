"""How soon all proxies know where a router is that has come back at another address: the master's part alone.

The master is real, the nodes are simulated (`simulation.py`): their workers start at once, so that no boot is measured.
Every round the router drops its connection and its workers, and joins again at another address; what is measured is
the time from its WELCOME until the last proxy is told where it listens.

    python bench/repoint.py [--proxies 4 50] [--rounds 30] [--json]
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
from typing import Any

from rich.table import Table
from simulation import Site, Tell, converge, pointed, run_benchmark, simulated_cluster

REALM = "realm1"
#: How long the router is away, and how long it is left alone when all proxies know it again.
PAUSE_S = 0.5
ROUND_TIMEOUT_S = 30.0


async def measure(options: argparse.Namespace, tell: Tell) -> dict[str, Any]:
    return {"cases": [await measure_case(proxies, options.rounds, tell) for proxies in options.proxies]}


async def measure_case(proxies: int, rounds: int, tell: Tell) -> dict[str, Any]:
    """Let the router of a cluster with that many proxies move, ``rounds`` times.

    :returns: for each round the seconds until the first and the last proxy was told; None for what did not come.
    """
    async with simulated_cluster(True, lambda step: tell(f"{proxies} proxies: {step}")) as simulated:
        router, *others = simulated.add("router1", *(f"proxy{n}" for n in range(1, proxies + 1)))
        site = Site("bench", others, {REALM: router})
        await simulated.pair()
        await simulated.join(simulated.nodes)
        await simulated.configure(site)
        await converge(simulated, [site])
        simulated.tell(f"{rounds} rounds")
        measured = []
        for _ in range(rounds):
            await asyncio.sleep(PAUSE_S)
            router.die()
            await asyncio.sleep(PAUSE_S)
            await simulated.move(router)
            first, last = (at and at - router.welcomed_at for at in await pointed(site, REALM, ROUND_TIMEOUT_S))
            measured.append({"first_s": first, "last_s": last})
    return {"proxies": proxies, "rounds": measured}


def table(measured: dict[str, Any]) -> Table:
    shown = Table(
        title="A router has come back at another address: all proxies know it",
        caption="Milliseconds from the router's WELCOME at the master to the re-pointing of the proxy.",
    )
    for column in ("proxies", "rounds", "first proxy, median", "last proxy, median", "p95", "max"):
        shown.add_column(column, justify="right", no_wrap=True)
    for case in measured["cases"]:
        first, last = ([round_[name] for round_ in case["rounds"]] for name in ("first_s", "last_s"))
        shown.add_row(
            str(case["proxies"]), str(len(last)), cell(first, statistics.median), cell(last, statistics.median),
            cell(last, percentile_95), cell(last, max),
        )  # fmt: skip
    return shown


def cell(durations_s: list[float | None], summary: Any) -> str:
    if None in durations_s:
        return f"never in {durations_s.count(None)}"
    return f"{1000 * summary(durations_s):.0f}"


def percentile_95(values: list[float]) -> float:
    return statistics.quantiles(values, n=20, method="inclusive")[-1] if len(values) > 1 else values[0]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--proxies", type=int, nargs="+", default=[4, 50], help="numbers of proxies (default: 4 50)")
    parser.add_argument("--rounds", type=int, default=30, help="moves of the router in each case (default: 30)")
    return run_benchmark(parser, measure, table)


if __name__ == "__main__":
    sys.exit(main())
