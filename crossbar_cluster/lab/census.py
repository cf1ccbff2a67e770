"""Counts what a process of the lab keeps: the sizes of all tables and lists of all of Crossbar.io's objects and ours.

Owned by the lab, never active elsewhere: a generated ``sitecustomize`` calls `answer_census` in each process of a node.
At SIGUSR2 the process walks its own objects, adds up by class and attribute how many entries their containers have, and
writes that to a file. No list of tables has to be kept, so none can be forgotten.
"""

import gc
import json
import os
import signal
from collections import Counter, deque
from pathlib import Path
from typing import Any

_PACKAGES = ("crossbar.", "crossbar_cluster.")
_CONTAINERS = (dict, list, set, deque)


def answer_census(directory: str) -> None:
    """Write a census to ``directory/census-PID.json`` whenever SIGUSR2 comes. Called from a node's main thread."""
    signal.signal(signal.SIGUSR2, lambda number, frame: _write(Path(directory)))


def _write(directory: Path) -> None:
    written = directory / f"census-{os.getpid()}.json"
    new = written.with_suffix(".new")
    new.write_text(json.dumps(census()))
    new.replace(written)


def census() -> dict[str, int]:
    """``class.attribute`` -> number of entries, in all objects of the class; and ``class`` -> number of objects."""
    gc.collect()
    found: Counter[str] = Counter()
    for each in gc.get_objects():
        kind = type(each)
        if kind.__module__.startswith(_PACKAGES):
            name = f"{kind.__module__}.{kind.__qualname__}"
            found[name] += 1
            for attribute, value in _attributes(each):
                if isinstance(value, _CONTAINERS):
                    found[f"{name}.{attribute}"] += len(value)
    return dict(found)


def _attributes(each: Any) -> list[tuple[str, Any]]:
    held = list(getattr(each, "__dict__", {}).items())
    for base in type(each).__mro__:
        slots = base.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            try:
                held.append((name, object.__getattribute__(each, name)))
            except AttributeError:  # never set, or private to a class
                continue
    return held
