"""The backends of a proxy worker: where they are, how they are, and whose turn it is. Pure; time is an argument.

A backend is a router worker, known by its connection id; its address is data on it. Told of by the master (`follow`,
`point`) and by what becomes of looks at it (`reached`, `failed`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

#: Error URI for a client that no router can serve now.
UNAVAILABLE = "wamp.error.unavailable"
#: An answering backend is given up after so many failures in a row: one may be a proxy that was itself too busy.
LOST_AFTER = 2
FIRST_RETRY_S = 0.1
RETRY_AT_MOST_S = 1.0
RETRY_GROWTH = 1.6

RealmRole = tuple[str, str]


class State(Enum):
    """How a backend is, as far as the proxy knows."""

    CONNECTING = "connecting"  #: not tried yet at the place where it is said to be
    UP = "up"  #: answers, and is who it should be
    SUSPECT = "suspect"  #: did not answer, or is somebody else
    DRAINING = "draining"  #: no route leads there any more; clients that are there are asked to come back elsewhere


@dataclass
class Backend:
    """A router worker that clients are sent to."""

    id: str  #: of the connection, as the master names it
    config: Mapping[str, Any]  #: of the connection
    state: State = State.CONNECTING
    problem: str = ""  #: what was wrong last
    failures: int = 0  #: in a row
    heard_s: float = float("-inf")  #: when it last sent anything
    routes: set[RealmRole] = field(default_factory=set)  #: what clients are sent there for

    @property
    def shown(self) -> State:
        """The state as people are shown it."""
        return self.state if self.routes else State.DRAINING

    @property
    def realms(self) -> set[str]:
        """Those that clients are sent there for."""
        return {realm for realm, _ in self.routes}

    @property
    def is_up(self) -> bool:
        return self.state is State.UP

    def reached(self, now_s: float) -> bool:
        """It has answered and proven who it is. :returns: whether that is news."""
        news, self.failures, self.heard_s = self.state is not State.UP, 0, now_s
        self.state, self.problem = State.UP, ""
        return news

    def failed(self, problem: str) -> bool:
        """It has not. :returns: whether it is to be given up now: those that were on it are to be told."""
        self.failures, self.problem = self.failures + 1, problem
        was_up = self.state is State.UP
        if not was_up or self.failures >= LOST_AFTER:
            self.state = State.SUSPECT
        return was_up and self.state is State.SUSPECT

    @property
    def retry_s(self) -> float:
        """How long to wait before it is tried again."""
        return min(FIRST_RETRY_S * RETRY_GROWTH ** max(0, min(self.failures, 20) - 1), RETRY_AT_MOST_S)


class Backends:
    """All backends of a proxy worker, and which of them serve a realm and role."""

    def __init__(self) -> None:
        self.by_id: dict[str, Backend] = {}
        self._serving: dict[RealmRole, tuple[str, ...]] = {}
        self._turns: dict[RealmRole, int] = {}

    def follow(
        self, configs: Mapping[str, Mapping[str, Any]], serving: Mapping[RealmRole, Iterable[str]]
    ) -> dict[str, set[str]]:
        """Take over what the master has told: connections by id, and which of them serve which realm and role.

        :returns: which realms a backend serves no more, in no role, of those backends that are still there.
        """
        for gone in set(self.by_id) - set(configs):
            del self.by_id[gone]
        for connection_id, config in configs.items():
            if connection_id not in self.by_id:
                self.by_id[connection_id] = Backend(connection_id, config)
        self._serving = {key: tuple(sorted(ids)) for key, ids in serving.items()}
        self._turns = {key: turn for key, turn in self._turns.items() if key in self._serving}
        lost: dict[str, set[str]] = {}
        for backend in self.by_id.values():
            before = backend.realms
            backend.routes = {key for key, ids in self._serving.items() if backend.id in ids}
            if less := before - backend.realms:
                lost[backend.id] = less
        return lost

    def point(self, connection_id: str, config: Mapping[str, Any]) -> None:
        """A backend is elsewhere now, or has a new life: nothing is known of it any more."""
        backend = self.by_id[connection_id]
        backend.config, backend.state, backend.problem, backend.failures = config, State.CONNECTING, "", 0

    @property
    def realms(self) -> set[str]:
        """Those that have a backend, in whatever state."""
        return {realm for realm, _ in self._serving}

    def serving(self, realm: str, role: str) -> tuple[str, ...]:
        """Those that serve the realm and role, in whatever state."""
        return self._serving.get((realm, role), ())

    def leads_to(self, backend: Backend, realm: str, role: str) -> bool:
        """Whether clients of the realm and role are sent to that backend, as far as the master has told until now."""
        return self.by_id.get(backend.id) is backend and (realm, role) in backend.routes

    def in_turn(self, realm: str, role: str) -> list[Backend]:
        """Those that are up, in the order in which a new client is to try them: round robin."""
        backends = (self.by_id[connection_id] for connection_id in self.serving(realm, role))
        up = [backend for backend in backends if backend.is_up]
        if not up:
            return []
        turn = self._turns[realm, role] = self._turns.get((realm, role), -1) + 1
        first = turn % len(up)
        return up[first:] + up[:first]

    def problems(self, realm: str, role: str) -> list[str]:
        """What is wrong with those that are not up, for people."""
        found = (self.by_id[connection_id] for connection_id in self.serving(realm, role))
        return [f"{backend.id}: {backend.problem or backend.state.value}" for backend in found if not backend.is_up]
