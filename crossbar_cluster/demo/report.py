"""What a demo comes to: a table, a few words, or one JSON document."""

from __future__ import annotations

from importlib import metadata
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from crossbar_cluster import __version__
from crossbar_cluster.demo.events import Milestone, RoundResult, spread
from crossbar_cluster.demo.rounds import Options
from crossbar_cluster.demo.runner import Finished, Kept

_HEADERS = {
    Milestone.AUTHENTICATED: "authen-\nticated",
    Milestone.RECORD_REFRESHED: "record\nfresh",
    Milestone.WORKER_LISTENING: "worker\nlistens",
    Milestone.PROXY_REPOINTED: "proxy\npointed",
    Milestone.CLIENT_SERVED: "client\nserved",
}


def print_summary(console: Console, options: Options, finished: Finished) -> None:
    """Print the table of all rounds, what it means, and how to reach a cluster that was kept."""
    console.print()
    console.print(_table(finished.results))
    console.print(Text("Seconds since the router's new process was started; outage: as the client saw it.", "dim"))
    console.print()
    console.print(_meaning(options, finished), soft_wrap=True)
    if finished.kept is not None:
        _print_kept(console, finished.kept)


def _table(results: list[RoundResult]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 1), header_style="bold")
    table.add_column("\nround", justify="right")
    table.add_column("\nrouter")
    for milestone in Milestone:
        table.add_column(_HEADERS[milestone], justify="right")
    table.add_column("\noutage", justify="right")
    table.add_column("calls\nanswered", justify="right")
    for result in results:
        cells = [_seconds(result.seconds[milestone]) for milestone in Milestone]
        move = f"{result.old_address} -> {result.new_address}"
        table.add_row(str(result.number), move, *cells, _seconds(result.outage_s), str(result.calls_answered))
    if len(results) > 1:
        columns = [[result.seconds[milestone] for result in results] for milestone in Milestone]
        columns.append([result.outage_s for result in results])
        for name, which in (("median", 0), ("max", 1)):
            table.add_row("", Text(name, "bold"), *(_seconds(spread(column)[which]) for column in columns), "")
    return table


def _seconds(value: float | None) -> Text:
    return Text("never", "red") if value is None else Text(f"{value:.2f}")


def _meaning(options: Options, finished: Finished) -> Text:
    results = finished.results
    moved = f"The router moved {_times(len(results))}."
    if finished.recovered:
        median, longest = spread([result.seconds[Milestone.CLIENT_SERVED] for result in results])
        took = f"{longest:.1f} s" if len(results) == 1 else f"{median:.1f} s (median), {longest:.1f} s at most,"
        said = f"{moved} The client was served again {took} after the router was back."
        tip = "\nThe release alone does not get there: try  crossbar-cluster demo --release" if options.patched else ""
        return Text(said + tip, "green")
    lost = sum(not result.recovered for result in results)
    said = f"{moved} The client was not served again after {lost} of {len(results)}, in {options.watch_s:g} s each."
    if options.patched:
        return Text(f"{said}\nThat should not be. --watch-s gives it longer, --keep leaves the logs to look at.", "red")
    return Text(
        f"{said}\nThis was the release as it is: its proxies go on asking at the address where the router was first.\n"
        "See the same with the patches: crossbar-cluster demo",
        "yellow",
    )


def _times(count: int) -> str:
    return {1: "once", 2: "twice"}.get(count, f"{count} times")


def _print_kept(console: Console, kept: Kept) -> None:
    lines = {
        "directory": str(kept.directory),
        "processes": ", ".join(f"{name} {pid}" for name, pid in kept.pids.items()),
        "clients": f"{kept.url}  realm {kept.realm}, anonymous",
        "management": f"{kept.management_url}  realm default, key {kept.management_key}",
        "for instance": f"crossbar shell --dotdir {kept.management_key.parent} show status",
        "stop it all": kept.stop,
    }
    console.print()
    console.print(Text("The cluster is left running.", "bold"))
    for name, value in lines.items():
        console.print(Text.assemble(f"  {name:<13}", value), soft_wrap=True)


def as_json(options: Options, finished: Finished | None, error: str | None = None) -> dict[str, Any]:
    """The demo as a JSON document; its fields are described in the command's help."""
    results = finished.results if finished else []
    kept = finished.kept if finished else None
    served_median, served_max = spread([result.seconds[Milestone.CLIENT_SERVED] for result in results])
    outage_median, outage_max = spread([result.outage_s for result in results])
    return {
        "recovered": finished is not None and finished.recovered,
        "patched": options.patched,
        "versions": {"crossbar": _release(), "crossbar-cluster": __version__},
        "rounds": [_round(result) for result in results],
        "client_served_s": {"median": _ms(served_median), "max": _ms(served_max)},
        "outage_s": {"median": _ms(outage_median), "max": _ms(outage_max)},
        "kept": kept
        and {
            "directory": str(kept.directory),
            "pids": kept.pids,
            "url": kept.url,
            "realm": kept.realm,
            "management_url": kept.management_url,
            "management_key": str(kept.management_key),
            "stop": kept.stop,
        },
        "error": error,
    }


def _release() -> str | None:
    try:
        return metadata.version("crossbar")
    except metadata.PackageNotFoundError:
        return None


def _ms(seconds: float | None) -> float | None:
    """To the millisecond: nothing here is measured more closely."""
    return None if seconds is None else round(seconds, 3)


def _round(result: RoundResult) -> dict[str, Any]:
    return {
        "round": result.number,
        "old_address": result.old_address,
        "new_address": result.new_address,
        "recovered": result.recovered,
        "seconds": {
            "killed": _ms(result.killed_s),
            "back": 0.0,
            **{milestone.value: _ms(result.seconds[milestone]) for milestone in Milestone},
        },
        "watched_s": result.watched_s,
        "outage_s": _ms(result.outage_s),
        "calls_answered": result.calls_answered,
        "attempts_failed": result.attempts_failed,
    }
