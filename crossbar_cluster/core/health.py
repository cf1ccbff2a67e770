"""What a node is to have before anything is sent to it: from what its workers tell to what is missing. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

#: A node that has just joined its master, and on which nothing runs, may be about to be given something to run.
SETTLED_AFTER_S = 3.0
#: The control plane sweeps once a minute: one that has not begun a pass for so long does so no more.
PLANE_SILENT_S = 180.0

MASTER_ROUTER = "cfrouter1"


@dataclass(frozen=True)
class Uplink:
    """A node's session on its master."""

    joined: bool
    since_s: float  #: how long it has been joined


@dataclass(frozen=True)
class Worker:
    """A worker of the node, as far as its controller knows."""

    name: str
    type: str
    facts: Mapping[str, Any] | None = None  #: what it tells of itself (`health.worker.facts_of`)
    problem: str = ""  #: why it tells nothing
    starting: bool = False


def missing_on_node(uplink: Uplink | None, workers: Iterable[Worker]) -> list[str]:
    """What an edge node is lacking; nothing: it is ready.

    A node that runs proxy workers and nothing else is ready without its master: it goes on serving clients.

    :param uplink: None: it is to have none.
    """
    workers = list(workers)
    missing = [problem for worker in workers for problem in missing_of(worker)]
    serves_by_itself = bool(workers) and all(worker.type == "proxy" for worker in workers)
    if uplink is not None and not serves_by_itself:
        if not uplink.joined:
            missing.insert(0, "uplink: the node has not joined its master")
        elif not workers and uplink.since_s < SETTLED_AFTER_S:
            missing.insert(0, "uplink: the node has just joined its master, which may be about to start workers")
    return missing


def missing_on_master(
    booted: bool, problems: Iterable[str], mrealms: Iterable[str], workers: Iterable[Worker]
) -> list[str]:
    """What a master is lacking; nothing: it is ready.

    :param booted: its node manager has come up.
    :param problems: of the controller's own database.
    :param mrealms: names of the management realms that are to have a management controller each.
    """
    workers, mrealms = list(workers), set(mrealms)
    missing = list(problems)
    if not booted:
        missing.append("master: still booting")
    missing += [problem for worker in workers for problem in _missing_of_master_worker(worker)]
    if not mrealms:
        missing.append("management controller: there is no management realm yet")
    elif all(worker.facts is not None for worker in workers):  # else it may be in the one that does not answer
        running = {plane["mrealm"] for worker in workers for plane in (worker.facts or {}).get("planes", ())}
        missing += [f"management controller of {name}: not there" for name in sorted(mrealms - running)]
    if not any(worker.name == MASTER_ROUTER for worker in workers):
        missing.append(f"worker {MASTER_ROUTER}: not running")
    return missing


def missing_of(worker: Worker) -> list[str]:
    """What a worker of an edge node is lacking."""
    if worker.facts is None:
        return [f"worker {worker.name}: {worker.problem}"]
    facts, lacking = worker.facts, []
    if facts.get("draining"):
        lacking.append("is about to end, and takes no new clients")
    if worker.type in ("router", "proxy") and not facts["listeners"]:
        lacking.append("does not listen yet")
    lacking += facts.get("troubles", ())  # workers of the version before tell none
    if worker.type == "router":
        if not facts["realms"]:  # the master stops a router worker that has none
            lacking.append("has no realm yet")
        lacking += [f"realm {name} has no roles yet" for name, roles in sorted(facts["realms"].items()) if not roles]
    if worker.type == "proxy":
        if not facts["routes"]:
            lacking.append("has no routes")
        if "up" not in facts["backends"].values():
            known = ", ".join(f"{name} is {state}" for name, state in sorted(facts["backends"].items()))
            lacking.append(f"no backend is up{f' ({known})' if known else ''}")
    return [f"worker {worker.name}: {problem}" for problem in lacking]


def _missing_of_master_worker(worker: Worker) -> list[str]:
    if worker.facts is None:
        return [f"worker {worker.name}: {worker.problem}"]
    missing = [f"worker {worker.name}: {problem}" for problem in worker.facts.get("problems", ())]
    if worker.name == MASTER_ROUTER and not any(isinstance(at, int) for at in worker.facts["listeners"]):
        missing.append(f"worker {worker.name}: does not listen for nodes yet")
    for plane in worker.facts.get("planes", ()):
        if not plane["running"]:
            missing.append(f"management controller of {plane['mrealm']}: its control plane does not run")
        elif plane["silent_s"] > PLANE_SILENT_S:
            missing.append(f"management controller of {plane['mrealm']}: no pass for {plane['silent_s']:.0f} s")
    return missing


def dead_on_master(gone: Iterable[str], workers: Iterable[Worker]) -> list[str]:
    """Why a master is to be started anew; nothing: it lives. Workers on their way up are waited for.

    :param gone: workers that it cannot do without and that there are not.
    """
    silent = (worker for worker in workers if worker.facts is None and not worker.starting)
    return [
        *(f"worker {name}: not running" for name in sorted(gone)),
        *(f"worker {worker.name}: {worker.problem}" for worker in silent),
    ]
