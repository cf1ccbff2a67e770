"""Work on many nodes at the same time that waits for none of them for long: one that hangs holds up no other.

A pass of a reconciler gives each node's part a moment (`PATIENCE_S`). What takes longer goes on by itself, is not begun
a second time meanwhile, and reports when it is done.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Hashable, Mapping
from typing import Any, Generic, TypeVar

from twisted.internet.defer import Deferred, DeferredList
from twisted.python.failure import Failure

PATIENCE_S = 1.0

T = TypeVar("T")


class Crew(Generic[T]):
    """Runs the parts of a pass.

    :param reactor: an ``IReactorTime``.
    :param late: called with a part's key and its result, or the exception it ended with, when its pass did not wait
        for it.
    """

    def __init__(self, reactor: Any, late: Callable[[Hashable, T | Exception], None]) -> None:
        self._reactor = reactor
        self._late = late
        self._at_it: set[Hashable] = set()

    async def all_at_once(
        self, parts: Mapping[Hashable, Callable[[], Coroutine[Any, Any, T]]]
    ) -> dict[Hashable, T | Exception | None]:
        """Run all parts at the same time.

        :param parts: what identifies a part -> how to begin it.
        :returns: for each part its result, or the exception it ended with, or None while it goes on.
        """
        results: dict[Hashable, T | Exception | None] = {}
        over = Deferred[None]()
        begun = []
        for key, begin in parts.items():
            results[key] = None
            if key not in self._at_it:
                self._at_it.add(key)
                part = Deferred.fromCoroutine(begin())
                begun.append(part.addBoth(self._ended, key, results, over))
        enough = self._reactor.callLater(PATIENCE_S if begun else 0.0, over.callback, None)

        def all_ended(_: object) -> None:
            if enough.active():
                enough.cancel()
                over.callback(None)

        DeferredList(begun).addCallback(all_ended)
        await over
        return dict(results)

    def _ended(self, result: Any, key: Hashable, results: dict[Hashable, Any], over: Deferred[None]) -> None:
        self._at_it.discard(key)
        results[key] = result.value if isinstance(result, Failure) else result
        if over.called:
            self._late(key, results[key])
