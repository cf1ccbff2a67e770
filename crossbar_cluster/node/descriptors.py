"""The file descriptors of this process: as many as may be had, and the last ones for what keeps everybody served.

The operating system gives the lowest number that is free. So a number that has just been given says, at no cost, that
all below it are in use.
"""

from __future__ import annotations

import os
import resource
from contextlib import suppress

from crossbar_cluster.core.descriptors import Budget, raised

#: So many before connections are refused, a process says that descriptors run short.
NEAR = 4


def raise_limit() -> int:
    """Raise this process's limit to what it may have. :returns: the limit that holds now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = raised(soft, hard)
    if soft >= 0 and wanted > soft:
        with suppress(ValueError, OSError):  # a sandbox that forbids it
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return limit()


def limit() -> int:
    """The soft limit that holds."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return soft if soft >= 0 else raised(0, -1)


def budget() -> Budget:
    """What is allowed now."""
    return Budget(limit())


def used() -> int:
    """How many this process has open. Takes time in proportion to that: for metrics, not for each connection."""
    try:
        return len(os.listdir("/proc/self/fd"))
    except OSError:  # there is none to look with
        return limit()


def lowest_free() -> int:
    """The number that the next descriptor will have; with none left the limit."""
    try:
        free = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return limit()
    os.close(free)
    return free


def shortage() -> list[str]:
    """What is to be told people while descriptors run short."""
    allowed = budget()
    if lowest_free() + NEAR < allowed.acceptable:
        return []
    return [f"file descriptors run short ({allowed.limit} are allowed), new connections are refused"]
