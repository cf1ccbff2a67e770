"""The command ``crossbar-cluster demo``: its options, its output, its exit codes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.console import Console

    from crossbar_cluster.demo.rounds import Options
    from crossbar_cluster.demo.runner import Finished
    from crossbar_cluster.demo.view import LineView

PATCHED_WATCH_S = 20.0
RELEASE_WATCH_S = 30.0
REFRESH_S = 0.1


@click.command(context_settings={"max_content_width": 100})
@click.option("--rounds", type=click.IntRange(1, 100), default=3, show_default=True, help="How often the router moves.")
@click.option(
    "--watch-s",
    type=click.FloatRange(min=1.0),
    help=f"How long a round waits for the client to be served, in seconds.  [default: {PATCHED_WATCH_S:g}; with"
    f" --release {RELEASE_WATCH_S:g}]",
)
@click.option("--release", is_flag=True, help="Run the release as it is (CROSSBAR_CLUSTER=off), and see it fail.")
@click.option(
    "--keep", is_flag=True, help="Leave the cluster running at the end, and print how to connect and to stop it."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document at the end; progress goes to stderr.")
def demo(rounds: int, watch_s: float | None, release: bool, keep: bool, as_json: bool) -> None:
    """See a cluster follow a router to another address.

    Starts a master, a router node and a proxy node as real crossbar processes, each at an address of its own of
    127.0.0.0/8, and a client that calls through the proxy without pause. Then it kills the router and brings it back at
    another address, --rounds times. Needs Linux, no root, and about 1.1 GB of memory; takes a minute. Everything is in
    a temporary directory, which is gone afterwards, on Ctrl-C as well.

    \b
    Exit codes:
      0    every round recovered: the client was served again
      1    a round did not recover, or the demo failed
      2    wrong usage
      130  stopped by Ctrl-C (143: by SIGTERM, 129: by SIGHUP)

    \b
    The JSON document (durations in seconds, null for what never came):
      recovered        whether every round recovered
      patched          false with --release
      versions         of crossbar and crossbar-cluster
      rounds           a list:
        round, old_address, new_address, recovered
        seconds        since the router's new process was started: killed (negative), back (0),
                       authenticated, record_refreshed, worker_listening, proxy_repointed, client_served
        watched_s      how long it waited for the client to be served
        outage_s       last call answered before, first one after
        calls_answered, attempts_failed   of the client, in this round
      client_served_s, outage_s   median and max over all rounds, null if one is null
      kept             with --keep: directory, pids, url, realm, management_url, management_key, stop
                       (a shell command); else null
      error            why the demo failed, else null
    Nothing is printed when it is stopped by a signal.
    """
    sys.exit(_guarded(rounds, watch_s, release, keep, as_json))


def _guarded(rounds: int, watch_s: float | None, release: bool, keep: bool, as_json: bool) -> int:
    """Until the event loop takes over, and after it is done, nothing is there to be cleaned up: just leave."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, lambda received, frame: os._exit(128 + received))
    from crossbar_cluster.demo.rounds import Options

    watch_s = watch_s or (RELEASE_WATCH_S if release else PATCHED_WATCH_S)
    try:
        return _run(Options(rounds=rounds, patched=not release, watch_s=watch_s), keep, as_json)
    except KeyboardInterrupt:  # while the summary was printed
        return 128 + signal.SIGINT
    except (BrokenPipeError, OSError) as e:  # nobody reads any more, or the terminal is gone
        with contextlib.suppress(OSError):
            click.echo(f"crossbar-cluster demo: {e}", err=True)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1


def _run(options: Options, keep: bool, as_json: bool) -> int:
    from rich.console import Console

    from crossbar_cluster.demo import report
    from crossbar_cluster.demo.checks import CannotStart
    from crossbar_cluster.demo.runner import SIGNALS, Stopped
    from crossbar_cluster.demo.view import make_view
    from crossbar_cluster.lab.process import ProcessFailed

    console = Console(stderr=as_json, highlight=False)
    if not console.is_terminal:
        console = Console(stderr=as_json, highlight=False, width=100)
    view = make_view(console)
    try:
        finished = asyncio.run(_play(options, keep, view))
    except Stopped as stopped:
        for number in SIGNALS:  # all is cleaned up: nothing is left to interrupt
            signal.signal(number, signal.SIG_IGN)
        with contextlib.suppress(OSError):
            view.close()
            console.print(str(stopped))
        return 128 + stopped.number
    except (CannotStart, ProcessFailed) as failure:
        view.close()
        _print_failure(console, str(failure))
        if as_json:
            click.echo(json.dumps(report.as_json(options, None, str(failure)), indent=2))
        return 1
    finally:
        with contextlib.suppress(OSError):
            view.close()
    report.print_summary(console, options, finished)
    if as_json:
        click.echo(json.dumps(report.as_json(options, finished), indent=2))
    return 0 if finished.recovered else 1


async def _play(options: Options, keep: bool, view: LineView) -> Finished:
    from crossbar_cluster.demo import runner

    ticking = asyncio.create_task(_tick(view))
    try:
        return await runner.run(options, keep, view)
    finally:
        ticking.cancel()


async def _tick(view: LineView) -> None:
    while True:
        view.tick()
        await asyncio.sleep(REFRESH_S)


def _print_failure(console: Console, message: str) -> None:
    from rich.panel import Panel
    from rich.text import Text

    if console.is_terminal:
        console.print(Panel(Text(message), title="The demo failed", border_style="red", title_align="left"))
    else:
        console.print(Text(f"The demo failed: {message}"), soft_wrap=True)
