"""One ``crossbar`` process of the lab: started, its log read line by line with each line's time, ended for certain.

The process writes its log file itself and the lab reads the file as it grows: a process outlives the lab's, if it is
left running, and loses nothing. Nothing here depends on an event loop's care for child processes either.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from signal import SIGINT, SIGKILL, SIGTERM, Signals

#: How often the log is looked at, seconds: a line's time is late by that much at most.
POLL_S = 0.01
_ANSI = re.compile(r"\x1b\[[0-9;]*m")
#: The line of a traceback that says what it is. bjdata, built for NumPy 1, prints a harmless one in every process.
_ERROR = re.compile(r"(Error|Exception): (?!_ARRAY_API)")


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

    def __init__(self, name: str, process: subprocess.Popen[bytes], log_file: Path, log_from: int) -> None:
        self.name = name
        self.started_at = time.monotonic()
        self.lines: list[LogLine] = []
        self._process = process
        self._log_file = log_file
        self._log_position = log_from
        self._unfinished = b""
        self._asked_to_end = False
        self._gone = False
        self._news = asyncio.Event()
        self._reader = asyncio.create_task(self._read())

    @classmethod
    async def start(cls, name: str, argv: list[str], env: dict[str, str], cwd: Path, log_file: Path) -> NodeProcess:
        """Start ``argv`` and read what it writes to ``log_file``, behind what is there already.

        Never suspends: whoever cancels the caller finds the process either not started or known to the caller.
        """
        with open(log_file, "ab") as log:
            log_from = log.tell()
            process = subprocess.Popen(
                argv,
                env=env,
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return cls(name, process, log_file, log_from)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    @property
    def returncode(self) -> int | None:
        return self._process.poll()

    @property
    def died(self) -> bool:
        """It has ended, and nobody here asked it to."""
        return not self.running and not self._asked_to_end

    async def _read(self) -> None:
        with open(self._log_file, "rb") as log:
            log.seek(self._log_position)
            while True:
                ended = not self.running  # asked first: what it wrote until then is in the file now
                self._take(log.read())
                if ended:
                    break
                await asyncio.sleep(POLL_S)
        if self._unfinished:
            self._take(b"\n")
        self._tell()

    def _take(self, written: bytes) -> None:
        if not written:
            return
        now = time.monotonic()
        *lines, self._unfinished = (self._unfinished + written).split(b"\n")
        self.lines += (LogLine(now, line.decode("utf-8", "replace").rstrip("\r")) for line in lines)
        if lines:
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
                async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
                    await news.wait()
            except TimeoutError:
                raise self.failure(f"did not log {pattern!r} within {timeout_s:g} s") from None

    def find(self, pattern: str, *, since: int = 0) -> list[LogLine]:
        """All lines so far behind ``since`` in which ``pattern`` is found."""
        return [line for line in self.lines[since:] if re.search(pattern, line.text)]

    def failure(self, what: str) -> ProcessFailed:
        """An error that says ``what`` happened, with the last lines of the log and the last errors before those."""
        earlier, last = self.lines[:-15], self.lines[-15:]
        errors = [line for line in earlier if _ERROR.search(line.text)][-3:]
        tail = "\n".join(f"    {line.text}" for line in [*errors, *last]) or "    (it printed nothing)"
        return ProcessFailed(f"{self.name}: {what}\n  last lines of {self._log_file}:\n{tail}")

    def signal(self, number: Signals) -> None:
        """Send a signal to the process alone."""
        self._asked_to_end |= number in (SIGKILL, SIGTERM, SIGINT)
        if self.running:  # else its number may be another's by now
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def signal_all(self, number: Signals) -> None:
        """Send a signal to the process and all its workers at one moment."""
        if self.running:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, number)

    async def kill(self) -> None:
        """SIGKILL the process and all its workers at one moment, and wait until they are gone."""
        self._asked_to_end = True
        if self._gone:  # its number may be another's by now
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, SIGKILL)
        await self.ended(10.0)
        deadline = time.monotonic() + 10.0
        while group_members(self.pid) and time.monotonic() < deadline:
            await asyncio.sleep(POLL_S)
        self._gone = True

    async def terminate(self, timeout_s: float = 30.0) -> None:
        """SIGTERM, as an orchestrator does; SIGKILL for what is left after ``timeout_s``."""
        self.signal(SIGTERM)
        with contextlib.suppress(TimeoutError):
            await self.ended(timeout_s)
        await self.kill()

    async def ended(self, timeout_s: float) -> int:
        """Wait for the process to end. :returns: its exit code. :raises TimeoutError: it did not."""
        async with asyncio.timeout(timeout_s):
            await asyncio.shield(self._reader)
        assert self.returncode is not None
        return self.returncode


def group_members(pgid: int) -> list[int]:
    """The processes of a process group that are alive. A dead one that nobody has waited for does not count."""
    members = []
    for entry in os.listdir("/proc"):
        if not entry.isdecimal():
            continue
        try:
            with open(f"/proc/{entry}/stat", encoding="utf-8", errors="replace") as stat:
                state, _, group = stat.read().rpartition(")")[2].split()[:3]
            # a dead one may have threads that are still about to end: as long, its ports are not free
            if int(group) == pgid and (state not in "ZX" or len(os.listdir(f"/proc/{entry}/task")) > 1):
                members.append(int(entry))
        except OSError:  # it has ended meanwhile
            continue
    return members
