"""Nodes without processes: WAMP sessions that answer the master's management calls as nodes would.

A machine holds a few real nodes of the lab, and a thousand of these. To the master a simulated node is a node like any
other: it proves its own key, names its address, and registers one prefix for all of its procedures. Its workers start
at once and live in memory (`simulated_worker`). It counts what it is asked, and keeps when it was let in.

Triggered by the benchmark or test that makes it join; ends when that makes it leave. Pairing and configuring it is the
caller's, as for any node.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from pathlib import Path
from typing import Any

from autobahn.wamp import cryptosign
from autobahn.wamp.exception import ApplicationError
from autobahn.wamp.types import CallDetails, RegisterOptions

from crossbar_cluster.core.address import AddressClaim
from crossbar_cluster.lab.client import Client, join
from crossbar_cluster.lab.host import Host
from crossbar_cluster.lab.simulated_worker import (
    INVALID_CONFIGURATION,
    NO_SUCH_PROCEDURE,
    SimulatedProxy,
    SimulatedRouter,
    call_procedure,
    procedure,
)

NO_SUCH_WORKER = "crossbar.error.no_such_worker"
WORKER_ALREADY_RUNNING = "crossbar.error.worker_already_running"

#: A loaded master takes its time for a thousand sessions.
JOIN_TIMEOUT_S = 30.0


class SimulatedNode:
    """A node: its key, its address, its workers, and its management session while it has one.

    :param name: its authid.
    :param host: where it connects from. Any number of nodes share one: nobody connects to a simulated node.
    :param address: what it names as its cluster address.
    """

    def __init__(self, name: str, host: Host, address: str) -> None:
        self.name = name
        self.host = host
        self.address = address
        self.oid = ""  #: object id of its record on the master, when the caller has looked it up
        self.workers: dict[str, SimulatedRouter | SimulatedProxy] = {}
        self.calls: Counter[str] = Counter()  #: procedure, without node and worker -> times it was called
        self.welcomed_at = 0.0  #: when the master last let it in, monotonic seconds
        self._key = cryptosign.CryptosignKey.from_bytes(os.urandom(32))
        self._prefix = f"crossbarfabriccenter.node.{name}."
        self._ports_in_use: set[int] = set()
        self._session: Client | None = None

    def write_key(self, watched: Path) -> None:
        """Put its public key where the master looks for nodes to pair, as ``crossbar edge keys`` does."""
        cbdir = watched / self.name / ".crossbar"
        cbdir.mkdir(parents=True)
        tags = {
            "public-key-ed25519": self._key.public_key(),
            "node-authid": self.name,
            "node-cluster-ip": self.address,
        }
        lines = "".join(f"{tag}: {value}\n" for tag, value in tags.items())
        written = cbdir / "key.pub.new"
        written.write_text(f"Simulated node\n\n{lines}", encoding="utf-8")
        written.rename(cbdir / "key.pub")  # the master may look at any moment

    # -- its session with the master ----------------------------------------------------------------------------

    @property
    def joined(self) -> bool:
        return self._session is not None and not self._session.gone.done()

    async def join(self, master: str, port: int, timeout_s: float = JOIN_TIMEOUT_S) -> None:
        """Join the management realm at the master's address and port, and be callable. :raises JoinFailed:"""
        self._session = await join(
            self.host,
            master,
            port,
            None,
            key=self._key,
            authrole="node",
            authextra=AddressClaim(self.address, is_default=False).authextra,
            timeout_s=timeout_s,
        )
        self.welcomed_at = time.monotonic()
        options = RegisterOptions(match="prefix", force_reregister=True, details_arg="details")
        await self._session.register(self._called, self._prefix, options=options)

    def die(self) -> None:
        """Lose the connection and all workers at once, as a node that is killed."""
        if self._session is not None and self._session.is_connected():
            self._session.disconnect()
        self._session = None
        self.workers.clear()
        self._ports_in_use.clear()

    def _called(self, *args: Any, details: CallDetails, **kwargs: Any) -> Any:
        target, _, name = details.procedure.removeprefix(self._prefix).rpartition(".")
        self.calls[name] += 1
        if not target:
            return call_procedure(self, name, args, kwargs)
        worker = self.workers.get(target.removeprefix("worker."))
        if worker is None:
            raise ApplicationError(NO_SUCH_PROCEDURE, f'no callee registered for procedure "{details.procedure}"')
        return call_procedure(worker, name, args, kwargs)

    # -- procedures of the node itself --------------------------------------------------------------------------

    @procedure
    def get_status(self) -> dict[str, Any]:
        return {
            "title": "simulated node",
            "running_workers": len(self.workers),
            "workers_by_type": dict(Counter(worker.kind for worker in self.workers.values())),
            "pubkey": self._key.public_key(),
        }

    @procedure
    def get_workers(self, filter_types: list[str] | None = None) -> list[str]:
        return sorted(w for w, worker in self.workers.items() if filter_types is None or worker.kind in filter_types)

    @procedure
    def get_worker(self, worker_id: str) -> dict[str, Any]:
        return {"id": worker_id, "type": self._worker(worker_id).kind, "status": "started"}

    @procedure
    def start_worker(self, worker_id: str, kind: str, options: dict[str, Any] | None = None) -> dict[str, Any]:
        if worker_id in self.workers:
            raise ApplicationError(WORKER_ALREADY_RUNNING, f"there is a worker {worker_id} already")
        if kind == SimulatedRouter.kind:
            self.workers[worker_id] = SimulatedRouter(self._ports_in_use)
        elif kind == SimulatedProxy.kind:
            self.workers[worker_id] = SimulatedProxy()
        else:
            raise ApplicationError(INVALID_CONFIGURATION, f"a simulated node has no workers of type {kind}")
        return self.get_worker(worker_id)

    @procedure
    def stop_worker(self, worker_id: str, kill: bool = False) -> dict[str, Any]:
        worker = self._worker(worker_id)
        if isinstance(worker, SimulatedRouter):
            worker.release()
        del self.workers[worker_id]
        return {"id": worker_id, "type": worker.kind}

    def _worker(self, worker_id: str) -> SimulatedRouter | SimulatedProxy:
        if worker_id not in self.workers:
            raise ApplicationError(NO_SUCH_WORKER, f"no worker with ID '{worker_id}'")
        return self.workers[worker_id]
