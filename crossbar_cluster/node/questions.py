"""Calls to those who may not answer for hours: a worker that hangs does not collect any number of them.

A call that is not answered stays where it passes: at its caller, at the router, in the memory of whoever sends it on.
To cancel it helps nothing: that is one more message to a worker that reads none. So it is not made while another waits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.python.failure import Failure


class OneAtATime:
    """Questions of which there is never more than one under way. Who asks the same meanwhile waits for its answer.

    :param within_s: how long anybody waits.
    :param reactor: an ``IReactorTime``.
    """

    def __init__(self, within_s: float, reactor: Any) -> None:
        self._within_s = within_s
        self._reactor = reactor
        self._waiting: dict[Hashable, list[Deferred[Any]]] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def ask(self, what: Hashable, call: Callable[[], Any]) -> Deferred[Any]:
        """The answer. :raises TimeoutError: it has not come in time; the call itself goes on waiting."""
        answer: Deferred[Any] = Deferred()
        timer = self._reactor.callLater(self._within_s, self._too_late, what, answer)
        answer.addBoth(_stop, timer)
        waiting = self._waiting.get(what)
        if waiting is not None:
            waiting.append(answer)
            return answer
        self._waiting[what] = [answer]
        maybeDeferred(call).addBoth(self._answered, what)
        return answer

    def _too_late(self, what: Hashable, answer: Deferred[Any]) -> None:
        self._waiting[what].remove(answer)
        answer.errback(TimeoutError())

    def _answered(self, result: Any, what: Hashable) -> None:
        for answer in self._waiting.pop(what):
            if isinstance(result, Failure):
                answer.errback(result)
            else:
                answer.callback(result)


def _stop(result: Any, timer: Any) -> Any:
    if timer.active():
        timer.cancel()
    return result


class TooMany(Exception):
    """As many calls as there may be wait for somebody already."""


class AtMost:
    """Calls of any kind to each of many: so many may wait for an answer, whatever they are."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._under_way: Counter[Hashable] = Counter()

    def __len__(self) -> int:
        return self._under_way.total()

    def make(self, whom: Hashable, call: Callable[[], Any]) -> Deferred[Any]:
        """Make the call. :raises TooMany: (not by the Deferred) it is not made."""
        if self._under_way[whom] >= self._number:
            raise TooMany
        self._under_way[whom] += 1
        return maybeDeferred(call).addBoth(self._done, whom)

    def _done(self, result: Any, whom: Hashable) -> Any:
        self._under_way[whom] -= 1
        if not self._under_way[whom]:
            del self._under_way[whom]
        return result
