"""Compares the patches with the installed release: what they override, wrap or rely on, is it still what it was?

Works on sources and importlib metadata alone, so it also reports on a release that the patches refuse to run on. And
is there anything that applies them (`arming`)?
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from crossbar_cluster.overlay import startup
from crossbar_cluster.overlay.discover import PATCHES, patch_modules
from crossbar_cluster.overlay.errors import PatchFailed
from crossbar_cluster.overlay.fingerprint import Missing, fingerprint, package_folder
from crossbar_cluster.overlay.installer import SUPPORTED_RELEASES, installed_release, load_records
from crossbar_cluster.overlay.record import Record

FINGERPRINTS = Path(__file__).with_name("fingerprints.json")

#: What arms the patches, in site-packages.
PTH = "crossbar-cluster.pth"
_IS_ARMED = "import sys; sys.exit(not any(type(f).__name__ == 'CrossbarFinder' for f in sys.meta_path))"

State = Literal["ok", "changed", "missing", "collides", "unrecorded", "stale", "broken", "unsupported", "unarmed"]


@dataclass(frozen=True)
class Finding:
    """One line of the result: a released member (or the release, or a patch module) and how it stands."""

    target: str
    state: State
    patch: str = ""  # the patch module that is concerned
    detail: str = ""


def load_all(package: str = PATCHES) -> tuple[dict[str, list[Record]], list[Finding]]:
    """The records of all patch modules by released module, and a finding for each module that cannot be loaded."""
    startup.disarm()  # a patch module that imports the release must not have it patched, or refused, meanwhile
    records: dict[str, list[Record]] = {}
    broken = []
    for released, patch in patch_modules(package).items():
        try:
            records[released] = load_records(released, patch)
        except PatchFailed as failure:
            broken.append(Finding(released, "broken", patch, failure.reason))
    return records, broken


def read_fingerprints(file: Path = FINGERPRINTS) -> dict[str, dict[str, str]]:
    """Release -> target -> fingerprint. Empty if the file has not been made yet."""
    if not file.exists():
        return {}
    recorded: dict[str, dict[str, str]] = json.loads(file.read_text(encoding="utf-8"))
    return recorded


def take_fingerprints(records: dict[str, list[Record]], folder: Path) -> dict[str, str]:
    """The fingerprints that the release in `folder` has now, for everything the records name and that exists."""
    return {target: found for target in sorted(_concerned(records)) if (found := _current(target, folder))}


def check(package: str = PATCHES, recorded: dict[str, dict[str, str]] | None = None) -> list[Finding]:
    """All findings: the release first, then the targets, sorted. All is well if every one is `ok`."""
    version = installed_release()
    if version is None:
        return [Finding("crossbar", "missing", detail="no crossbar is installed for this Python")]
    folder = package_folder()
    records, broken = load_all(package)
    recorded = read_fingerprints() if recorded is None else recorded
    # A release that is not supported is compared with the newest one that is: that is what a porter wants to see.
    known = recorded.get(version if version in SUPPORTED_RELEASES else SUPPORTED_RELEASES[-1], {})
    concerned = _concerned(records)
    findings = [_compare(target, patch, folder, known) for target, patch in concerned.items()]
    findings += [_addition(record, folder) for group in records.values() for record in group if record.kind == "add"]
    findings += [
        Finding(target, "stale", detail="recorded, but no patch concerns it any more")
        for target in known
        if target not in concerned
    ]
    return [_release(version), *broken, *sorted(findings, key=lambda finding: (finding.target, finding.state))]


def arming(interpreter: str = sys.executable) -> Finding:
    """Whether a Python process that is started as this one was arms the patches: nothing else does.

    Asked of a fresh process, with the options of this one: what has been imported here says nothing.
    """
    options = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
    asked = subprocess.run([interpreter, *options, "-c", _IS_ARMED], capture_output=True, timeout=60, check=False)
    if asked.returncode == 0:
        off = "" if startup.wanted() else f"switched off here, by {startup.VARIABLE}"
        return Finding(PTH, "ok", detail=off)
    shown = " ".join(["python", *options])
    return Finding(
        PTH,
        "unarmed",
        detail=f"no patch is applied: {shown} does not read it. It has to lie in a site-packages folder of the Python "
        "that runs crossbar, where pip puts it (not with --target, nor in PYTHONPATH), and that has to run without -S",
    )


def write(root: Path) -> list[Path]:
    """Regenerate fingerprints.json and PATCHES.md in a checkout; returns what was written.

    Raises ValueError, and writes nothing, if the installed release is not supported or a patch does not fit it.
    """
    from crossbar_cluster.overlay.document import document

    version = installed_release()
    if version not in SUPPORTED_RELEASES:
        raise ValueError(f"the installed crossbar is {version}, not one of {', '.join(SUPPORTED_RELEASES)}")
    records, broken = load_all()
    if broken:
        raise ValueError("; ".join(f"{finding.patch}: {finding.detail}" for finding in broken))
    folder = package_folder()
    current = take_fingerprints(records, folder)
    if absent := sorted(set(_concerned(records)) - set(current)):
        raise ValueError(f"the release has no {', '.join(absent)}")
    recorded = {release: prints for release, prints in read_fingerprints().items() if release in SUPPORTED_RELEASES}
    recorded[version] = current
    patches = root / "PATCHES.md"
    FINGERPRINTS.write_text(json.dumps(recorded, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    patches.write_text(document(records), encoding="utf-8")
    return [FINGERPRINTS, patches]


def as_json(findings: list[Finding]) -> str:
    return json.dumps([asdict(finding) for finding in findings], indent=1)


def _release(version: str) -> Finding:
    if version in SUPPORTED_RELEASES:
        return Finding(f"crossbar {version}", "ok")
    detail = f"the patches are written for {', '.join(SUPPORTED_RELEASES)}"
    return Finding(f"crossbar {version}", "unsupported", detail=detail)


def _concerned(records: dict[str, list[Record]]) -> dict[str, str]:
    """Released member -> the patch module that touches or relies on it (the first, if several do)."""
    found: dict[str, str] = {}
    for group in records.values():
        for record in group:
            for target in record.fingerprinted:
                found.setdefault(target, record.code.__module__)
    return found


@cache
def _current(target: str, folder: Path) -> str | None:
    try:
        return fingerprint(target, folder)
    except Missing:
        return None


def _compare(target: str, patch: str, folder: Path, known: dict[str, str]) -> Finding:
    current = _current(target, folder)
    if current is None:
        return Finding(target, "missing", patch, "the installed release has no such member")
    if target not in known:
        return Finding(target, "unrecorded", patch, "no fingerprint: see check --write")
    if current != known[target]:
        return Finding(target, "changed", patch, "not the code that the patch was written against")
    return Finding(target, "ok", patch)


def _addition(record: Record, folder: Path) -> Finding:
    patch = record.code.__module__
    if _current(record.target, folder) is None:
        return Finding(record.target, "missing", patch, "the class to add to")
    member = f"{record.target}.{record.members[0]}"
    if _current(member, folder) is not None:
        return Finding(member, "collides", patch, "the release has a member of this name now")
    return Finding(member, "ok", patch, "added")


def problems(findings: list[Finding]) -> Iterator[Finding]:
    return (finding for finding in findings if finding.state != "ok")
