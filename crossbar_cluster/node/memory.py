"""Gives memory back to the operating system that a large backlog has taken.

The C library keeps what has been freed in small pieces (glibc: below 128 KiB each) for the process, which then looks as
if it still had the backlog, and may be ended for that by its memory limit. Seen: 79 MB kept of 72 MB; 2 MB after this.
"""

from __future__ import annotations

import ctypes
from typing import Any

#: After so long: more may be freed at the same time.
DELAY_S = 1.0
#: It takes some milliseconds, in which nothing else is done.
EACH_S = 10.0

_due = False


def give_back_soon(reactor: Any) -> None:
    """Have it done, soon and not too often."""
    global _due
    if not _due:
        _due = True
        reactor.callLater(DELAY_S, _give_back, reactor)


def _give_back(reactor: Any) -> None:
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # another C library has none
    if trim is not None:
        trim(0)
    reactor.callLater(EACH_S, _done)


def _done() -> None:
    global _due
    _due = False
