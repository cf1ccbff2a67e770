"""The heartbeat logs in the master's database: keeps the last hours, deletes what is older.

The release writes an entry per heartbeat of every node and every worker into the database that also holds the
placements, and deletes none. Full means that no placement can be written any more (UPSTREAM 15).

Triggered by the management controller, which calls `HeartbeatLogs.purge_some` until it returns 0. Its work ends with
these two tables. Only the release's usage metering reads them, and that is switched off in its source.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

import numpy as np

from crossbar_cluster.control.hours import Hours

#: How long the entries are kept; 0 keeps none.
KEEP = Hours("CROSSBAR_CLUSTER_HEARTBEAT_LOG_HOURS", 24.0)

_NIL = UUID(int=0)


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
        """Delete the oldest entries that are too old, ``at_most`` of them, in one write transaction.

        There is none when nothing is too old. The time of an entry is the master's when it came, not the node's.

        :param now_ns: the master's time, nanoseconds since the epoch.
        :returns: how many were deleted; 0: nothing is left to be deleted.
        """
        # A key's time is stored as an unsigned number: a negative one would stand behind all others.
        oldest_kept = np.datetime64(max(0, now_ns - round(self._keep_s * 1e9)), "ns")
        # Looked up first, as nearly every time nothing is found. Nobody else deletes entries or adds old ones.
        with self._db.begin() as txn:
            old = self._too_old(txn, oldest_kept, at_most)
        if old:
            with self._db.begin(write=True) as txn:
                for log, key in old:
                    del log[txn, key]
        return len(old)

    def _too_old(self, txn: Any, oldest_kept: Any, at_most: int) -> list[tuple[Any, Any]]:
        found: list[tuple[Any, Any]] = []
        for log, first in self._logs:
            if len(found) < at_most:
                limit = at_most - len(found)
                keys = log.select(txn, to_key=(oldest_kept, *first), return_values=False, limit=limit)
                found += [(log, key) for key in keys]
        return found
