"""Puts what workers say of themselves every 10 s into the master's database: that of all in few transactions.

A transaction is synchronized to disk when it ends, which takes as long as the disk does. So what comes is collected,
and written some seconds later for all nodes together; of each worker the last heartbeat in that time.

Triggered by the management controller, which has checked who the sender is; ends with the two tables that
`heartbeat_logs` purges. Nothing that the cluster needs hangs on them: what cannot be written is dropped, and told.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Any
from uuid import UUID

import zlmdb
from cfxdb.log import MNodeLog, MWorkerLog

from crossbar_cluster.control.databases import WARN_AT, used
from crossbar_cluster.core.news import Seldom

WRITE_EACH_S = 5.0
#: In one transaction: about 50 ms of the controller's time.
AT_ONCE = 500
#: Of all nodes together.
WAITING_AT_MOST = 50_000
TOLD_EACH_S = 60.0


class NoRoom(Exception):
    """The database is too full for logs."""


class Heartbeats:
    """The heartbeats of one management realm.

    :param db: the management realm's database (zlmdb), with its ``MrealmSchema``.
    :param reactor: an ``IReactorTime``.
    """

    def __init__(self, db: Any, schema: Any, mrealm_oid: UUID, reactor: Any, log: Any) -> None:
        self._db, self._schema = db, schema
        self._mrealm_oid = mrealm_oid
        self._reactor = reactor
        self._log = log
        self._waiting: dict[tuple[UUID, str | None], Any] = {}  #: node, worker (None: the node itself) -> log record
        self._next: Any = None
        self._told = Seldom(TOLD_EACH_S)

    def __len__(self) -> int:
        return len(self._waiting)

    def of_node(self, node_oid: UUID, node: str, heartbeat: Mapping[str, Any]) -> None:
        """A node has sent one. :param node: its authid."""
        self._add(node_oid, node, None, lambda: MNodeLog.parse(self._mrealm_oid, node_oid, dict(heartbeat)))

    def of_worker(self, node_oid: UUID, node: str, worker: str, heartbeat: Mapping[str, Any]) -> None:
        """A node has sent one of its worker."""
        parse = MWorkerLog.parse
        self._add(node_oid, node, worker, lambda: parse(self._mrealm_oid, node_oid, worker, dict(heartbeat)))

    def _add(self, node_oid: UUID, node: str, worker: str | None, parse: Any) -> None:
        try:
            record = parse()
            record.build(zlmdb.flatbuffers.Builder(0))  # what cannot be written is not to spoil what others have sent
        except Exception as e:
            if self._told.due((node,), self._reactor.seconds()):
                what = f"worker {worker}" if worker else "the node itself"
                self._log.warn(
                    "A heartbeat of node {node} ({what}) is none and is dropped: {error!r}",
                    node=node,
                    what=what,
                    error=e,
                )
            return
        if len(self._waiting) < WAITING_AT_MOST or (node_oid, worker) in self._waiting:
            self._waiting[node_oid, worker] = record
        if self._next is None:
            self._next = self._reactor.callLater(WRITE_EACH_S, self._write)

    def tidy(self, now_s: float) -> None:
        """Forget whom people were told of a while ago."""
        self._told.tidy(now_s)

    def stop(self) -> None:
        """Write what waits. Nothing is to come any more."""
        if self._next is not None and self._next.active():
            self._next.cancel()
        while self._waiting:
            self._write_some()

    def _write(self) -> None:
        self._next = None
        self._write_some()
        if self._waiting:  # the rest when others have had their turn
            self._next = self._reactor.callLater(0.0, self._write)

    def _write_some(self) -> None:
        some = [(key, self._waiting.pop(key)) for key in list(islice(self._waiting, AT_ONCE))]
        try:
            if used(self._db) >= WARN_AT:  # the rest of it is for what the cluster needs
                raise NoRoom(f"{used(self._db):.0%} of it are used")
            with self._db.begin(write=True) as txn:
                for (node_oid, worker), record in some:
                    if worker is None:
                        self._schema.mnode_logs[txn, (record.timestamp, node_oid)] = record
                    else:
                        self._schema.mworker_logs[txn, (record.timestamp, node_oid, worker)] = record
        except Exception as e:
            self._waiting.clear()
            if self._told.due("database", self._reactor.seconds()):
                self._log.warn(
                    "Heartbeats of workers cannot be put into the database and are dropped: {error}. Is it full?",
                    error=e if isinstance(e, NoRoom) else repr(e),
                )
