"""One ``crossbar`` process of the lab: started, its log read line by line with the time of each line, ended for certain."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_ANSI = re.compile(r"\x1b\[[0-9;]*m")


class ProcessFailed(RuntimeError):
    """A process ended, or did not come up, when it should not have. The message ends with its last log lines."""


@dataclass(frozen=True)
class LogLine:
    """A line of a process's output."""

    at: float  #: monotonic seconds at which the lab read it
    raw: str  #: as written, without the line's end

    @property
    def text(self) -> str:
        """The line without terminal colours."""
        return _ANSI.sub("", self.raw)


class NodeProcess:
    """A running process and its log.

    Its whole process group is its own: `kill` ends the workers with the controller, as losing a pod does.
    """

    def __init__(self, name: str, process: asyncio.subprocess.Process, log_file: Path) -> None:
        self.name = name
        self.started_at = time.monotonic()
        self.lines: list[LogLine] = []
        self._process = process
        self._log_file = log_file
        self._news = asyncio.Event()
        self._reader = asyncio.create_task(self._read())

    @classmethod
    async def start(cls, name: str, argv: list[str], env: dict[str, str], cwd: Path, log_file: Path) -> NodeProcess:
        process = await asyncio.create_subprocess_exec(
            *argv,
            env=env,
            cwd=cwd,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
            limit=2**22,
        )
        return cls(name, process, log_file)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.returncode is None

    @property
    def returncode(self) -> int | None:
        return self._process.returncode

    async def _read(self) -> None:
        assert self._process.stdout is not None
        with open(self._log_file, "ab") as log:
            while line := await self._process.stdout.readline():
                log.write(line)
                log.flush()
                self.lines.append(LogLine(time.monotonic(), line.decode("utf-8", "replace").rstrip("\r\n")))
                self._tell()
        await self._process.wait()
        self._tell()

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    def mark(self) -> int:
        """A position in the log: `line` looks only behind it."""
        return len(self.lines)

    async def line(self, pattern: str, *, since: int = 0, timeout_s: float = 30.0) -> LogLine:
        """The first line behind ``since`` in which ``pattern`` (regular expression) is found; waits for it.

        :raises ProcessFailed: the process ended without it, or it did not come within ``timeout_s``.
        """
        wanted = re.compile(pattern)
        deadline = time.monotonic() + timeout_s
        position = since
        while True:
            news = self._news
            while position < len(self.lines):
                if wanted.search(self.lines[position].text):
                    return self.lines[position]
                position += 1
            if self._reader.done():
                raise self.failure(f"ended with code {self.returncode} before it logged {pattern!r}")
            try:
                await asyncio.wait_for(news.wait(), max(0.0, deadline - time.monotonic()))
            except asyncio.TimeoutError:
                raise self.failure(f"did not log {pattern!r} within {timeout_s:g} s") from None

    def find(self, pattern: str, *, since: int = 0) -> list[LogLine]:
        """All lines so far behind ``since`` in which ``pattern`` is found."""
        return [line for line in self.lines[since:] if re.search(pattern, line.text)]

    def failure(self, what: str) -> ProcessFailed:
        """An error that says ``what`` happened, with the last lines of the log."""
        tail = "\n".join(f"    {line.text}" for line in self.lines[-15:]) or "    (it printed nothing)"
        return ProcessFailed(f"{self.name}: {what}\n  last lines of {self._log_file}:\n{tail}")

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process alone."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    async def kill(self) -> None:
        """SIGKILL the process and all its workers at one moment, and wait until they are gone."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        await self.ended(10.0)

    async def terminate(self, timeout_s: float = 30.0) -> None:
        """SIGTERM, as an orchestrator does; SIGKILL for what is left after ``timeout_s``."""
        self.signal(signal.SIGTERM)
        with contextlib.suppress(asyncio.TimeoutError):
            await self.ended(timeout_s)
        await self.kill()

    async def ended(self, timeout_s: float) -> int:
        """Wait for the process to end. :returns: its exit code. :raises asyncio.TimeoutError: it did not."""
        await asyncio.wait_for(asyncio.shield(self._reader), timeout_s)
        assert self.returncode is not None
        return self.returncode


async def until(what: str, holds: Callable[[], bool], *, timeout_s: float = 30.0, every_s: float = 0.05) -> None:
    """Poll until ``holds()``. :raises TimeoutError: naming ``what``, when it did not within ``timeout_s``."""
    deadline = time.monotonic() + timeout_s
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {timeout_s:g} s: {what}")
        await asyncio.sleep(every_s)
