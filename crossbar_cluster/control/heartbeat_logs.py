"""The heartbeat logs in the master's database: keeps the last hours, deletes what is older, and leaves room for others.

The release writes an entry per heartbeat of every node and every worker into the database that also holds the
placements, and deletes none. Full means that no placement can be written any more (UPSTREAM 15).

Triggered by the management controller, which calls `HeartbeatLogs.purge_some` until it returns 0. Its work ends with
these two tables. Only the release's usage metering reads them, and that is switched off in its source.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

import numpy as np
import zlmdb

from crossbar_cluster.control.databases import LOGS_LEAVE_FREE, used
from crossbar_cluster.control.hours import Hours

#: How long the entries are kept; 0 keeps none.
KEEP = Hours("CROSSBAR_CLUSTER_HEARTBEAT_LOG_HOURS", 24.0)

_NIL = UUID(int=0)
_Entry = tuple[Any, Any]  # table, key


class HeartbeatLogs:
    """Purge the logs of a management realm.

    :param db: the management realm's database (zlmdb).
    :param schema: its ``MrealmSchema``.
    :param keep_s: age in seconds up to which an entry is kept.
    """

    def __init__(self, db: Any, schema: Any, keep_s: float) -> None:
        self._db = db
        self._keep_s = keep_s
        # each with the key that sorts before all others of the same time
        self._logs = ((schema.mnode_logs, (_NIL,)), (schema.mworker_logs, (_NIL, "")))

    def purge_some(self, now_ns: int, at_most: int = 500) -> int:
        """Delete the oldest entries that are too old, or too many, ``at_most`` of them, in one write transaction.

        There is none when nothing is. The time of an entry is the master's when it came, not the node's.

        :param now_ns: the master's time, nanoseconds since the epoch.
        :returns: how many were deleted; 0: nothing is left to be deleted.
        """
        return self._delete(self._too_old(now_ns, at_most) or self._too_many(at_most))

    def _too_old(self, now_ns: int, at_most: int) -> list[_Entry]:
        # A key's time is stored as an unsigned number: a negative one would stand behind all others.
        oldest_kept = np.datetime64(max(0, now_ns - round(self._keep_s * 1e9)), "ns")
        # Looked up first, as nearly every time nothing is found. Nobody else deletes entries or adds old ones.
        found: list[_Entry] = []
        with self._db.begin() as txn:
            for log, first in self._logs:
                limit = at_most - len(found)
                if limit:
                    keys = log.select(txn, to_key=(oldest_kept, *first), return_values=False, limit=limit)
                    found += [(log, key) for key in keys]
        return found

    def _too_many(self, at_most: int) -> list[_Entry]:
        """The oldest entries, as long as the database is fuller than logs may make it: those of workers first."""
        if used(self._db) <= 1.0 - LOGS_LEAVE_FREE:
            return []
        found: list[_Entry] = []
        with self._db.begin() as txn:
            for log, _ in reversed(self._logs):
                limit = at_most - len(found)
                if limit:
                    found += [(log, key) for key in log.select(txn, return_values=False, limit=limit)]
        return found

    def _delete(self, entries: list[_Entry]) -> int:
        """Delete them, or as many of them as a database that is full to its last pages lets go at once."""
        for number in (len(entries), max(1, len(entries) // 10), 1):
            try:
                if entries:
                    with self._db.begin(write=True) as txn:
                        for log, key in entries[:number]:
                            del log[txn, key]
                return min(number, len(entries))
            except zlmdb.lmdb.MapFullError:
                if number == 1:
                    raise
        return 0
