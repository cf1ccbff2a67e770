"""Keeps a demo inside its directory and its own processes: whatever happens, nothing of it is left behind.

Signals end the demo's task, once; what cleans up is outside that task, so that no second signal can interrupt it.
"""

from __future__ import annotations

import asyncio
import contextlib
import shlex
import shutil
import signal
import tempfile
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from crossbar_cluster.demo.checks import check_directory, check_listeners, check_machine
from crossbar_cluster.demo.events import Event, RoundResult
from crossbar_cluster.demo.rounds import REALM, Demo, Options
from crossbar_cluster.lab.cluster import MASTER_PORT

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_Result = TypeVar("_Result")


class Stopped(Exception):
    """The demo was ended by a signal; everything has been cleaned up."""

    def __init__(self, number: int) -> None:
        super().__init__(f"Stopped by {signal.Signals(number).name}; everything has been cleaned up.")
        self.number = number


@dataclass(frozen=True)
class Kept:
    """A cluster that was left running, and how to reach and how to end it."""

    directory: Path
    pids: dict[str, int]  #: of each node's controller; it leads a process group with the node's workers
    url: str
    realm: str
    management_url: str
    management_key: Path

    @property
    def stop(self) -> str:
        """A shell command that ends all of it and removes the directory."""
        groups = " ".join(f"-{pid}" for pid in self.pids.values())
        return f"kill -s KILL -- {groups}; rm -rf {shlex.quote(str(self.directory))}"


@dataclass(frozen=True)
class Finished:
    """A demo that ran to its end."""

    results: list[RoundResult]
    kept: Kept | None

    @property
    def recovered(self) -> bool:
        """Whether every round recovered."""
        return all(result.recovered for result in self.results)


class _Signals:
    """The first signal cancels the work under way; later ones change nothing."""

    def __init__(self) -> None:
        self.number: int | None = None
        self._work: asyncio.Task[Any] | None = None
        for number in SIGNALS:
            # under nohup a hang-up is to be ignored; an interrupt never is, although shells start jobs that way
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                asyncio.get_running_loop().add_signal_handler(number, self._received, number)

    def _received(self, number: int) -> None:
        if self.number is None:
            self.number = number
            self._cancel()

    def _cancel(self) -> None:
        """Cancel the work, and once more should some code of Python's before 3.12 have swallowed that."""
        if self._work is not None and not self._work.done():
            self._work.cancel()
            asyncio.get_running_loop().call_later(0.5, self._cancel)

    async def run(self, work: Coroutine[Any, Any, _Result]) -> _Result:
        """Run ``work``. :raises Stopped: a signal came before it had ended."""
        self._work = asyncio.create_task(work)
        if self.number is not None:
            self._cancel()
        await asyncio.wait([self._work])
        if self.number is not None:
            raise Stopped(self.number)
        result: _Result = self._work.result()
        return result


async def run(options: Options, keep: bool, tell: Callable[[Event], None]) -> Finished:
    """Play a demo from the checks to the cleaning up.

    :raises CannotStart: before anything was started.
    :raises ProcessFailed: with the last lines of the log.
    :raises Stopped: by SIGINT, SIGTERM or SIGHUP.
    """
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)  # of connections that are killed
    signals = _Signals()
    check_machine()
    directory = Path(tempfile.mkdtemp(prefix="crossbar-cluster-demo-"))
    demo, kept = Demo(directory, options, tell), None
    try:
        check_directory(directory)
        check_listeners(demo.listeners)
        results = await signals.run(demo.run())
        if keep and demo.cluster.management is not None:
            await demo.cluster.management.close()
            kept = _kept(demo) if signals.number is None else None
    finally:
        if kept is None:
            await _remove(demo)
    if signals.number is not None and kept is None:
        raise Stopped(signals.number)
    return Finished(results, kept)


async def _remove(demo: Demo) -> None:
    try:
        await demo.cluster.stop()
    finally:
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(demo.cluster.directory)


def _kept(demo: Demo) -> Kept:
    cluster = demo.cluster
    nodes = (cluster.master, demo.router, demo.proxy)
    return Kept(
        directory=cluster.directory,
        pids={node.name: node.running.pid for node in nodes},
        url=demo.url,
        realm=REALM,
        management_url=f"ws://{cluster.master_host.address}:{MASTER_PORT}/ws",
        management_key=cluster.directory / "home" / ".crossbar" / "default.priv",
    )
