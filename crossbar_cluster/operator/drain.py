"""The command ``crossbar-cluster drain``: end a node in order, from afar."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path

import click

from crossbar_cluster.operator import output
from crossbar_cluster.operator.document import Node, Status
from crossbar_cluster.operator.master import Master, Session, connection_options, find_node, paired_node

LEAVES_WITHIN_S = 15.0
POLL_S = 0.2


@click.command(context_settings={"max_content_width": 100})
@click.argument("node")
@connection_options
@click.option("--back", "back_s", metavar="SECONDS", type=click.FloatRange(min=0), default=0.0,
              help="Wait until it has come back, and all is as configured again.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document: node, left_after_s, back_after_s.")
def drain(node: str, url: str | None, key: Path | None, realm: str, back_s: float, as_json: bool) -> None:
    """End NODE (its name, or object id) as SIGTERM does: in order.

    It takes no new clients, lets those that it has finish what is under way, asks them to come back elsewhere, and ends
    (see CROSSBAR_CLUSTER_DRAIN_SECONDS). Whatever keeps it running, such as Kubernetes or docker-compose, starts it
    anew; so this restarts a node without a failed join, if there is another one for its clients. To take router workers
    off a node for good, see `crossbar-cluster placements drain`.

    \b
    Exit codes:
      0    it has left the master (with --back: and has come back)
      1    it is not there, or has not left, or not come back in time; the message says which
      2    the master cannot be asked, or wrong usage
      130  stopped by Ctrl-C
    """
    console = output.make_console()

    async def end() -> None:
        async with Master.from_options(url, key, realm).session() as session:
            before = _online_node(await session.cluster_status(), node)
            name, began = before["name"], time.monotonic()

            def has_left(status: Status) -> bool:
                now = find_node(status, name)
                return now is None or now["status"] != "online" or now["since"] != before["since"]

            def has_returned(status: Status) -> bool:
                now = find_node(status, name)
                return now is not None and now["status"] == "online" and has_left(status) and not status["problems"]

            with console.status(f"{name} is told to end"):
                ending = asyncio.ensure_future(session.end_node(name))
                try:
                    left_s = await _until(session, has_left, LEAVES_WITHIN_S, began, ending)
                finally:
                    ending.cancel()
            if left_s is None:
                raise click.ClickException(f"{name} has not left the master within {LEAVES_WITHIN_S:g} s.")
            if not as_json:
                console.print(f"{name} has left the master after {left_s:.1f} s, and sends its clients elsewhere.")
            returned_s = None
            if back_s:
                with console.status(f"waiting for {name} to come back"):
                    returned_s = await _until(session, has_returned, back_s, began)
                if returned_s is None:
                    raise click.ClickException(
                        f"{name} has not come back within {back_s:g} s, or not all is as configured again: "
                        "`crossbar-cluster status` says what is not."
                    )
                if not as_json:
                    console.print(f"{name} is back after {returned_s:.1f} s, and all is as configured.")
        if as_json:
            click.echo(json.dumps({"node": name, "left_after_s": left_s, "back_after_s": returned_s}))

    output.run(end)


def _online_node(status: Status, node: str) -> Node:
    """:raises click.ClickException: there is no such node, or it is not there."""
    found = paired_node(status, node)
    if found["status"] != "online":
        raise click.ClickException(f"Node {found['name']} is not connected to its master: it cannot be told anything.")
    return found


async def _until(
    session: Session,
    condition: Callable[[Status], bool],
    within_s: float,
    began: float,
    ending: asyncio.Future[None] | None = None,
) -> float | None:
    """Wait until the state of the cluster is such. :returns: seconds since it began; None: it has not come to that.

    :raises Refused: the node does not let itself be ended.
    """
    deadline = time.monotonic() + within_s
    while not condition(await session.cluster_status()):
        if ending is not None and ending.done():
            ending.result()
        if time.monotonic() > deadline:
            return None
        await asyncio.sleep(POLL_S)
    return time.monotonic() - began
