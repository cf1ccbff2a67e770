"""What ``apply`` says: what is to be done, what has been done, what is left. As text, and as one JSON document.

Pure. Colours only repeat what the words say.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from rich.text import Text

from crossbar_cluster.operator.apply.carrying import Outcome
from crossbar_cluster.operator.apply.planning import Plan
from crossbar_cluster.operator.apply.reading import Pending
from crossbar_cluster.operator.apply.steps import Step

_COLOURS = {"+": "green", "~": "yellow", "-": "red", "done": "green", "failed": "bold red", "not done": "yellow"}


def show_plan(plan: Plan, pending: Sequence[Pending]) -> Text:
    """The difference between what is described and what there is."""
    lines = [Text.assemble((step.sign, _COLOURS[step.sign]), f" {step}") for step in plan.steps]
    if not lines:
        lines.append(Text("Nothing to do: all that is described is there." if not pending else "Nothing to do as yet."))
    lines += [Text.assemble(("pending", "yellow"), f": {part.what}: {part.why}") for part in pending]
    lines += [Text.assemble(("left", "dim"), f": {step} is not described") for step in told_once(plan.left)]
    return Text("\n").join(lines)


def told_once(left: Iterable[Step]) -> list[Step]:
    """Of the removals that are not made, those that say what is there: not those of what is inside, and no stops."""
    steps = [step for step in left if step.sign == "-"]
    whole = {step.key[1:] for step in steps if step.key[0] == "delete"}
    return [step for step in steps if step.key[0] == "delete" or not any(_is_inside(step, key) for key in whole)]


def _is_inside(step: Step, whole: tuple[str, ...]) -> bool:
    kind, name = whole
    match step.key:
        case ("permission", role, _):
            return (kind, name) == ("role", role)
        case ("removerealmrole", realm, _):
            return (kind, name) == ("realm", realm)
        case ("removeservice", cluster, _):
            return (kind, name) == ("webcluster", cluster)
        case ("removegroup", cluster, _):
            return (kind, name) == ("routercluster", cluster)
        case ("removenode", of_kind, cluster, _):
            return (kind, name) == (of_kind, cluster)
    return False


def show_outcome(outcome: Outcome) -> Text:
    reason = f": {outcome.reason}" if outcome.reason else ""
    return Text.assemble((outcome.what, _COLOURS[outcome.what]), f": {outcome.step}{reason}")


def show_summary(outcomes: Sequence[Outcome], pending: Sequence[Pending]) -> str:
    counts = Counter(outcome.what for outcome in outcomes)
    parts = [f"{counts[what]} {what}" for what in ("done", "failed", "not done") if counts[what]]
    return ", ".join([*(parts or ["nothing changed"]), *([f"{len(pending)} pending"] if pending else [])])


def document(plan: Plan, pending: Sequence[Pending], outcomes: Sequence[Outcome], *, dry_run: bool) -> dict[str, Any]:
    """The same for machines."""
    told = outcomes if not dry_run else [Outcome(step, "not done", "dry run") for step in plan.steps]
    return {
        "dry_run": dry_run,
        "changes": [{"sign": o.step.sign, "change": str(o.step), "outcome": o.what, "reason": o.reason} for o in told],
        "pending": [{"part": part.what, "reason": part.why} for part in pending],
        "left": [str(step) for step in told_once(plan.left)],
    }
