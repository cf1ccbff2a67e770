"""How a worker ends when it is told to: its clients go first, busy ones last. And how a node ends at once.

A worker that is about to end takes no new clients. Those that it has are asked to come back, elsewhere, as soon as
nothing is in flight for them, and at the end in any case. Triggered by SIGTERM, which a node passes on, and by the
master (a worker that is not to run any more); its work ends where the release's own shutdown begins.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.error import ReactorNotRunning
from twisted.internet.task import deferLater

from crossbar_cluster.node.restart import never_restart
from crossbar_cluster.node.settings import DRAIN

LOOK_EACH_S = 0.05
#: So many clients are asked at once: all of them come to the others.
AT_ONCE = 50
#: How long those that have been asked may take to read what they were sent before, and to go.
GONE_WITHIN_S = 3.0


class Draining(Protocol):
    """What is drained."""

    def begin(self) -> None:
        """Take no new clients from now on. (That it is draining, `is_draining` says already.)"""

    def clients(self) -> Iterable[Any]:
        """Those that are there."""

    def is_busy(self, client: Any) -> bool:
        """Whether something is in flight for a client."""

    def dismiss(self, client: Any) -> None:
        """Ask a client to come back, elsewhere."""

    def is_gone(self, client: Any) -> bool:
        """Whether a client that was asked has had all that it was sent, and its connections have ended."""


async def drain(worker: Draining, within_s: float, reactor: Any, log: Any) -> None:
    """Get rid of all clients. Busy ones have ``within_s`` to finish."""
    worker.begin()
    count = len(list(worker.clients()))
    if not count:
        return
    log.info("Draining: {count} clients are asked to come back elsewhere", count=count)
    deadline_s = reactor.seconds() + within_s
    asked: set[Any] = set()
    while (left := [client for client in worker.clients() if client not in asked]) and reactor.seconds() < deadline_s:
        for client in [client for client in left if not worker.is_busy(client)][:AT_ONCE]:
            _dismiss(worker, client, log)
            asked.add(client)
        await deferLater(reactor, LOOK_EACH_S)
    for client in left:
        _dismiss(worker, client, log)
    gone_by_s = reactor.seconds() + GONE_WITHIN_S
    while reactor.seconds() < gone_by_s and not all(map(worker.is_gone, [*asked, *left])):
        await deferLater(reactor, LOOK_EACH_S)
    log.info("Drained: {count} clients were busy to the end", count=len(left))


def _dismiss(worker: Draining, client: Any, log: Any) -> None:
    try:
        worker.dismiss(client)
    except Exception as e:  # it may be on its way out; and nobody else is to stay for it
        log.debug("a client could not be asked to come back: {error!r}", error=e)


def is_draining(controller: Any) -> bool:
    """Whether a worker has been told to end. :param controller: of the worker."""
    return "_cluster_draining" in vars(controller)


def before_end(controller: Any, draining: Draining | None, end: Callable[[], Any]) -> Any:
    """End a worker, once it has been drained.

    :param controller: of the worker.
    :param draining: None: there is nothing to be drained.
    :param end: ends it.
    """
    if draining is None:
        return end()
    if is_draining(controller):  # systemd tells each process of a service, and then the node tells its workers
        return None
    vars(controller)["_cluster_draining"] = True
    seconds = DRAIN.read(os.environ)
    drained: Deferred[Any] = Deferred()
    drained.addCallback(lambda _: Deferred.fromCoroutine(drain(draining, seconds, controller._reactor, controller.log)))
    drained.addErrback(lambda failure: controller.log.failure("Not drained: {log_failure.value}", failure=failure))
    drained.addCallback(lambda _: end())
    # This may run in a signal handler: in the middle of anything, such as the answer to a call.
    controller._reactor.callFromThread(drained.callback, None)
    return drained


def end_at_second_signal(node: Any) -> None:
    """Let SIGTERM and SIGINT end a node in order, and a second one of the same kind at once, with its workers.

    :param node: the release's ``Node``, as it boots.
    """
    seen: set[int] = set()

    def on_signal(signum: int, frame: Any) -> None:
        if signum in seen:  # `crossbar stop` sends SIGINT, and after 5 s SIGTERM
            _kill(node)
            os._exit(128 + signum)
        seen.add(signum)
        never_restart(node)
        node._reactor.callFromThread(_end, node, signum)

    for signum in (signal.SIGTERM, signal.SIGINT):
        if signal.getsignal(signum) not in (signal.SIG_IGN, None):
            signal.signal(signum, on_signal)


def _end(node: Any, signum: int) -> None:
    name = signal.Signals(signum).name
    node.log.info("Received {signal}: this node ends in order. A second signal ends it at once.", signal=name)
    controller, complete = node._controller, node._shutdown_complete
    controller._shutdown_requested = controller._shutdown_was_clean = True
    if complete is not None and not complete.called:  # the master may have told it to end as well
        complete.callback({"was_clean": True})  # the exit code is 0, if all of its start was over
        if node._boot_complete.called:
            node._shutdown_complete = None  # or a shutdown that is under way would fail at completing it again
    with suppress(ReactorNotRunning):
        node._reactor.stop()


def _kill(node: Any) -> None:
    for worker in list(getattr(node._controller, "_workers", {}).values()):
        with suppress(OSError, TypeError):  # it has ended, or not begun
            os.kill(worker.pid, signal.SIGKILL)
