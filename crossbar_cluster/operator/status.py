"""The command ``crossbar-cluster status``: the cluster in one look, as JSON, or watched."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from crossbar_cluster.operator import output
from crossbar_cluster.operator.master import Master, connection_options
from crossbar_cluster.operator.view import is_converged, show_status
from crossbar_cluster.operator.watching import Watching


@click.command(context_settings={"max_content_width": 100})
@connection_options
@click.option("--json", "as_json", is_flag=True, help="Print the master's answer as one JSON document.")
@click.option("--watch", is_flag=True, help="Show it on the terminal and repaint it every second, until Ctrl-C.")
def status(url: str | None, key: Path | None, realm: str, as_json: bool, watch: bool) -> None:
    """Show the state of a cluster in one look.

    What is not as configured and why, nodes, realms, placements, workers and routes. Asks the master, as its superuser:
    needs the private key that `crossbar shell init` has made.

    \b
    Exit codes:
      0    converged: everything is as configured (with --watch: stopped by Ctrl-C)
      1    not converged
      2    the master cannot be asked, or wrong usage; the message says why
      130  stopped by Ctrl-C

    \b
    The JSON document (times in ns since 1970, null for what is not known):
      now          the master's clock
      master       realm, started, crossbar, crossbar_cluster, passes, calls, failures
      nodes        oid, name, status, since, address, address_source, address_since
      groups       oid, group, cluster_oid, cluster, scale, placements: node, worker
      realms       name, status, group, webcluster
      webclusters  name, status, nodes
      workers      node, worker, kind, state, reason, since, limits_met: limit, times;
                   of a router: port, realms; of a proxy: services, most_clients,
                   connections: id, host, port; routes: realm, roles
      problems     object, reason; none: converged
    """
    if watch and as_json:
        raise click.UsageError("--watch repaints a terminal: it does not go with --json.")
    master = Master.from_options(url, key, realm)
    console = output.make_console()
    if watch:
        if not console.is_terminal or console.is_dumb_terminal:
            raise click.UsageError("--watch repaints a terminal, and the output is none: leave it out, or use --json.")
        output.run(Watching(master, console).run, interrupted=0)
        return

    async def look() -> bool:
        async with master.session() as session:
            answer = await session.cluster_status()
        if as_json:
            click.echo(json.dumps(answer, indent=2))
        else:
            console.print(show_status(answer))
        return is_converged(answer)

    sys.exit(0 if output.run(look) else 1)
