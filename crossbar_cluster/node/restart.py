"""A node that begins anew in its own process, and a master that does so when one of its workers has died.

Owns the decision that a master restarts, and how a process does it: shut down as ever, then execute the same command in
the same process. So it works alike under a supervisor, in a shell, and as process 1 of a container.

Why the whole master: what its workers know hangs together. Realms, roles and the authenticator's session live in
cfrouter1; the node manager has set them up and believes that they are there; cfrealmmanager1 and the management
controllers in cfcontainer1 hold sessions to it. The nodes come back by themselves within seconds.
"""

from __future__ import annotations

import os
import sys
import time
from contextlib import suppress
from typing import Any

from twisted.internet.error import ProcessExitedAlready, ReactorNotRunning

STABLE_AFTER_S = 30.0  #: a life this long is no part of a series of restarts
DELAY_AT_MOST_S = 10.0
END_WORKERS_WITHIN_S = 2.0
DEFAULT_CONTAINER = "cfcontainer1"
_SERIES = "CROSSBAR_CLUSTER_RESTARTS"  # how many short lives came before this one: survives in the environment


def restart_after_shutdown(node: Any) -> None:
    """Execute this process's command anew once the reactor has stopped; nothing else is left to be done by then."""
    if not getattr(node, "_restarts_after_shutdown", False):
        node._restarts_after_shutdown = True
        node._reactor.addSystemEventTrigger("after", "shutdown", _execute_anew, node)


def never_restart(node: Any) -> None:
    """The process is told to end: it does, whether a restart is under way or about to come."""
    node._told_to_end = True


def _execute_anew(node: Any) -> None:
    if getattr(node, "_told_to_end", False):
        return
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def delay_s(short_lives: int) -> float:
    """How long to wait before another restart: not at all the first time, then 1 s, doubled up to 10 s."""
    return 0.0 if short_lives == 0 else min(2.0 ** min(short_lives - 1, 10), DELAY_AT_MOST_S)


class MasterWorkers:
    """Restarts the master when a worker that it cannot do without has ended and nobody has asked it to.

    :param node: the master.
    :param needed: ids of the workers of its built-in configuration. The containers of management realms are known to
        the node's manager, save the default one while it is being started.
    """

    def __init__(self, node: Any, needed: frozenset[str]) -> None:
        self._node = node
        self._needed = needed
        self._began = time.monotonic()
        self._over = False
        node._reactor.addSystemEventTrigger("before", "shutdown", self._end)  # a reactor ends before its workers do

    def _end(self) -> None:
        self._over = True

    @property
    def gone(self) -> frozenset[str]:
        """Those that are needed and that there are not (yet, while the master boots)."""
        return self._needed.difference(self._node._controller._workers)

    def begun(self, worker_id: str) -> None:
        """A worker's process has begun. (One that dies before it is ready has not *ended* for the release.)"""
        self._node._controller._workers[worker_id].ready.addErrback(self._never_ready, worker_id)

    def _never_ready(self, failure: Any, worker_id: str) -> Any:
        self.ended(worker_id)
        return failure

    def ended(self, worker_id: str) -> None:
        """A worker has ended."""
        containers = getattr(self._node._bridge_session, "_container_workers", {})  # of management realms
        if worker_id not in {*self._needed, *containers, DEFAULT_CONTAINER}:
            return  # the operator's own
        if self._over or self._node._controller._shutdown_requested:
            return
        self._over = True
        short_lives = int(os.environ.get(_SERIES, "0"))
        if time.monotonic() - self._began >= STABLE_AFTER_S:
            short_lives = 0
        os.environ[_SERIES] = str(short_lives + 1)
        pause_s = delay_s(short_lives)
        self._node.log.error(
            "The master's worker {worker} has died: restarting the master{when}. Its log says why, further up.",
            worker=worker_id,
            when=f" in {pause_s:g} s (restart number {short_lives + 1} in a row)" if pause_s else "",
        )
        self._node._reactor.callLater(pause_s, self._restart)

    def _restart(self) -> None:
        if not self._node._controller._shutdown_requested:
            self._node.stop(restart=True).addErrback(self._stop_all_the_same)
            self._node._reactor.callLater(END_WORKERS_WITHIN_S, self._kill_what_is_left)

    def _stop_all_the_same(self, failure: Any) -> None:
        self._node.log.failure("The master did not shut down in order", failure=failure)
        with suppress(ReactorNotRunning):
            self._node._reactor.stop()

    def _kill_what_is_left(self) -> None:
        for worker in list(self._node._controller._workers.values()):
            self._node.log.warn("The master's worker {worker} does not end: killing it", worker=worker.id)
            if worker.proto is not None:
                with suppress(ProcessExitedAlready):
                    worker.proto.transport.signalProcess("KILL")
