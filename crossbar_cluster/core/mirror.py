"""What a router shows to another one of its group: the subscriptions and registrations of its own clients. Pure.

The other router holds them for this one, as if it were a client there, and so sends what they are for. What is to be
held follows from the clients (`want`), what is held from the answers; one place (`_settle`) acts on the difference. One
request is under way for each key at most, and what has changed meanwhile is seen to when its answer comes. Of all keys
together a limited number is under way: however much there is to be shown, the other router reads a little at a time.

`Picture` is what both of them can say of what is held, so that they see when they do not agree.
"""

from __future__ import annotations

import zlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from itertools import islice
from typing import NamedTuple

#: How many requests are under way at a time.
WINDOW = 256


class Kind(Enum):
    SUBSCRIPTION = "subscription"
    REGISTRATION = "registration"


class Key(NamedTuple):
    """What tells subscriptions, and registrations, of a realm apart."""

    kind: Kind
    uri: str
    match: str  #: "exact", "prefix" or "wildcard"


@dataclass
class Picture:
    """How many keys somebody holds, and a sum over them that does not depend on their order."""

    count: int = 0
    sum: int = 0

    def add(self, key: Key, times: int = 1) -> None:
        """:param times: -1: it is held no more."""
        self.count += times
        self.sum += times * zlib.crc32(f"{key.kind.value} {key.match} {key.uri}".encode(errors="replace"))

    def to_wire(self) -> list[int]:
        return [self.count, self.sum]


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
    """:param send: sends a request; returns a number that its answer carries.
    :param window: how many requests are under way at a time.

    :ivar picture: of what the other router holds, as far as this one knows.
    :ivar version: another number after each change of that.
    """

    def __init__(self, send: Callable[[Offer | Withdraw], int], window: int = WINDOW) -> None:
        self.picture = Picture()
        self.version = 0
        self._send = send
        self._window = window
        self._wanted: dict[Key, str] = {}
        self._entries: dict[Key, _Entry] = {}
        self._asked: dict[int, Key] = {}  #: requests without an answer
        self._keys: dict[tuple[Kind, int], Key] = {}
        self._refused: dict[Key, None] = {}
        # Those whose turn has not come. Registrations are first: somebody may be about to call them.
        self._waiting: dict[Kind, OrderedDict[Key, None]] = {
            Kind.REGISTRATION: OrderedDict(),
            Kind.SUBSCRIPTION: OrderedDict(),
        }

    @property
    def is_settled(self) -> bool:
        """Whether everything has been answered."""
        return not self._asked and not any(self._waiting.values())

    @property
    def refused(self) -> list[Key]:
        """What the other router does not hold although it should: somebody else has that name there."""
        return list(self._refused)

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
            self._changed(key, 1)
            self._settle(key)
            self._go_on()

    def ended(self, request: int) -> Key | None:
        """The other router refuses it, or holds it no more as it was asked. :returns: what it refuses."""
        if (key := self._asked.pop(request, None)) is not None:
            entry = self._entries[key]
            if entry.stage is _Stage.ASKED:
                entry.stage = _Stage.REFUSED
                self._refused[key] = None
            else:
                self._forget(key)
            self._settle(key)
            self._go_on()
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

    def retry(self, at_most: int | None = None) -> list[Key]:
        """Ask anew for what was refused, longest ago first. :returns: what is asked for."""
        keys = list(islice(self._refused, at_most))
        for key in keys:
            del self._refused[key], self._entries[key]
            self._settle(key)
        return keys

    def _forget(self, key: Key) -> None:
        entry = self._entries.pop(key)
        if self._keys.pop((key.kind, entry.id), None) is not None:
            self._changed(key, -1)

    def _changed(self, key: Key, times: int) -> None:
        self.picture.add(key, times)
        self.version += 1

    def _go_on(self) -> None:
        for waiting in self._waiting.values():
            while waiting and len(self._asked) < self._window:
                self._settle(waiting.popitem(last=False)[0])

    def _settle(self, key: Key) -> None:
        invoke, entry = self._wanted.get(key), self._entries.get(key)
        if entry is not None and entry.stage is _Stage.REFUSED and entry.invoke != invoke:
            del self._refused[key], self._entries[key]
            entry = None
        offers = entry is None and invoke is not None
        if not offers and not (entry is not None and entry.stage is _Stage.HELD and entry.invoke != invoke):
            return
        if len(self._asked) >= self._window:
            self._waiting[key.kind][key] = None
        elif entry is None:
            assert invoke is not None
            self._entries[key] = _Entry(_Stage.ASKED, invoke)
            self._asked[self._send(Offer(key, invoke))] = key
        else:
            entry.stage = _Stage.WITHDRAWN
            self._asked[self._send(Withdraw(key, entry.id))] = key
