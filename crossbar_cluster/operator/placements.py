"""The command ``crossbar-cluster placements``: where router workers are placed; having more of them, or elsewhere."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from crossbar_cluster.operator import output
from crossbar_cluster.operator.document import Group, PlacementChange, Scaled
from crossbar_cluster.operator.master import Master, Refused, connection_options
from crossbar_cluster.operator.view import show_changes, show_placements

_json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")


@click.group(context_settings={"max_content_width": 100})
def placements() -> None:
    """Show or change which node each router worker is placed on, and how many there are.

    NODE is the name of a node, or its object id; GROUP that of a worker group. A router worker that moves is started on
    its new node, and the proxies follow; clients of its realms have to join again.

    \b
    Exit codes:
      0    done
      1    the master refuses; the message says why
      2    the master cannot be asked, or wrong usage
      130  stopped by Ctrl-C

    With --json, `list` prints a list of: oid, group, cluster_oid, cluster, scale, placements: node, worker. The others
    print a list of what has changed: group, worker, what (placed, moved or removed), from_node, to_node. `scale` prints
    that list as `changes`, beside workergroup and missing (the number of workers without a node).
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


@placements.command()
@click.argument("group")
@click.argument("number", metavar="N", type=int)
@click.option("--cluster", metavar="NAME", help="Its router cluster, if several have a group of that name.")
@connection_options
@_json_option
def scale(
    group: str, number: int, cluster: str | None, url: str | None, key: Path | None, realm: str, as_json: bool
) -> None:
    """Let worker group GROUP have N router workers from now on, while its realms run.

    New ones are placed on the least loaded nodes and get new clients; clients that are there stay where they are. Of
    those that are too many go the ones on nodes that are away, then those on the fullest nodes, then the highest
    numbers. The others do not move. Clients of a worker that goes have to join again, which they can at once.
    """

    async def change() -> None:
        async with Master.from_options(url, key, realm).session() as session:
            found = _find_group((await session.cluster_status())["groups"], group, cluster)
            # a master that tells no object ids does not know the procedure either, and says so
            oids = found.get("cluster_oid"), found.get("oid")
            scaled: Scaled = await session.call("routercluster.scale_workergroup", *oids, number)
        if as_json:
            click.echo(json.dumps(scaled, indent=2))
            return
        name, changes, missing = found["group"], scaled["changes"], scaled["missing"]
        if changes:
            output.make_console().print(show_changes(changes))
        elif not missing:
            click.echo(f"Worker group {name} has a scale of {number}; no placement has changed.")
        if missing:
            click.echo(
                f"{missing} of the router workers of group {name} have no node yet: add nodes to its "
                "router cluster, raise a hard limit or undrain a node."
            )

    output.run(change)


def _find_group(groups: Iterable[Group], name: str, cluster: str | None) -> Group:
    """The worker group of that name or object id. :raises Refused: there is none. :raises click.UsageError: several."""
    found = [g for g in groups if name in (g["group"], g.get("oid")) and cluster in (None, g["cluster"])]
    if not found:
        of_cluster = f" in a router cluster {cluster!r}" if cluster else ""
        raise Refused(f"there is no worker group {name!r}{of_cluster}: `crossbar-cluster placements list` shows all")
    if len(found) > 1:
        clusters = " and ".join(sorted(g["cluster"] for g in found))
        raise click.UsageError(f"Router clusters {clusters} have a worker group {name} each: say which by --cluster.")
    return found[0]


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
