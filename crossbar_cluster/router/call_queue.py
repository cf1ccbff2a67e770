"""Calls that wait for a callee that takes no more at a time (``concurrency``).

Stands where the released dealer has a realm's store for them, which forgets nobody: here a call goes with its caller,
is given up when the caller gives it up or its time is over, and is answered when its registration ends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

CallKey = tuple[Any, int]  # session id of the caller, and its request


@dataclass(eq=False)
class WaitingCall:
    """Read by the released dealer, as its own ``QueuedCall``."""

    session: Any
    call: Any
    registration: Any
    authorization: Any
    key: CallKey
    timer: Any = None


class CallQueue:
    """:param timed: has a function called after the time limit of a call; returns what can cancel that.
    :param expired: told of a call whose time is over.
    """

    def __init__(self, timed: Callable[[Any, Callable[[], None]], Any], expired: Callable[[WaitingCall], None]) -> None:
        self._timed = timed
        self._expired = expired
        self._calls: dict[int, dict[CallKey, WaitingCall]] = {}  #: by id of the registration, first come first
        self._callers: dict[Any, dict[CallKey, WaitingCall]] = {}  #: by session
        self._keys: dict[CallKey, WaitingCall] = {}

    def __contains__(self, key: CallKey) -> bool:
        return key in self._keys

    def count_of(self, session: Any) -> int:
        return len(self._callers.get(session, ()))

    # -- as the released dealer uses a store ---------------------------------------------------------------------

    def maybe_queue_call(self, session: Any, call: Any, registration: Any, authorization: Any) -> bool:
        """Have a call wait. :returns: that it does."""
        waiting = WaitingCall(session, call, registration, authorization, (session._session_id, call.request))
        for calls in (self._calls.setdefault(registration.id, {}), self._callers.setdefault(session, {}), self._keys):
            calls[waiting.key] = waiting
        if call.timeout:
            waiting.timer = self._timed(call.timeout, lambda: self._time_is_over(waiting))
        return True

    def get_queued_call(self, registration: Any) -> None:
        """None: the release looks after results only, and for one call. See `crossbar_cluster.router.calls.go_on`."""

    # -- how waiting ends ------------------------------------------------------------------------------------------

    def first_of(self, registration_id: int) -> WaitingCall | None:
        """The one that waits longest for a callee of that registration."""
        calls = self._calls.get(registration_id)
        return next(iter(calls.values())) if calls else None

    def remove(self, waiting: WaitingCall) -> None:
        """It waits no more."""
        key = waiting.key
        self._keys.pop(key, None)
        for calls, owner in ((self._calls, waiting.registration.id), (self._callers, waiting.session)):
            if (of_owner := calls.get(owner)) is not None:
                of_owner.pop(key, None)
                if not of_owner:
                    del calls[owner]
        timer, waiting.timer = waiting.timer, None
        if timer is not None:
            timer.cancel()

    def take(self, key: CallKey) -> WaitingCall | None:
        """The call of that request, which waits no more; None: it does not wait."""
        waiting = self._keys.get(key)
        if waiting is not None:
            self.remove(waiting)
        return waiting

    def of_caller(self, session: Any) -> Iterator[WaitingCall]:
        """Those of a session that leaves: each waits no more when it is given."""
        return self._drained(list(self._callers.get(session, {}).values()))

    def of_registration(self, registration_id: int) -> Iterator[WaitingCall]:
        """Those for a registration that has ended, in the same way."""
        return self._drained(list(self._calls.get(registration_id, {}).values()))

    def _drained(self, calls: list[WaitingCall]) -> Iterator[WaitingCall]:
        for waiting in calls:
            if self._keys.get(waiting.key) is waiting:
                self.remove(waiting)
                yield waiting

    def _time_is_over(self, waiting: WaitingCall) -> None:
        waiting.timer = None
        self.remove(waiting)
        self._expired(waiting)
