"""The command ``crossbar-cluster clients``: its options, and what it prints."""

from __future__ import annotations

import json
import sys
import time
from typing import Any
from urllib.parse import urlsplit

import click

from crossbar_cluster.operator import output

_URL = "A proxy, ws:// or wss://. To be given several times, for several proxies."
_FOR = "End after this time.  [default: at Ctrl-C or SIGTERM]"


@click.command(context_settings={"max_content_width": 100})
@click.option("--url", "urls", metavar="URL", multiple=True, required=True, help=_URL)
@click.option("--realm", metavar="NAME", default="realm1", show_default=True, help="The application realm.")
@click.option("--count", metavar="N", type=click.IntRange(1, 5000), default=10, show_default=True, help="How many.")
@click.option("--for", "for_s", metavar="SECONDS", type=click.FloatRange(0, min_open=True), help=_FOR)
@click.option("--json", "as_json", is_flag=True, help="Print each event as a JSON document, one a line.")
def clients(urls: tuple[str, ...], realm: str, count: int, for_s: float | None, as_json: bool) -> None:
    """Keep clients joined, and see how a cluster heals.

    Anonymous clients, made of Autobahn's Component as it is, are spread over the proxies, and each joins again at the
    next proxy when it is lost. Losses and returns are told, and joins that fail; and a summary at the end. A proxy
    where nobody answers is *away*, which is no failure: a join fails when somebody does answer, and does not let the
    client in. Every half second one of the clients makes a call.

    \b
    Exit codes:
      0    all are joined at the end, no join has failed, and each call was answered
      1    not so
      2    wrong usage

    \b
    The JSON documents (at: s since 1970; client: its number; proxy: its URL):
      joined   client, proxy, router; away_s: since it was lost, null the first time
      lost     client, proxy, router, reason
      failed   client, proxy, reason: it was not let in
      away     client, proxy, reason: nobody answers there
      gave_up  client, reason: it will not try again by itself
      summary  seconds, clients, joined, joins, losses, slowest_return_s, failed_joins;
               failures: proxy, reason, count; away: attempts, by proxy; calls, calls_unanswered,
               given_up, good
    """
    for url in urls:
        _check(url)
    if not realm.strip():
        raise click.UsageError("--realm: a realm has a name.")
    from crossbar_cluster.operator.clients.staying import Staying  # Autobahn takes a while to import

    staying = Staying(list(dict.fromkeys(urls)), realm, count, _ForMachines() if as_json else _ForPeople())
    sys.exit(0 if output.run(lambda: staying.run(for_s)) else 1)


def _check(url: str) -> None:
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("ws", "wss") and parts.hostname and parts.port != 0 and not parts.fragment
    except ValueError:
        good = False
    if not good:
        raise click.UsageError(f"--url: {url!r} is no URL of a proxy, like ws://crossbar_proxy1:8080/ws.")


class _ForMachines:
    """One JSON document a line for each event, with the time."""

    def event(self, kind: str, **fields: Any) -> None:
        print(json.dumps({"event": kind, "at": round(time.time(), 3), **fields}), flush=True)

    def line(self, line: str) -> None:
        pass


class _ForPeople:
    """Lines with the time of day."""

    def __init__(self) -> None:
        self._console = output.make_console()

    def event(self, kind: str, **fields: Any) -> None:
        pass

    def line(self, line: str) -> None:
        self._console.print(f"{time.strftime('%H:%M:%S')} {line}", markup=False)
