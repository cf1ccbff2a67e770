"""Has Twisted's reactors live by a clock that never jumps: in every process that the patches arm.

Twisted measures by wall time, so that a step of the system's clock (a virtual machine that is resumed, NTP at boot)
moves every timer: set back by an hour, none comes due for an hour; set forward, all are due at once. Nearly everything
in Crossbar.io that waits, waits on the reactor. Triggered by the first import of `twisted.internet.base`, or at once
if that is loaded; the reactor may be installed already, and may be running. Wall time is left to logs and records.
"""

from __future__ import annotations

import sys
import time
from types import ModuleType
from typing import Any

from wrapt import register_post_import_hook

from crossbar_cluster.overlay.errors import PatchFailed, refuse


def arm_clock() -> None:
    """Mend the reactor's clock, now or as soon as Twisted is loaded."""
    register_post_import_hook(_mend_base, "twisted.internet.base")
    register_post_import_hook(_mend_access_log, "twisted.web.http")


def _mend_base(base: ModuleType) -> None:
    if base.ReactorBase.seconds is time.monotonic:
        return
    if not callable(getattr(base.ReactorBase, "seconds", None)):
        refuse(PatchFailed("ReactorBase has no method seconds", target="twisted.internet.base"))
    reactor = sys.modules.get("twisted.internet.reactor")
    if reactor is not None and getattr(reactor, "running", False):
        # Within a turn of its loop it has read the clock, and compares it with what is due. At the turn's begin it has
        # not; the calls of other threads are made there.
        reactor.callFromThread(_mend, base, reactor)
    else:
        _mend(base, reactor)


def _mend(base: Any, reactor: Any) -> None:
    base.ReactorBase.seconds = staticmethod(time.monotonic)
    if reactor is not None:
        ahead_s = time.monotonic() - time.time()
        for call in (*reactor._pendingTimedCalls, *reactor._newTimedCalls):
            call.time += ahead_s  # all by the same, so that a heap of them stays one
            call.seconds = time.monotonic


def _mend_access_log(http: Any) -> None:
    """Keep the date in lines of access logs, for which Twisted asks the reactor."""
    released = http.HTTPFactory._updateLogDateTime

    def update(self: Any) -> None:
        released(self)
        self._logDateTime = http.datetimeToLogString(time.time())

    http.HTTPFactory._updateLogDateTime = update
