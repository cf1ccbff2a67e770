"""The command `crossbar-cluster`. A subcommand's own modules are imported only when it runs."""

import importlib
import sys
from typing import TYPE_CHECKING

import click

from crossbar_cluster import __version__

if TYPE_CHECKING:
    from crossbar_cluster.overlay.check import Finding

# Subcommand -> where its click command is. One in a module of its own is added here.
COMMANDS = {
    "apply": "crossbar_cluster.operator.apply.command:apply",
    "check": "crossbar_cluster.cli:check",
    "clients": "crossbar_cluster.operator.clients.command:clients",
    "demo": "crossbar_cluster.demo.command:demo",
    "drain": "crossbar_cluster.operator.drain:drain",
    "pair": "crossbar_cluster.operator.pairing:pair",
    "placements": "crossbar_cluster.operator.placements:placements",
    "secrets": "crossbar_cluster.operator.cluster_secrets:secrets",
    "status": "crossbar_cluster.operator.status:status",
    "trust-master": "crossbar_cluster.operator.trust_master:trust_master",
    "unpair": "crossbar_cluster.operator.pairing:unpair",
}


class LazyGroup(click.Group):
    """A group that imports a command when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="crossbar-cluster")
def main() -> None:
    """Clusters of Crossbar.io that heal themselves."""


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
@click.option("--write", is_flag=True, help="Regenerate fingerprints.json and PATCHES.md (in a checkout), then check.")
def check(as_json: bool, write: bool) -> None:
    """Compare the patches with the installed release, and see whether they are applied.

    Exits with 0 if every released member that a patch touches or relies on is what the patch was written against, and
    Python processes like this one apply the patches; with 1 otherwise.
    """
    from crossbar_cluster.overlay import check as checking
    from crossbar_cluster.overlay.discover import checkout_root

    if write:
        root = checkout_root()
        if root is None:
            raise click.UsageError("--write works in a checkout of crossbar-cluster only; this is an installed one.")
        try:
            written = checking.write(root)
        except ValueError as error:
            raise click.ClickException(str(error)) from error
        for file in written:
            click.echo(f"wrote {file}", err=True)
    findings = [*checking.check(), checking.arming()]
    if as_json:
        click.echo(checking.as_json(findings))
    else:
        _print_table(findings)
    sys.exit(1 if any(checking.problems(findings)) else 0)


def _print_table(findings: "list[Finding]") -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for column in ("state", "released member", "remark"):
        table.add_column(column, overflow="fold")
    for finding in findings:
        colour = "green" if finding.state == "ok" else "red"
        table.add_row(f"[{colour}]{finding.state}[/]", finding.target, finding.detail)
    console = Console(width=None if sys.stdout.isatty() else 200)
    console.print(table)
    bad = sum(finding.state != "ok" for finding in findings)
    console.print(f"{len(findings) - bad} ok" + (f", [red]{bad} not[/]" if bad else ""))
