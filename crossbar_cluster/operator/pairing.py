"""The commands ``crossbar-cluster pair`` and ``unpair``: which nodes belong to a management realm."""

from __future__ import annotations

import json
import string
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from crossbar_cluster.core.keyfile import parse_tags
from crossbar_cluster.operator import output
from crossbar_cluster.operator.master import Master, Session, connection_options, paired_node

#: The realm on which users of a master pair nodes, with whatever management realm.
USERS_REALM = "com.crossbario.fabric"
_json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document: node, pubkey, oid.")


@click.command(context_settings={"max_content_width": 100})
@click.argument("pubkey", metavar="PUBKEY")
@click.argument("node")
@connection_options
@_json_option
def pair(pubkey: str, node: str, url: str | None, key: Path | None, realm: str, as_json: bool) -> None:
    """Let the node that has PUBKEY join the master, as NODE.

    PUBKEY is the public key of the node, or its file `key.pub`; a node that is not paired says its key in its log. NODE
    is the name that it has from then on. A node that was unpaired may be paired again, by any name.

    \b
    Exit codes:
      0    done
      1    the master refuses; the message says why
      2    the master cannot be asked, or wrong usage
      130  stopped by Ctrl-C
    """
    public_key = _public_key(pubkey)
    master = Master.from_options(url, key, realm)

    async def bring_in() -> None:
        async with master.session() as session:
            status = await session.cluster_status()
        if taken := next((found for found in status["nodes"] if found["name"] == node), None):
            raise click.ClickException(
                f"A node named {node} is paired already, with key {taken['pubkey']}. If that one is gone for good: "
                f"`crossbar-cluster unpair {node}`."
            )
        record = await _ask(master, lambda session: session.call("pair_node", public_key, realm, node, {}))
        if as_json:
            click.echo(json.dumps({"node": node, "pubkey": public_key, "oid": record["oid"]}))
        else:
            output.make_console().print(f"Node {node} is paired with management realm {realm}. It joins by itself.")

    output.run(bring_in)


@click.command(context_settings={"max_content_width": 100})
@click.argument("node")
@connection_options
@_json_option
def unpair(node: str, url: str | None, key: Path | None, realm: str, as_json: bool) -> None:
    """Take NODE (its name, or object id) out of the cluster.

    Its sessions with the master end at once, as do those of its clients on other nodes, and its key is refused until
    somebody pairs it again. Another node may be paired by its name. Router workers that are placed on it are placed on
    another node of their router cluster, as soon as there is one that may take them.

    \b
    Exit codes:
      0    done
      1    there is no such node, or the master refuses; the message says which
      2    the master cannot be asked, or wrong usage
      130  stopped by Ctrl-C
    """
    master = Master.from_options(url, key, realm)

    async def take_out() -> None:
        async with master.session() as session:
            status = await session.cluster_status()
        found = paired_node(status, node)
        name, pubkey = found["name"], found["pubkey"]
        placed = [p["worker"] for group in status["groups"] for p in group["placements"] if p["node"] == name]
        record = await _ask(master, lambda session: session.call("unpair_node", found["oid"]))
        if as_json:
            click.echo(json.dumps({"node": name, "pubkey": pubkey, "oid": found["oid"]}))
            return
        console = output.make_console()
        console.print(
            f"Node {name} is unpaired; {len(record['killed'] or ())} of its sessions with the master are closed."
        )
        if placed:
            console.print(
                f"Router workers were placed on it: {', '.join(placed)}. They are placed on another node of their "
                "router cluster, as soon as there is one that may take them: see `crossbar-cluster status`."
            )
        console.print(f"Its key is refused from now on. To pair it again: `crossbar-cluster pair {pubkey} {name}`.")

    output.run(take_out)


async def _ask(master: Master, call: Callable[[Session], Awaitable[Any]]) -> Any:
    """Have something done that users of the master do on a realm of their own. :raises Refused: :raises CannotAsk:"""
    async with replace(master, realm=USERS_REALM).session() as session:
        return await call(session)


def _public_key(text: str) -> str:
    """:param text: 64 hexadecimal digits, or the name of a file of a key pair's public half."""
    if len(text) == 64 and not set(text) - set(string.hexdigits):
        return text.lower()
    try:
        key = parse_tags(Path(text).read_text(encoding="utf-8")).get("public-key-ed25519", "")
    except (OSError, UnicodeDecodeError, ValueError) as e:
        raise click.BadParameter(
            f"{text!r} is neither a public key (64 hexadecimal digits) nor a file that can be read: {e}",
            param_hint="PUBKEY",
        ) from None
    if len(key) != 64 or set(key) - set(string.hexdigits):
        raise click.BadParameter(f"{text} holds no public key of a node.", param_hint="PUBKEY")
    return key.lower()
