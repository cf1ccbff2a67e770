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
#: An answering backend is given up after so many looks in a row that failed, and during which nothing was heard of it.
LOST_AFTER = 2
#: What was heard of a backend within that time says that it is there, whatever a look finds.
HEARD_FOR_S = 3.0
#: How a router says that it is drained, in a refusal for reason `UNAVAILABLE` (`node.backend_auth`).
ENDING = "this router is about to end"
#: Backends that begin to fail within this time of each other do so at once: two looks, and some.
AT_ONCE_S = 10.0
#: Whoever is joined stays for that long when all fail at once: it is only likely that it is not they who are to blame.
HOLD_S = 60.0
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
    silent: int = 0  #: of those, in a row: during which nothing was heard
    absent: int = 0  #: of those, in a row: during which nobody was there, not even to turn the look away
    voids: int = 0  #: looks in a row that said nothing about it, for a reason of this process's own
    failing_s: float | None = None  #: since when looks fail
    given_up: bool = False  #: those that were on it have been told
    was_up: bool = False  #: where it is now, in the life that it has now
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

    @property
    def is_lost(self) -> bool:
        """Whether those that are on it are to be told, if it is to blame."""
        return self.state is State.SUSPECT and self.absent >= LOST_AFTER

    @property
    def host(self) -> Any:
        """Where it is said to be; None: that cannot be told."""
        try:
            return self.config["transport"]["endpoint"]["host"]
        except (KeyError, TypeError):
            return None

    def reached(self, now_s: float) -> bool:
        """It has answered and proven who it is. :returns: whether that is news."""
        news, self.heard_s = self.state is not State.UP, now_s
        self.state, self.was_up = State.UP, True
        self._forget_failures()
        return news

    def failed(
        self, problem: str, began_s: float = float("inf"), now_s: float = float("inf"), *, is_there: bool = False
    ) -> bool:
        """It has not.

        :param began_s: when the look began: what was heard since then says that it is there.
        :param is_there: somebody has turned the look away: no reason to end those who are on it.
        :returns: whether nobody new is sent there from now on.
        """
        self.failures, self.problem, self.voids = self.failures + 1, problem, 0
        is_heard = self.heard_s > began_s or now_s - self.heard_s < HEARD_FOR_S
        self.silent = 0 if is_heard else self.silent + 1
        self.absent = 0 if is_heard or is_there else self.absent + 1
        if self.failing_s is None:
            self.failing_s = now_s
        was_up = self.state is State.UP
        if not was_up or self.silent >= LOST_AFTER:
            self.state = State.SUSPECT
        return was_up and self.state is State.SUSPECT

    def ending(self, problem: str) -> bool:
        """It says that it is drained: nobody new is sent there until a look finds its successor. :returns: as above."""
        was_up, self.state, self.problem = self.state is State.UP, State.SUSPECT, problem
        return was_up

    def void(self, problem: str) -> None:
        """A look has said nothing about it. :param problem: of this process's own."""
        self.voids += 1
        if self.state is not State.UP:
            self.problem = problem

    def point(self, config: Mapping[str, Any]) -> None:
        """It is elsewhere now, or has a new life: nothing is known of it any more."""
        self.config, self.state, self.was_up = config, State.CONNECTING, False
        self._forget_failures()

    def _forget_failures(self) -> None:
        self.problem, self.failures, self.silent, self.absent, self.voids = "", 0, 0, 0, 0
        self.failing_s, self.given_up = None, False

    @property
    def is_failing(self) -> bool:
        """Whether the last look at it failed, or said nothing."""
        return bool(self.failures or self.voids)

    @property
    def retry_s(self) -> float:
        """How long to wait before it is tried again."""
        tries = min(self.failures + self.voids, 20)
        return min(FIRST_RETRY_S * RETRY_GROWTH ** max(0, tries - 1), RETRY_AT_MOST_S)


class Backends:
    """All backends of a proxy worker, and which of them serve a realm and role."""

    def __init__(self) -> None:
        self.by_id: dict[str, Backend] = {}
        self._serving: dict[RealmRole, tuple[str, ...]] = {}
        self._turns: dict[RealmRole, int] = {}
        self.changed: set[RealmRole] = set()  #: what other backends serve than before the last `follow`

    def follow(
        self, configs: Mapping[str, Mapping[str, Any]], serving: Mapping[RealmRole, Iterable[str]]
    ) -> dict[str, set[str]]:
        """Take over what the master has told: connections by id, and which of them serve which realm and role.

        :returns: which realms a backend serves no more, in no role, of those backends that are still there.
        """
        was_serving = self._serving
        for gone in set(self.by_id) - set(configs):
            del self.by_id[gone]
        for connection_id, config in configs.items():
            if connection_id not in self.by_id:
                self.by_id[connection_id] = Backend(connection_id, config)
        self._serving = {key: tuple(sorted(ids)) for key, ids in serving.items()}
        self.changed = {key for key in {*was_serving, *self._serving} if was_serving.get(key) != self._serving.get(key)}
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
        self.by_id[connection_id].point(config)

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

    def fail_at_once(self, backend: Backend, now_s: float) -> bool:
        """Whether all that were up began to fail when this one did, on different hosts: who looks is to blame, likely.

        For `HOLD_S` at most.
        """
        if backend.failing_s is None or now_s - backend.failing_s > HOLD_S:
            return False
        routed = [b for b in self.by_id.values() if b.routes and b.was_up and not b.given_up]
        # one that has been failing for longer is another case
        others = [b for b in routed if b.failing_s is None or abs(b.failing_s - backend.failing_s) <= AT_ONCE_S]
        return all(b.failing_s is not None for b in others) and len({b.host for b in (*others, backend)}) > 1

    def in_turn(self, realm: str, role: str) -> list[Backend]:
        """Those that are up, in the order in which a new client is to try them: round robin, those that fail last."""
        backends = (self.by_id[connection_id] for connection_id in self.serving(realm, role))
        up = [backend for backend in backends if backend.is_up]
        if not up:
            return []
        turn = self._turns[realm, role] = self._turns.get((realm, role), -1) + 1
        good, failing = [b for b in up if not b.failures], [b for b in up if b.failures]
        return [*_rotated(good, turn), *_rotated(failing, turn)]

    def problems(self, realm: str, role: str) -> list[str]:
        """What is wrong with those that are not up, for people."""
        found = (self.by_id[connection_id] for connection_id in self.serving(realm, role))
        return [f"{backend.id}: {backend.problem or backend.state.value}" for backend in found if not backend.is_up]


def _rotated(backends: list[Backend], turn: int) -> list[Backend]:
    first = turn % len(backends) if backends else 0
    return backends[first:] + backends[:first]
