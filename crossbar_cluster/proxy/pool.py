"""The backends of this proxy worker at work: looked at, chosen for a client, given up when they are lost.

Owns the one picture of all backends (`core.backends`), which the watches keep up to date. Triggered by the
master's calls (`follow`, `point`), by clients (`join`) and by the watches. Work ends with a session for a client, or
with the reason why there is none.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar

from autobahn.wamp.component import _create_transport
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater

from crossbar_cluster.core.backends import LOST_AFTER, UNAVAILABLE, Backend, Backends
from crossbar_cluster.core.news import Seldom
from crossbar_cluster.core.proof import METHOD, RouterIdentity
from crossbar_cluster.node.backend_session import BackendSession
from crossbar_cluster.node.draining import drain
from crossbar_cluster.node.handshake import (
    Handshake,
    NotJoined,
    Principal,
    ProxyNode,
    Refused,
    Unreachable,
    WrongRouter,
)
from crossbar_cluster.node.key import node_key
from crossbar_cluster.node.settings import DRAIN, UNPROVEN_ROUTERS
from crossbar_cluster.node.telling import tell_master
from crossbar_cluster.proxy.draining import SessionsDraining
from crossbar_cluster.proxy.watch import WITHIN_S, Watch

#: How long a client waits for a backend that is up.
WAIT_S = 5.0
#: A worker that is no older may not have been told of everything yet.
NEW_S = 30.0
#: How long a backend that is up may take to let a client in: many may come at once.
JOIN_WITHIN_S = 10.0
#: How long a client waits altogether: an attempt that begins within `WAIT_S` has its full time.
ANSWER_WITHIN_S = WAIT_S + JOIN_WITHIN_S
#: The master is told of a backend that cannot be reached at most once in this time: one that stays away is no news.
REPORT_EACH_S = 2.0
#: Between a client's attempts. A router that refuses may be about to start the realm or role, or to hear of this proxy.
RETRY_PAUSE_S = 0.4


#: Routes are stopped one after the other: nobody is to be sent to the router that is the next to go.
SETTLE_S = 0.5
NOT_SERVED = "the router does not serve this any more"


class Session(Protocol):
    """A session that the pool gets onto a backend."""

    backend: Backend
    joined: Deferred[Any]  #: fails with `NotJoined`

    def connect(self, connection: Deferred[Any]) -> None:
        """Its connection: fires with the protocol."""

    def give_up(self) -> None:
        """Nobody waits for it to join any more."""

    def disconnect(self) -> None:
        """Close its connection."""

    def lose(self, why: str) -> None:
        """Its router is known to be gone. :param why: for people."""

    def dismiss(self, why: str) -> None:
        """It is to end, and what it has sent is to arrive. :param why: for people."""


S = TypeVar("S", bound=Session)


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
        self._watches: dict[str, Watch] = {}
        self._joined_on: dict[str, dict[Session, str]] = {}  #: backend id -> sessions, and their realms
        self._joining_on: dict[str, dict[Session, str]] = {}
        #: under way: backend id, and the realms of who leaves
        self._drains: dict[SessionsDraining, tuple[str, set[str]]] = {}
        self._began_s = reactor.seconds()
        self._waiting: list[Deferred[None]] = []
        self._reports = Seldom(REPORT_EACH_S)  # of backends that cannot be reached
        self._closed = False
        self._unproven_told: set[str] = set()  #: backends that the operator has been warned of

    @property
    def node(self) -> ProxyNode:
        """The node of this worker."""
        return ProxyNode(self._controller.node_id, node_key(self._controller._cbdir))

    # -- what the master tells ----------------------------------------------------------------------------------

    def follow(self, connections: Mapping[str, Any], serving: Mapping[tuple[str, str], Any]) -> None:
        """Connections or routes have changed.

        :param connections: connection id -> the release's ``ProxyConnection``.
        :param serving: (realm, role) -> connections that serve it.
        """
        ids = {key: [connection.id for connection in used] for key, used in serving.items()}
        lost = self.backends.follow({i: connection.config for i, connection in connections.items()}, ids)
        for gone in set(self._watches) - set(self.backends.by_id):
            self._watches.pop(gone).stop()
            self._end(gone, lambda joined: joined.dismiss(NOT_SERVED))
        for connection_id, backend in self.backends.by_id.items():
            if connection_id not in self._watches:
                self._watches[connection_id] = Watch(backend, self._look, self._reactor)
            if not backend.is_up:  # it is new, or a realm to ask for may have come
                self._watches[connection_id].now()
        for connection_id, realms in lost.items():
            self._send_away(connection_id, realms)
        self._wake()

    def point(self, connection_id: str, config: Mapping[str, Any], *, same_life: bool) -> None:
        """A backend is elsewhere, or has a new life: sessions of its former one lead nowhere."""
        self.backends.point(connection_id, config)
        if not same_life:
            self._end(connection_id, lambda joined: joined.lose("the router has been started anew"))
        self._watches[connection_id].now()

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

    # -- clients ------------------------------------------------------------------------------------------------

    async def routed(self, realm: str) -> None:
        """Wait until the master has told of the realm, for `WAIT_S` at most.

        That there is none is only said by a worker that has had time to hear of it.
        """
        deadline_s = self._reactor.seconds() + WAIT_S
        while realm not in self.backends.realms and (left_s := deadline_s - self._reactor.seconds()) > 0:
            if self.backends.realms and self._reactor.seconds() - self._began_s >= NEW_S:
                return
            await self._change(left_s)

    async def join(self, principal: Principal, make: Callable[[Backend, Handshake], S]) -> tuple[S, Any]:
        """A session on whichever backend lets it in first, and what its `joined` has fired with.

        :param make: makes a session for one attempt.
        :raises NoBackend: none that was up within `WAIT_S` did, or none within `ANSWER_WITHIN_S`.
        """
        realm, role = principal.realm, str(principal.authrole)
        deadline_s = self._reactor.seconds() + WAIT_S
        answer_s = self._reactor.seconds() + ANSWER_WITHIN_S
        refused: Refused | None = None
        while not self._closed:
            failed = False
            for backend in self.backends.in_turn(realm, role):
                within_s = min(JOIN_WITHIN_S, answer_s - self._reactor.seconds())
                if not (backend.is_up and self.backends.leads_to(backend, realm, role)) or within_s <= 0:
                    continue  # it may have changed while others were tried
                session = self._connect(backend, make(backend, self._handshake(backend, principal)))
                config, joining = backend.config, self._joining_on.setdefault(backend.id, {})
                joining[session] = realm
                try:
                    welcome = await self._joined(session, within_s)
                except Refused as e:
                    refused = e
                except NotJoined:
                    failed = True
                    if backend.config is config:  # it has not been pointed elsewhere meanwhile
                        self._look_soon(backend.id)  # only that counts: a client may fail by what it has said itself
                else:
                    self._joined_on.setdefault(backend.id, {})[session] = realm
                    return session, welcome
                finally:
                    joining.pop(session, None)
            left_s = deadline_s - self._reactor.seconds()
            if left_s <= 0 or not self.backends.serving(realm, role):
                raise self._no_backend(realm, role, refused)
            if failed:  # whatever a look finds meanwhile: one client must not storm a router
                await deferLater(self._reactor, min(left_s, RETRY_PAUSE_S))
            else:
                await self._change(min(left_s, RETRY_PAUSE_S) if refused else left_s)
        raise NoBackend(UNAVAILABLE, "this proxy is about to end: try again")

    def ended(self, session: Session) -> None:
        """A joined session has ended."""
        self._joined_on.get(session.backend.id, {}).pop(session, None)

    def close(self) -> None:
        """This worker is about to end: nobody gets a session any more."""
        self._closed = True
        self._wake()

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

    def _change(self, within_s: float) -> Deferred[None]:
        """Fires when something has changed that may let a client in, or after ``within_s``."""
        changed: Deferred[None] = Deferred(lambda _: None)
        timer = self._reactor.callLater(within_s, changed.callback, None)
        self._waiting.append(changed)

        def over(result: Any) -> Any:
            if timer.active():
                timer.cancel()
            if changed in self._waiting:
                self._waiting.remove(changed)
            return result

        return changed.addBoth(over)

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for changed in waiting:
            changed.callback(None)

    # -- one connection -----------------------------------------------------------------------------------------

    def _handshake(self, backend: Backend, principal: Principal) -> Handshake:
        told = backend.config.get("router") or {}
        name = (told["node"], told["worker"]) if told else None
        router = RouterIdentity(told["node"], told["worker"], told["pubkey"]) if told.get("pubkey") else None
        return Handshake(self.node, principal, router, name)

    def _check_unproven(self, backend: Backend) -> None:
        """A router worker that the master knows to run the plain release proves nothing: it is taken by its name.

        :raises WrongRouter: that is not good enough here.
        """
        told = backend.config.get("router")
        if not told or told.get("pubkey"):
            return
        if UNPROVEN_ROUTERS.read(os.environ) == "refuse":
            raise WrongRouter(f"it runs the plain release, and {UNPROVEN_ROUTERS.variable} says to refuse it here")
        if backend.id not in self._unproven_told:
            self._unproven_told.add(backend.id)
            self._log.warn(
                "Backend {backend} runs without crossbar-cluster and cannot prove who it is: it is taken by its name. "
                "Install crossbar-cluster on node {node}, or set {variable}=refuse here",
                backend=backend.id,
                node=told["node"],
                variable=UNPROVEN_ROUTERS.variable,
            )

    def _connect(self, backend: Backend, session: S) -> S:
        """Give a session its connection to a backend."""
        from crossbar.worker.proxy import _create_transport_endpoint, _create_transport_factory

        config = backend.config["transport"]
        factory = _create_transport_factory(self._reactor, _create_transport(0, config), lambda: session)
        factory.noisy = False
        session.connect(_create_transport_endpoint(self._reactor, config["endpoint"]).connect(factory))
        return session

    async def _joined(self, session: Session, within_s: float) -> Any:
        """:raises NotJoined:"""
        timer = self._reactor.callLater(within_s, session.give_up)
        try:
            return await session.joined
        except CancelledError:  # the client has gone
            session.disconnect()
            raise
        finally:
            if timer.active():
                timer.cancel()

    # -- how backends are ---------------------------------------------------------------------------------------

    async def _look(self, backend: Backend) -> None:
        if not backend.routes:  # nothing to ask for; clients that are there are about to go
            return
        config = backend.config
        try:
            await self._try(backend)
        except CancelledError:
            raise
        except Exception as e:
            if not isinstance(e, NotJoined):  # a bug, a key that cannot be read, or a configuration without sense
                if backend.problem != repr(e):
                    self._log.failure("Backend {backend} cannot be looked at", backend=backend.id)
                e = NotJoined(repr(e))
            if backend.config is config:  # it has not been pointed elsewhere meanwhile
                self._failed(backend, e)
        else:
            if backend.config is config and backend.reached(self._reactor.seconds()):
                self._log.info("Backend {backend} is up", backend=backend.id)
        self._wake()

    async def _try(self, backend: Backend) -> None:
        """:raises NotJoined:"""
        self._check_unproven(backend)
        refused: Refused | None = None
        for realm, role in sorted(backend.routes):
            handshake = self._handshake(backend, Principal(realm, f"proxy-{self.node.authid}", role))
            session = self._connect(backend, BackendSession(backend, handshake, None, self._reactor))
            try:
                await self._joined(session, WITHIN_S)
                return
            except Refused as e:
                refused = e
        if refused:
            raise refused

    def _look_soon(self, connection_id: str) -> None:
        if connection_id in self._watches:
            self._watches[connection_id].now()

    def _failed(self, backend: Backend, error: NotJoined) -> None:
        if isinstance(error, WrongRouter) and str(error) != backend.problem:
            self._log.error("Backend {backend}: {problem}: no client is sent there", backend=backend.id, problem=error)
        due = isinstance(error, WrongRouter | Unreachable) and self._reports.due(backend.id, self._reactor.seconds())
        if due:
            tell_master(self._controller, "on_backend_unreachable", backend.id)  # the router may be elsewhere by now
        news = backend.failed(str(error))
        if isinstance(error, Refused):  # it is there: who is on it stays
            if news:
                self._log.info("Backend {backend} takes no new clients: {problem}", backend=backend.id, problem=error)
        elif news or backend.failures >= LOST_AFTER:
            if news:
                self._log.warn("Backend {backend} is lost: {problem}", backend=backend.id, problem=error)
            self._end(backend.id, lambda joined: joined.lose("the router does not answer any more"))

    def _end(self, connection_id: str, end: Callable[[Session], None]) -> None:
        for joined in list(self._joined_on.pop(connection_id, {})):
            try:
                end(joined)
            except Exception:  # a bug, which is to keep no other client from being told
                self._log.failure("A session on backend {backend} could not be ended", backend=connection_id)
        for joining in list(self._joining_on.pop(connection_id, {})):
            joining.give_up()  # whoever it is for tries the next one, and does not wait for this one's end


def pool_of(controller: Any) -> BackendPool:
    """The pool of a proxy worker. :param controller: the release's ``ProxyController``."""
    pool = vars(controller).get("_backend_pool")
    if pool is None:
        pool = vars(controller)["_backend_pool"] = BackendPool(controller, controller._reactor)
    assert isinstance(pool, BackendPool)
    return pool
