"""The backends of this proxy worker at work: chosen for a client, and what becomes of clients when they are lost.

Owns the one picture of all backends (`core.backends`), which `Looks` keeps up to date. Triggered by the master's calls
(`follow`, `point`) and by clients (`join`). Work ends with a session for a client, or with the reason why there is
none.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from random import uniform
from typing import Any

from twisted.application.internet import backoffPolicy
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from crossbar_cluster.core.backends import UNAVAILABLE, Backend, Backends, RealmRole
from crossbar_cluster.core.proof import METHOD
from crossbar_cluster.node.attempt import OwnFault
from crossbar_cluster.node.descriptors import budget, shortage
from crossbar_cluster.node.draining import drain
from crossbar_cluster.node.handshake import Handshake, NotJoined, Principal, ProxyNode, Refused
from crossbar_cluster.node.settings import DRAIN
from crossbar_cluster.node.telling import tell_master
from crossbar_cluster.proxy.dialling import Dialling, S, Session
from crossbar_cluster.proxy.draining import SessionsDraining
from crossbar_cluster.proxy.looking import Looks
from crossbar_cluster.proxy.race import Race
from crossbar_cluster.proxy.waiting import Waiting

#: How long a client waits for a backend that is up.
WAIT_S = 5.0
#: A worker that is no older may not have been told of everything yet.
NEW_S = 30.0
#: How long a backend that is up may take to let a client in: many may come at once.
JOIN_WITHIN_S = 10.0
#: How long a client waits altogether: an attempt that begins within `WAIT_S` has its full time.
ANSWER_WITHIN_S = WAIT_S + JOIN_WITHIN_S
#: Between a client's attempts, more each time: many may fail at once. A router that refuses may be about to start the
#: realm or role, or to hear of this proxy.
_RETRY_PAUSE_S = backoffPolicy(initialDelay=0.4, maxDelay=2.0 / 1.2, factor=1.6, jitter=lambda: 0.0)
#: Routes are stopped one after the other: nobody is to be sent to the router that is the next to go.
SETTLE_S = 0.5
NOT_SERVED = "the router does not serve this any more"


class NoBackend(Exception):
    """No backend can serve a client now. The message says why.

    :ivar reason: URI for the client.
    """

    def __init__(self, reason: str, why: str) -> None:
        super().__init__(why)
        self.reason = reason


class BackendPool:
    """:param controller: the release's ``ProxyController``. :param reactor: of its process."""

    def __init__(self, controller: Any, reactor: Any) -> None:
        self.backends = Backends()
        self._controller = controller
        self._reactor = reactor
        self._log = controller.log
        self._dialling = Dialling(controller, reactor)
        self.looks = Looks(
            self.backends,
            self._dialling,
            reactor,
            self._log,
            lost=lambda backend: self._end(backend.id, _lose("the router does not answer any more")),
            up=lambda backend: self._wake(backend.routes),
            unreachable=lambda backend: tell_master(controller, "on_backend_unreachable", backend.id),
        )
        self._joined_on: dict[str, dict[Session, str]] = {}  #: backend id -> sessions, and their realms
        self._joining_on: dict[str, dict[Session, str]] = {}
        #: under way: backend id, and the realms of who leaves
        self._drains: dict[SessionsDraining, tuple[str, set[str]]] = {}
        self._began_s = reactor.seconds()
        self._waiting = Waiting(reactor)  #: for a realm and role, or (`routed`) for a realm
        self._closed = False
        self._log.info(
            "Room for about {clients} clients: {limit} file descriptors are allowed, and each client takes two",
            clients=budget().clients,
            limit=budget().limit,
        )

    @property
    def node(self) -> ProxyNode:
        """The node of this worker."""
        return self._dialling.node

    # -- what the master tells ----------------------------------------------------------------------------------

    def follow(self, connections: Mapping[str, Any], serving: Mapping[tuple[str, str], Any]) -> None:
        """Connections or routes have changed.

        :param connections: connection id -> the release's ``ProxyConnection``.
        :param serving: (realm, role) -> connections that serve it.
        """
        ids = {key: [connection.id for connection in used] for key, used in serving.items()}
        lost = self.backends.follow({i: connection.config for i, connection in connections.items()}, ids)
        for gone in self.looks.follow():
            self._end(gone, lambda joined: joined.dismiss(NOT_SERVED))
        for connection_id, realms in lost.items():
            self._send_away(connection_id, realms)
        self._wake(self.backends.changed)

    def point(self, connection_id: str, config: Mapping[str, Any], *, same_life: bool) -> None:
        """A backend is elsewhere, or has a new life: sessions of its former one lead nowhere."""
        self.backends.point(connection_id, config)
        if not same_life:
            self._end(connection_id, _lose("the router has been started anew"))
        self.looks.soon(connection_id)

    def serves(self, realm: str, role: str | None) -> bool:
        """Whether clients of the realm and role are sent to backends, all of which take this node's proof."""
        return bool(role and self.backends.serving(realm, role)) and not self.is_left_to_release(realm, role)

    def is_left_to_release(self, realm: str, role: str | None) -> bool:
        """Whether clients of the realm and role are none of this pool's: without a role, or with other backends.

        (Such as a router behind a Unix domain socket, only in configurations that no master has made.)
        """
        ids = self.backends.serving(realm, role) if role else ()
        return role is None or any(METHOD not in (self.backends.by_id[i].config.get("auth") or {}) for i in ids)

    def describe(self) -> dict[str, dict[str, Any]]:
        """How each backend is: connection id -> ``state``, ``problem`` and number of ``clients``."""
        return {
            backend.id: {
                "state": backend.shown.value,
                "problem": backend.problem,
                "clients": len(self._joined_on.get(backend.id, ())),
            }
            for backend in self.backends.by_id.values()
        }

    def troubles(self) -> list[str]:
        """What this process lacks itself, for people."""
        return [*self.looks.troubles.now(), *shortage()]

    # -- clients ------------------------------------------------------------------------------------------------

    async def routed(self, realm: str) -> None:
        """Wait until the master has told of the realm, for `WAIT_S` at most.

        That there is none is only said by a worker that has had time to hear of it.
        """
        deadline_s = self._reactor.seconds() + WAIT_S
        while realm not in self.backends.realms and (left_s := deadline_s - self._reactor.seconds()) > 0:
            if self.backends.realms and self._reactor.seconds() - self._began_s >= NEW_S:
                return
            await self._waiting.change(realm, left_s)

    async def join(self, principal: Principal, make: Callable[[Backend, Handshake], S]) -> tuple[S, Any]:
        """A session on whichever backend lets it in first, and what its `joined` has fired with.

        :param make: makes a session for one attempt.
        :raises NoBackend: none that was up within `WAIT_S` did, or none within `ANSWER_WITHIN_S`.
        """
        realm, role = principal.realm, str(principal.authrole)
        deadline_s = self._reactor.seconds() + WAIT_S
        answer_s = self._reactor.seconds() + ANSWER_WITHIN_S
        refused: Refused | None = None
        tries = 0
        while not self._closed:
            race = self._race(principal, make, answer_s)
            won = await race.run()
            if won is not None:
                self._joined_on.setdefault(won[0].backend.id, {})[won[0]] = realm
                return won
            refused = race.refused or refused
            left_s = deadline_s - self._reactor.seconds()
            if left_s <= 0 or not self.backends.serving(realm, role):
                raise self._no_backend(realm, role, refused)
            pause_s = min(left_s, _RETRY_PAUSE_S(tries) * uniform(0.8, 1.2))
            tries += race.failed or race.refused is not None
            if race.failed:  # whatever a look finds meanwhile: one client must not storm a router
                await deferLater(self._reactor, pause_s)
            else:
                await self._waiting.change((realm, role), pause_s if refused else left_s)
        raise NoBackend(UNAVAILABLE, "this proxy is about to end: try again")

    def _race(self, principal: Principal, make: Callable[[Backend, Handshake], S], answer_s: float) -> Race[S]:
        """A client's attempts on those that are up now."""
        realm, role = principal.realm, str(principal.authrole)
        turns = iter(self.backends.in_turn(realm, role))
        configs: dict[Session, Mapping[str, Any]] = {}

        def within_s() -> float:
            return min(JOIN_WITHIN_S, answer_s - float(self._reactor.seconds()))

        def begin() -> S | None:
            for backend in turns:
                if not (backend.is_up and self.backends.leads_to(backend, realm, role)) or within_s() <= 0:
                    continue  # it may have changed while others were tried
                session = make(backend, self._dialling.handshake(backend, principal))
                configs[session] = backend.config
                self._joining_on.setdefault(backend.id, {})[session] = realm
                try:
                    self._connect(backend, session)
                except Exception:
                    over(session, None)
                    raise
                return session
            return None

        def over(session: S, why: NotJoined | None) -> None:
            backend = session.backend
            joining = self._joining_on.get(backend.id, {})
            joining.pop(session, None)
            if not joining:
                self._joining_on.pop(backend.id, None)
            if why is not None and configs.pop(session) is backend.config:  # else it has been pointed elsewhere
                self._learn(backend, why)

        return Race(begin, over, within_s, self._reactor)

    def _connect(self, backend: Backend, session: Session) -> None:
        """A client's session gets its connection, if there is room for that."""
        try:
            self._dialling.check_room()
        except OwnFault as e:
            failed: Deferred[Any] = Deferred()
            session.connect(failed)
            failed.errback(e)
        else:
            self._dialling.connect(backend, session)

    def _learn(self, backend: Backend, why: NotJoined) -> None:
        """A client may fail by what it has said itself: only looks count, and what a router says of itself."""
        if isinstance(why, OwnFault):
            self.looks.troubles.met(why.trouble, backend.id)
        elif self.looks.is_ending(why):
            self.looks.ending(backend, str(why))
        elif not isinstance(why, Refused):
            self.looks.again(backend.id)

    def ended(self, session: Session) -> None:
        """A joined session has ended."""
        self._joined_on.get(session.backend.id, {}).pop(session, None)

    def close(self) -> None:
        """This worker is about to end: nobody gets a session any more."""
        self._closed = True
        self._waiting.wake_all()

    def sessions(self) -> list[Session]:
        """All that have been joined."""
        return [session for joined in self._joined_on.values() for session in joined]

    def leaving(self) -> dict[str, set[str]]:
        """Backends that clients are leaving, because no route leads there: connection id -> names of their realms.

        Until what those have sent is there, or time is up.
        """
        found: dict[str, set[str]] = {}
        for connection_id, realms in self._drains.values():
            found.setdefault(connection_id, set()).update(realms)
        return found

    def _send_away(self, connection_id: str, realms: set[str]) -> None:
        """A backend serves some realms no more: whoever is there for one of them is to come back elsewhere."""
        for joining, realm in list(self._joining_on.get(connection_id, {}).items()):
            if realm in realms:
                joining.give_up()
        backend = self.backends.by_id[connection_id]
        left = {joined: realm for joined, realm in self._joined_on.get(connection_id, {}).items() if realm in realms}
        if not left:
            return

        def still_there() -> list[Session]:
            joined_on, routed = self._joined_on.get(connection_id, {}), backend.realms  # one may have come back
            return [joined for joined, realm in left.items() if joined in joined_on and realm not in routed]

        draining = SessionsDraining(still_there, NOT_SERVED)
        self._drains[draining] = connection_id, set(left.values())
        drained: Deferred[Any] = deferLater(self._reactor, SETTLE_S)
        drained.addCallback(
            lambda _: Deferred.fromCoroutine(drain(draining, DRAIN.read(os.environ), self._reactor, self._log))
        )
        drained.addErrback(lambda failure: self._log.failure("Not drained: {log_failure.value}", failure=failure))
        drained.addBoth(lambda _: self._drains.pop(draining))

    def _no_backend(self, realm: str, role: str, refused: Refused | None) -> NoBackend:
        if refused is not None:
            return NoBackend(refused.reason, refused.explanation or f"no router lets a client into realm {realm} now")
        return NoBackend(UNAVAILABLE, f"no router of realm {realm} can be reached now: try again")

    def _wake(self, changed: Iterable[RealmRole]) -> None:
        """Those who wait for these realms and roles may be let in now."""
        changed = list(changed)
        self._waiting.wake([*changed, *dict.fromkeys(realm for realm, _ in changed)])

    def _end(self, connection_id: str, end: Callable[[Session], None]) -> None:
        for joined in list(self._joined_on.pop(connection_id, {})):
            try:
                end(joined)
            except Exception:  # a bug, which is to keep no other client from being told
                self._log.failure("A session on backend {backend} could not be ended", backend=connection_id)
        for joining in list(self._joining_on.pop(connection_id, {})):
            joining.give_up()  # whoever it is for tries the next one, and does not wait for this one's end


def _lose(why: str) -> Callable[[Session], None]:
    return lambda joined: joined.lose(why)


def pool_of(controller: Any) -> BackendPool:
    """The pool of a proxy worker. :param controller: the release's ``ProxyController``."""
    pool = vars(controller).get("_backend_pool")
    if pool is None:
        pool = vars(controller)["_backend_pool"] = BackendPool(controller, controller._reactor)
    assert isinstance(pool, BackendPool)
    return pool
