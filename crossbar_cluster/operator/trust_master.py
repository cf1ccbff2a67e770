"""The command ``crossbar-cluster trust-master``: which master a node takes for its own. Run on the node."""

from __future__ import annotations

import os
from pathlib import Path

import click

from crossbar_cluster.core.master_key import is_key, keys_in
from crossbar_cluster.node.known_master import FILE, known_master, remember
from crossbar_cluster.node.settings import InvalidSetting


@click.command(context_settings={"max_content_width": 100})
@click.argument("key", required=False)
@click.option(
    "--cbdir",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=lambda: os.environ.get("CROSSBAR_DIR", "").strip() or ".crossbar",
    help="The node's directory. Default: $CROSSBAR_DIR, or .crossbar.",
)
@click.option("--forget", is_flag=True, help="Take the next master that proves any key.")
def trust_master(key: str | None, cbdir: Path, forget: bool) -> None:
    """Take the master with this public KEY for the master of the node of this machine, and no other.

    KEY is the key, or the file `key.pub` of the master's directory. The node need not be restarted. Without a KEY: say
    whom it takes for its master now.

    \b
    Exit codes:
      0    done
      1    something else decides (the message says what), or the node's directory cannot be written
      2    wrong usage
    """
    if key and forget:
        raise click.UsageError("KEY and --forget exclude each other.")
    try:
        if forget:
            (cbdir / FILE).unlink(missing_ok=True)
        elif key:
            remember(str(cbdir), _key(key))
    except OSError as e:
        raise click.ClickException(f"{cbdir / FILE} cannot be written: {e}") from None
    _show(cbdir, _key(key) if key else None)


def _show(cbdir: Path, wanted: str | None) -> None:
    """:raises ClickException: the node goes by something else than what is wanted."""
    try:
        known = known_master(str(cbdir))
    except InvalidSetting as e:
        raise click.ClickException(str(e)) from None
    if wanted and known.keys != {wanted}:
        raise click.ClickException(
            f"It is written down, but this node's {known.source} has precedence, and says {known.shown}: change that."
        )
    if known.keys:
        click.echo(f"This node takes the master with key {known.shown} for its own ({known.source}).")
    else:
        click.echo("This node takes the next master that proves any key for its own, and keeps to that one.")


def _key(text: str) -> str:
    """:param text: a key, or the name of a file with one. :raises BadParameter:"""
    if is_key(text.lower()):
        return text.lower()
    try:
        [key] = keys_in(Path(text).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, ValueError) as e:
        raise click.BadParameter(
            f"{text!r} is neither a public key (64 hexadecimal digits) nor a file with one: {e}", param_hint="KEY"
        ) from None
    return key
