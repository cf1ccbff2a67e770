"""The command ``crossbar-cluster apply``."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

import click

from crossbar_cluster.operator import output
from crossbar_cluster.operator.apply import reading, view
from crossbar_cluster.operator.apply.carrying import Outcome, carry_out
from crossbar_cluster.operator.apply.observing import observe, paired_nodes
from crossbar_cluster.operator.apply.planning import Plan, plan
from crossbar_cluster.operator.master import CannotAsk, Master, Session, connection_options

RETRY_S = 1.0


@click.command(context_settings={"max_content_width": 100})
@click.argument("file", type=click.File("r", encoding="utf-8"), required=False)
@connection_options
@click.option("--dry-run", is_flag=True, help="Show what would be done, and change nothing.")
@click.option("--prune", is_flag=True, help="Remove what is on the master and not in the file.")
@click.option(
    "--wait",
    "wait_s",
    metavar="SECONDS",
    type=click.FloatRange(min=0),
    default=0.0,
    help="Wait so long for the master, and for nodes that are not paired yet.  [default: 0]",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.option("--schema", is_flag=True, help="Print the JSON schema of the file, for editors, and do nothing else.")
def apply(
    file: TextIO | None,
    url: str | None,
    key: Path | None,
    realm: str,
    dry_run: bool,
    prune: bool,
    wait_s: float,
    as_json: bool,
    schema: bool,
) -> None:
    """Bring about on the master what FILE (- for the standard input) describes.

    FILE describes roles, realms, router clusters and web clusters; README.md has an example. The whole of it is checked
    before anything is changed. What is as described already is not touched: applying a file twice does nothing the
    second time. What is on the master and not in the file is left alone and mentioned, unless --prune is given.

    Nodes are given by name, or by patterns such as crossbar-proxy-*, which mean the nodes that are paired, and those
    that will be. What needs a node that is not paired yet is pending: all the rest is done.

    \b
    Exit codes:
      0    done, or nothing to do
      1    something has failed, or the master refuses; the rest is done
      2    nothing has been changed: the file is not right, the master cannot be asked, or wrong usage
      3    done, except for what is pending
      130  stopped by Ctrl-C

    \b
    The JSON document:
      dry_run   whether nothing was to be changed
      changes   sign (+, ~ or -), change, outcome (done, failed or not done), reason
      pending   part, reason
      left      what is on the master and not in the file
      problems  line, column, message: instead of all others, when the file is not right
    """
    if schema:
        click.echo(json.dumps(reading.json_schema(), indent=2))
        return
    if file is None:
        raise click.UsageError("Say which FILE describes the cluster.")
    description = _read(file, as_json)
    applying = _Applying(Master.from_options(url, key, realm), description, dry_run, prune, wait_s, as_json)
    sys.exit(output.run(applying.run))


def _read(file: TextIO, as_json: bool) -> reading.Description:
    try:
        return reading.read(file.read())
    except UnicodeDecodeError as e:
        raise click.UsageError(f"{file.name} is no text in UTF-8: {e}.") from None
    except reading.Invalid as e:
        if as_json:
            click.echo(json.dumps({"problems": [vars(problem) for problem in e.problems]}, indent=2))
        for problem in e.problems:
            click.echo(f"{file.name}:{problem.line}:{problem.column}: {problem.message}", err=True)
        click.echo("Nothing has been changed.", err=True)
        sys.exit(output.CANNOT_ASK)


@dataclass
class _Applying:
    """One run of the command: as many passes as nodes make necessary that come while it waits."""

    master: Master
    description: reading.Description
    dry_run: bool
    prune: bool
    wait_s: float
    as_json: bool
    outcomes: list[Outcome] = field(default_factory=list)
    pending: Sequence[reading.Pending] = ()
    plan: Plan = field(default_factory=Plan)

    def __post_init__(self) -> None:
        self._deadline = time.monotonic() + self.wait_s
        self._console = output.make_console()
        self._passes = 0

    async def run(self) -> int:
        """:returns: the exit code. :raises CannotAsk: :raises Refused: only before anything has been changed."""
        told = False
        while True:
            try:
                async with self.master.session() as session:
                    while await self._pass(session):
                        pass
                break
            except CannotAsk as e:
                if e.lasting or time.monotonic() > self._deadline:
                    if not self.outcomes:
                        raise
                    click.echo(str(e), err=True)
                    return self._end(output.REFUSED)
                if not told:
                    click.echo(f"{e} Waiting.", err=True)
                    told = True
                await asyncio.sleep(RETRY_S)
        return self._end(0)

    async def _pass(self, session: Session) -> bool:
        """Bring about what can be by now. :returns: whether another node has come, for another pass."""
        actual = await observe(session)
        nodes = frozenset(key[1] for key in actual.oids if key[0] == "node")
        desired, self.pending = reading.resolve(self.description, nodes)
        self.plan = plan(desired, actual.configuration, prune=self.prune)
        if self.plan.steps or not self._passes:
            self._say(view.show_plan(self.plan, self.pending))
        self._passes += 1
        if not self.dry_run:
            self.outcomes += await carry_out(self.plan.steps, session, actual, self._tell)
        if self.dry_run or not self.pending or self._has_failed():
            return False
        return await self._other_nodes(session, nodes)

    async def _other_nodes(self, session: Session, nodes: frozenset[str]) -> bool:
        """Wait until more of the description can be brought about."""
        while time.monotonic() < self._deadline:
            await asyncio.sleep(min(RETRY_S, max(0.0, self._deadline - time.monotonic())))
            now = frozenset(await paired_nodes(session))
            if now != nodes and reading.resolve(self.description, now) != reading.resolve(self.description, nodes):
                return True
        return False

    def _has_failed(self) -> bool:
        return any(outcome.what != "done" for outcome in self.outcomes)

    def _tell(self, outcome: Outcome) -> None:
        self._say(view.show_outcome(outcome))

    def _say(self, what: Any) -> None:
        if not self.as_json:
            self._console.print(what)

    def _end(self, code: int) -> int:
        if self.as_json:
            told = view.document(self.plan, self.pending, self.outcomes, dry_run=self.dry_run)
            click.echo(json.dumps(told, indent=2))
        elif self.outcomes or (self._passes > 1):
            self._say(view.show_summary(self.outcomes, self.pending))
        if code == 0 and self._has_failed():
            return output.REFUSED
        return output.PENDING if code == 0 and self.pending else code
