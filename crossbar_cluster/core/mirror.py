"""What a router shows to another one of its group: the subscriptions and registrations of its own clients. Pure.

The other router holds them for this one, as if it were a client there, and so sends what they are for. What is to be
held follows from the clients (`want`), what is held from the answers; one place (`_settle`) acts on the difference. One
request is under way for each key at most, and what has changed meanwhile is seen to when its answer comes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple


class Kind(Enum):
    SUBSCRIPTION = "subscription"
    REGISTRATION = "registration"


class Key(NamedTuple):
    """What tells subscriptions, and registrations, of a realm apart."""

    kind: Kind
    uri: str
    match: str  #: "exact", "prefix" or "wildcard"


@dataclass(frozen=True)
class Offer:
    """Ask the other router to hold it. :ivar invoke: invocation policy of a registration; "" for subscriptions."""

    key: Key
    invoke: str


@dataclass(frozen=True)
class Withdraw:
    """Ask the other router to hold it no more. :ivar id: what the other router calls it."""

    key: Key
    id: int


class _Stage(Enum):
    ASKED = 1
    HELD = 2
    WITHDRAWN = 3  #: not answered yet
    REFUSED = 4


@dataclass
class _Entry:
    stage: _Stage
    invoke: str
    id: int = 0


class Mirror:
    """:param send: sends a request; returns a number that its answer carries."""

    def __init__(self, send: Callable[[Offer | Withdraw], int]) -> None:
        self._send = send
        self._wanted: dict[Key, str] = {}
        self._entries: dict[Key, _Entry] = {}
        self._asked: dict[int, Key] = {}  #: requests without an answer
        self._keys: dict[tuple[Kind, int], Key] = {}

    @property
    def is_settled(self) -> bool:
        """Whether everything has been answered."""
        return not self._asked

    @property
    def refused(self) -> list[Key]:
        """What the other router does not hold although it should: somebody else has that name there."""
        return [key for key, entry in self._entries.items() if entry.stage is _Stage.REFUSED]

    def key_of(self, kind: Kind, held_id: int) -> Key | None:
        """What the other router means by that id."""
        return self._keys.get((kind, held_id))

    def want(self, key: Key, invoke: str | None) -> None:
        """It is to be held; or not any more. :param invoke: as in `Offer`; None: not any more."""
        if invoke is None:
            self._wanted.pop(key, None)
        else:
            self._wanted[key] = invoke
        self._settle(key)

    def accepted(self, request: int, held_id: int) -> None:
        """The other router holds it now."""
        if (key := self._asked.pop(request, None)) is not None:
            entry = self._entries[key]
            entry.stage, entry.id = _Stage.HELD, held_id
            self._keys[key.kind, held_id] = key
            self._settle(key)

    def ended(self, request: int) -> Key | None:
        """The other router refuses it, or holds it no more as it was asked. :returns: what it refuses."""
        if (key := self._asked.pop(request, None)) is not None:
            entry = self._entries[key]
            if entry.stage is _Stage.ASKED:
                entry.stage = _Stage.REFUSED
            else:
                self._forget(key)
            self._settle(key)
            if (left := self._entries.get(key)) is not None and left.stage is _Stage.REFUSED:
                return key
        return None

    def expelled(self, kind: Kind, held_id: int) -> Key | None:
        """The other router holds it no more, because somebody there wanted it so. :returns: what it was.

        Whoever has had a registration is to be told, and then may want it anew. Of a subscription nobody is told: it
        was not meant for those who have it here, and they go on.
        """
        key = self._keys.get((kind, held_id))
        if key is not None and self._entries[key].stage is _Stage.HELD:
            self._forget(key)
            if kind is Kind.REGISTRATION:
                self._wanted.pop(key, None)
            self._settle(key)
        return key

    def retry(self) -> None:
        """Ask anew for what was refused."""
        for key in self.refused:
            del self._entries[key]
            self._settle(key)

    def _forget(self, key: Key) -> None:
        entry = self._entries.pop(key)
        self._keys.pop((key.kind, entry.id), None)

    def _settle(self, key: Key) -> None:
        invoke, entry = self._wanted.get(key), self._entries.get(key)
        if entry is not None and entry.stage is _Stage.REFUSED and entry.invoke != invoke:
            del self._entries[key]
            entry = None
        if entry is None:
            if invoke is not None:
                self._entries[key] = _Entry(_Stage.ASKED, invoke)
                self._asked[self._send(Offer(key, invoke))] = key
        elif entry.stage is _Stage.HELD and entry.invoke != invoke:
            entry.stage = _Stage.WITHDRAWN
            self._asked[self._send(Withdraw(key, entry.id))] = key
