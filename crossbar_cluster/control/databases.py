"""How full the master's databases are: a full one takes nothing more, and most that would make room fails as well.

A database (zlmdb) has a fixed size. What counts is what is in it: its file never shrinks.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

#: Shares of a database. Heartbeat logs are to leave so much of it free, whatever their age ...
LOGS_LEAVE_FREE = 0.5
#: ... are not written when so much is used, and people are told ...
WARN_AT = 0.8
#: ... again when so much is, and no page is left that has never been used: what is free then is free in pieces.
FULL_AT = 0.9
EVER_USED = 0.99

MREALM, GLOBAL = "mrealm", "global"
_TITLES = {MREALM: "the management realm's database", GLOBAL: "the master's global database"}


def databases_of(controller: Any) -> dict[str, Any]:
    """The databases of a management controller, by what they hold."""
    return {MREALM: controller.db, GLOBAL: controller.gdb}


def used(db: Any) -> float:
    """How much of a database is used, from 0 to 1. Takes microseconds."""
    return 1.0 - float(db.stats()["free"])


def is_full(db: Any) -> bool:
    """Whether a write may fail for want of room."""
    stats = db.stats()
    ever_used = (stats["last_pgno"] + 1) * stats["page_size"] / stats["map_size"]
    return used(db) >= FULL_AT and ever_used >= EVER_USED


def warnings_of(databases: Mapping[str, Any]) -> Iterator[str]:
    """What people are to know of these databases."""
    for name, db in databases.items():
        share = used(db)
        if is_full(db):
            yield (
                f"{_TITLES[name]} is full: nothing can be changed any more. Nodes and clients go on. Delete what is no "
                "longer needed, or restore a backup"
            )
        elif share >= WARN_AT:
            yield (
                f"{_TITLES[name]} is {math.floor(share * 20) * 5} % full: when it is full, nothing can be changed any "
                "more. Delete what is no longer needed"
            )
