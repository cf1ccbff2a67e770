"""The command ``crossbar-cluster secrets``: the secrets of a new cluster, as Kubernetes takes them."""

from __future__ import annotations

import contextlib
import io
import secrets as random
import tempfile
from pathlib import Path
from typing import Any

import click
import yaml

from crossbar_cluster.core.master_key import KEY_TAG
from crossbar_cluster.core.pairing_token import NAME_RULE, is_name, with_master_key
from crossbar_cluster.node.own_key import KEY_FILE

TOKEN_BYTES = 32


@click.command(context_settings={"max_content_width": 100})
@click.option(
    "--token",
    "prefixes",
    metavar="PREFIX",
    multiple=True,
    default=("crossbar-router-", "crossbar-proxy-"),
    show_default=True,
    help="A pairing token for nodes whose names begin like that; can be repeated.",
)
def secrets(prefixes: tuple[str, ...]) -> None:
    """Make the secrets of a new cluster, and print them as manifests for Kubernetes.

    Secret crossbar-superuser has a new key pair of the superuser (default.priv, default.pub), Secret crossbar-master a
    new key of the master (key.priv), Secret crossbar-pairing the tokens that nodes are paired by, and know their master
    by. Nothing is kept here: every run makes others.

    \b
      crossbar-cluster secrets | kubectl create -n crossbar -f -

    `create`, and not `apply`: it does nothing if the Secrets are there. Another superuser's key would lock you out.
    """
    for prefix in prefixes:
        if not is_name(prefix):
            raise click.UsageError(f"{prefix!r} cannot begin a node's name: it has to have {NAME_RULE}.")
    key, public = _new_master()
    tokens = {prefix: with_master_key(random.token_urlsafe(TOKEN_BYTES), public) for prefix in prefixes}
    made = [
        _secret("crossbar-superuser", _new_superuser()),
        _secret("crossbar-master", {KEY_FILE: key}),
        _secret("crossbar-pairing", tokens),
    ]
    click.echo(yaml.safe_dump_all(made, sort_keys=False), nl=False)


def _secret(name: str, content: dict[str, str]) -> dict[str, Any]:
    labels = {"app.kubernetes.io/part-of": "crossbar-cluster"}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "labels": labels},
        "stringData": content,
    }


def _new_master() -> tuple[str, str]:
    """A master's key as the release makes it: the text of its private file, and the public key (hex)."""
    from crossbar.common.key import _maybe_generate_node_key, _parse_node_key, _write_node_key

    with tempfile.TemporaryDirectory() as directory:
        private = Path(directory) / KEY_FILE
        _maybe_generate_node_key(directory)
        tags = _parse_node_key(str(private), private=True)
        tags.pop("node-authid", None)  # of this machine, as the next two
        tags |= {"creator": "crossbar-cluster secrets", "machine-id": "unknown"}
        private.unlink()
        _write_node_key(str(private), tags, "Crossbar.io node private key - KEEP THIS SAFE!\n\n", mode=0o600)
        return private.read_text(encoding="utf-8"), str(tags[KEY_TAG])


def _new_superuser() -> dict[str, str]:
    """File name -> text of a key pair, as `crossbar shell init` makes it."""
    quiet = io.StringIO()  # what it says is for people at a terminal
    with (
        contextlib.redirect_stdout(quiet),
        contextlib.redirect_stderr(quiet),
        tempfile.TemporaryDirectory() as directory,
    ):
        return {file.name: file.read_text(encoding="utf-8") for file in make_superuser(Path(directory))}


def make_superuser(directory: Path) -> tuple[Path, Path]:
    """Make a key pair in a directory, unless there is one. :returns: the files of the private and the public key."""
    from xbr import UserKey

    private, public = directory / "default.priv", directory / "default.pub"
    UserKey(str(private), str(public), yes_to_all=True)  # type: ignore[no-untyped-call]
    return private, public
