"""The command ``crossbar-cluster placements``: which node each router worker is placed on, and having it elsewhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from crossbar_cluster.operator import output
from crossbar_cluster.operator.document import PlacementChange
from crossbar_cluster.operator.master import Master, connection_options
from crossbar_cluster.operator.view import show_changes, show_placements

_json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")


@click.group(context_settings={"max_content_width": 100})
def placements() -> None:
    """Show or change which node each router worker is placed on.

    NODE is the name of a node, or its object id. A router worker that moves is started on its new node, and the proxies
    follow; clients of its realms have to join again.

    \b
    Exit codes:
      0    done
      1    the master refuses; the message says why
      2    the master cannot be asked, or wrong usage
      130  stopped by Ctrl-C

    With --json, `list` prints a list of: cluster, group, scale, placements: node, worker. The others print a list of
    what has changed: group, worker, what (placed, moved or removed), from_node, to_node.
    """


@placements.command("list")
@connection_options
@_json_option
def list_(url: str | None, key: Path | None, realm: str, as_json: bool) -> None:
    """Show the placements of all worker groups."""

    async def show() -> None:
        async with Master.from_options(url, key, realm).session() as session:
            groups = (await session.cluster_status())["groups"]
        if as_json:
            click.echo(json.dumps(groups, indent=2))
        else:
            output.make_console().print(show_placements(groups))

    output.run(show)


@placements.command()
@click.argument("node")
@click.option("--to", metavar="NODE", help="Where to.  [default: the least loaded nodes of each router cluster]")
@connection_options
@_json_option
def move(node: str, to: str | None, **options: Any) -> None:
    """Move all placements of NODE to other nodes, as for a node that is gone for good.

    NODE stays in its router clusters and may be given new placements; `drain` prevents that.
    """
    _change("move_placements", (node, to), f"No router worker is placed on {node}: nothing to move.", **options)


@placements.command()
@click.argument("node")
@connection_options
@_json_option
def drain(node: str, **options: Any) -> None:
    """Move all placements of NODE to other nodes, and place nothing there until `undrain`."""
    _change("drain_node", (node,), f"{node} is drained; no router worker was placed on it.", **options)


@placements.command()
@click.argument("node")
@connection_options
@_json_option
def undrain(node: str, **options: Any) -> None:
    """Let router workers be placed on NODE again. What has been moved away does not come back by itself."""
    _change("undrain_node", (node,), f"Router workers may be placed on {node} again.", **options)


def _change(
    procedure: str,
    arguments: tuple[str | None, ...],
    unchanged: str,
    *,
    url: str | None,
    key: Path | None,
    realm: str,
    as_json: bool,
) -> None:
    """Call ``routercluster.<procedure>`` and print what has changed; ``unchanged`` when nothing has."""

    async def change() -> None:
        async with Master.from_options(url, key, realm).session() as session:
            changes: list[PlacementChange] = await session.call(f"routercluster.{procedure}", *arguments)
        if as_json:
            click.echo(json.dumps(changes, indent=2))
        elif changes:
            output.make_console().print(show_changes(changes))
        else:
            click.echo(unchanged)

    output.run(change)
