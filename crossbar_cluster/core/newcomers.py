"""Who has connected to a port and is not let in yet: how many there may be, and for how long. Pure.

A connection counts from its TCP handshake until it has a session. Nobody has proven anything by then, so there is a
bound on how many are kept, and the oldest gives way to the next; and each has a time limit, however much it says.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from enum import Enum, auto
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
#: Of the oldest, who are looked through for one that is not joining.
LOOKED_AT = 32


class Standing(Enum):
    """What has become of a connection."""

    UNPROVEN = auto()
    JOINING = auto()  #: has said who it wants to be, and one of us is at work on that: gives way when nobody else does
    IDLE = auto()  #: HTTP, between two requests: gives way to others, and has a time limit of its own
    BUSY = auto()  #: HTTP, and its request is being answered: kept
    PROVEN = auto()  #: has a session: none of ours any more


class Newcomers(Generic[K]):
    """Those of one port.

    :param most: how many there may be. Who has a session is found out now and then only, so that for a moment a tenth
        of them may be others.
    :param within_s: how long each may take.
    :param standing: what has become of a connection.
    """

    def __init__(self, most: int, within_s: float, standing: Callable[[K], Standing]) -> None:
        self._most = most
        self._within_s = within_s
        self._standing = standing
        self._until_s: OrderedDict[K, float] = OrderedDict()  #: the oldest first
        self._came = 0  #: since the last look at all of them

    def __len__(self) -> int:
        return len(self._until_s)

    @property
    def next_s(self) -> float | None:
        """When the time of the first is up; None: there is nobody."""
        return next(iter(self._until_s.values()), None)

    def came(self, who: K, now_s: float) -> K | None:
        """Somebody has connected. :returns: who is to be closed for that, if there were too many."""
        self._until_s[who] = now_s + self._within_s
        self._came += 1
        if len(self._until_s) > self._most and self._came * 10 >= self._most:
            self._came = 0
            self._forget_proven()
        return self._give_way(now_s) if len(self._until_s) > self._most else None

    def _give_way(self, now_s: float) -> K | None:
        """:returns: the oldest who is not joining; or, where many are, the oldest of those. None: one has joined."""
        joining: list[K] = []
        for oldest in list(self._until_s):
            match self._standing(oldest):
                case Standing.PROVEN:
                    del self._until_s[oldest]
                    return None
                case Standing.BUSY:
                    self._renew(oldest, now_s)
                case Standing.JOINING if len(joining) < LOOKED_AT:
                    joining.append(oldest)
                case _:
                    del self._until_s[oldest]
                    return oldest
        if joining:
            del self._until_s[joining[0]]
        return joining[0] if joining else None

    def left(self, who: K) -> None:
        """A connection has ended, or is none of ours any more."""
        self._until_s.pop(who, None)

    def late(self, now_s: float) -> list[K]:
        """Those whose time is up, and who are to be closed."""
        late = []
        while self._until_s and (oldest := next(iter(self._until_s.items())))[1] <= now_s:
            who = oldest[0]
            match self._standing(who):
                case Standing.BUSY | Standing.IDLE:
                    self._renew(who, now_s)
                    continue
                case Standing.UNPROVEN | Standing.JOINING:
                    late.append(who)
            del self._until_s[who]
        return late

    def _renew(self, who: K, now_s: float) -> None:
        self._until_s[who] = now_s + self._within_s
        self._until_s.move_to_end(who)

    def _forget_proven(self) -> None:
        for who in [who for who in self._until_s if self._standing(who) is Standing.PROVEN]:
            del self._until_s[who]
