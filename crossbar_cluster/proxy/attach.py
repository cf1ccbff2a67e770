"""Attaches a client that the proxy has authenticated to a backend.

Stands where the release connects a client to the one backend whose turn it is. Ends with a WELCOME, which the release
sends, or with the client turned away, which is done here.
"""

from __future__ import annotations

from typing import Any

from autobahn.wamp.exception import TransportLost
from autobahn.wamp.message import Cancel, Result
from twisted.internet.defer import CancelledError, Deferred, succeed

from crossbar_cluster.core.backends import UNAVAILABLE, Backend
from crossbar_cluster.core.limits import MOST_UNSENT_BYTES, SessionLimits
from crossbar_cluster.core.metrics import JOIN_DURATION, JOINS, LIMITS_MET, METRICS, SESSIONS_LOST
from crossbar_cluster.core.news import Seldom
from crossbar_cluster.node.backend_session import BackendSession
from crossbar_cluster.node.backlog import guard_backlog
from crossbar_cluster.node.handshake import Handshake, Principal
from crossbar_cluster.proxy.delivery import Undeliverable, deliver, refusal, substitute
from crossbar_cluster.proxy.frontend import (
    POLICY_VIOLATION,
    CallsInFlight,
    drop_within,
    limits_of,
    lose,
    turn_away,
)
from crossbar_cluster.proxy.pool import BackendPool, NoBackend, pool_of

PROTOCOL_VIOLATION = "wamp.error.protocol_violation"
#: At most one log line per client and kind of message in this time.
DROPPED_EACH_S = 10.0
#: On its way to the router of one client, who is not read while anything waits there: the rest of a read.
ROUTER_UNSENT_BYTES = 64 * 2**20
#: Who has taken leave has so long to close the connection.
CLOSE_WITHIN_S = 10.0


class AttachedClient:
    """A client: the release's frontend session, and what is in flight for it.

    :param frontend: the release's ``ProxyFrontendSession``.
    """

    def __init__(self, frontend: Any, pool: BackendPool, reactor: Any) -> None:
        self._frontend = frontend
        self._pool = pool
        self._reactor = reactor
        self._calls = CallsInFlight()
        self._dropped = Seldom(DROPPED_EACH_S)
        self._attaching: Deferred[None] | None = None
        self._limits = limits_of(frontend.transport)

    @property
    def session_limits(self) -> SessionLimits | None:
        """What it may have on its router; None: the defaults."""
        return self._limits.session

    def attach(self, principal: Principal) -> Deferred[Joined]:
        """:returns: fires once the client has a session; never, when it has been turned away or has left."""
        joined: Deferred[Joined] = Deferred()
        self._attaching = Deferred.fromCoroutine(self._attach(principal, joined))
        self._attaching.addErrback(self._failed)
        return joined

    async def _attach(self, principal: Principal, joined: Deferred[Joined]) -> None:
        began_s = self._reactor.seconds()
        try:
            session, welcome = await self._pool.join(principal, self._session)
        except NoBackend as e:
            METRICS.count(JOINS, "unavailable" if e.reason == UNAVAILABLE else "refused")
            self._turn_away(principal, e)
            return
        self._take(session, welcome, principal)
        METRICS.count(JOINS, "joined")
        METRICS.observe(JOIN_DURATION, self._reactor.seconds() - began_s)
        joined.callback(Joined(session, welcome))

    def _session(self, backend: Backend, handshake: Handshake) -> BackendSession:
        return BackendSession(backend, handshake, self, self._reactor)

    def _take(self, session: BackendSession, welcome: Any, principal: Principal) -> None:
        frontend = self._frontend
        self._bound(session)
        frontend._controller._backends_by_frontend[frontend] = session
        frontend._backend_session, frontend._session_id = session, welcome.session
        frontend._realm, frontend._authid, frontend._authrole = welcome.realm, welcome.authid, welcome.authrole
        frontend._authextra = welcome.authextra
        frontend._authmethod, frontend._authprovider = principal.authmethod, principal.authprovider
        frontend.log.info(
            "proxy backend session joined: realm {realm}, authid {authid}, role {role}, session {session} on {backend}",
            realm=welcome.realm,
            authid=welcome.authid,
            role=welcome.authrole,
            session=welcome.session,
            backend=session.backend.id,
        )

    def _bound(self, session: BackendSession) -> None:
        """Bound what is kept for the client, on both of its connections."""
        client = self._frontend.transport
        if not hasattr(client, "transport"):  # HTTP long-polling
            return
        limits = self._limits.connection
        guard_backlog(client.transport, limits.unsent_bytes, self._does_not_read, most_bytes=MOST_UNSENT_BYTES)
        reading = getattr(client, "reading", None)
        if reading is not None:
            reading.limit(limits.messages_per_s)
            leg, too_far_behind = session.transport.transport, session.too_far_behind
            guard_backlog(leg, ROUTER_UNSENT_BYTES, too_far_behind, reading.hold, reading.release)

    def _does_not_read(self, unsent: int) -> None:
        frontend = self._frontend
        METRICS.count(LIMITS_MET, "unsent_bytes")
        frontend.log.warn(
            "Session {session} on realm {realm}, from {peer}, is closed: it does not read, or too slowly: "
            "{unsent} bytes wait for it",
            session=frontend._session_id,
            realm=frontend._realm,
            peer=frontend.transport.peer,
            unsent=unsent,
        )
        # not from within a write: the rest of what is being sent comes first
        self._reactor.callLater(0, self._close, f"it does not read, or too slowly: {unsent} bytes wait for it")

    def _close(self, why: str) -> None:
        transport = self._frontend.transport
        if transport is not None:
            lose(transport, self._calls, why, POLICY_VIOLATION)

    def _turn_away(self, principal: Principal, why: NoBackend) -> None:
        transport = self._frontend.transport
        self._frontend.log.info(
            "A client of realm {realm} from {peer} is turned away: {why}",
            realm=principal.realm,
            peer=transport.peer,
            why=why,
        )
        turn_away(transport, why.reason, str(why))

    def _failed(self, failure: Any) -> None:
        METRICS.count(JOINS, "left" if failure.check(CancelledError) else "failed")
        if not failure.check(CancelledError):
            self._frontend.log.failure("A client could not be attached", failure=failure)
            if self._frontend.transport is not None:
                turn_away(self._frontend.transport, UNAVAILABLE, "internal error")

    def left(self) -> None:
        """The client's connection has ended."""
        if self._attaching is not None:
            self._attaching.cancel()

    def send(self, message: Any) -> None:
        """A message of the client goes to its router."""
        router = self._router
        if router is not None and self._pass_on(message, to=router, back=self._frontend.transport):
            self._calls.sent(message)

    @property
    def _router(self) -> Any:
        """The connection to it; None while that is being closed."""
        session = self._frontend._backend_session
        return session.transport if session is not None else None

    def _pass_on(self, message: Any, *, to: Any, back: Any) -> bool:
        """:param back: to whoever has sent it. :returns: whether it has been delivered; if not, who waits is told."""
        try:
            deliver(to, message)
        except TransportLost:  # its end is about to be told
            return False
        except Undeliverable as e:
            if (error := refusal(message, e)) is not None:
                self._tell(back, error)
            elif (error := substitute(message, e)) is not None:
                self._tell(to, error)
            else:
                self._log_dropped(message, e, to)
            return False
        return True

    def _tell(self, transport: Any, error: Any) -> None:
        try:
            if transport is not None:
                deliver(transport, error)
                if transport is self._router:
                    self._calls.sent(error)  # in the client's place: its call is over
        except TransportLost:
            return
        except Undeliverable as e:  # its limit is next to nothing
            self._log_dropped(error, e, transport)

    def _log_dropped(self, message: Any, why: Undeliverable, transport: Any) -> None:
        frontend, kind = self._frontend, type(message).__name__.upper()
        to = "client" if transport is frontend.transport else "router"
        if self._dropped.due((kind, to), self._reactor.seconds()):
            frontend.log.warn(
                "Session {session} on realm {realm}: {kind} to the {to} is dropped, maybe not the only one: {why}",
                session=frontend._session_id,
                realm=frontend._realm,
                kind=kind,
                to=to,
                why=why,
            )

    @property
    def is_busy(self) -> bool:
        """Whether a call of it, or to it, or another request of it is under way."""
        return self._calls.any

    @property
    def is_gone(self) -> bool:
        """Whether its connection has ended."""
        return self._frontend.transport is None

    # -- what its backend session tells -------------------------------------------------------------------------

    def forward(self, message: Any) -> None:
        """A message for the client."""
        client = self._frontend.transport
        if client is None or not self._calls.answered(message):
            return
        delivered = self._pass_on(message, to=client, back=self._router)
        if not delivered and type(message) is Result and message.progress:
            self._calls.end(message.request)  # for the client, which has got an error
            self.send(Cancel(message.request, Cancel.KILLNOWAIT))

    def ended(self, session: BackendSession, why: str | None) -> None:
        """Its session has ended; unless it has left by itself, it is told to come back."""
        frontend = self._frontend
        self._pool.ended(session)
        if why is not None:
            METRICS.count(SESSIONS_LOST)
            frontend._controller._backends_by_frontend.pop(frontend, None)
            frontend._backend_session = None
            if frontend.transport is not None:
                lose(frontend.transport, self._calls, f"{session.backend.id}: {why}")


class Joined:
    """A joined session as the release takes one: it asks to be told of the join, which has happened."""

    def __init__(self, session: BackendSession, welcome: Any) -> None:
        self._session = session
        self._welcome = welcome

    def on(self, event: str, handler: Any) -> None:
        """Tell of what has happened already."""
        if event == "join":
            handler(self._session, self._welcome)


def attach_client(frontend: Any, accepted: Any) -> Deferred[Joined] | None:
    """Attach the client of a frontend session.

    :param frontend: the release's ``ProxyFrontendSession``.
    :param accepted: the ``Accept`` of its authentication.
    :returns: see `AttachedClient.attach`; None when the release has to do it: its backends are not a master's.
    """
    pool = pool_of(frontend._controller)
    # Without a route, as while a realm is being stopped or started, the client waits here: the release would fail.
    if pool.is_left_to_release(accepted.realm, accepted.authrole):
        return None
    if frontend._client is not None:  # it has said HELLO, or AUTHENTICATE, twice: one connection, one session
        turn_away(frontend.transport, PROTOCOL_VIOLATION, "this connection has a session, or is about to get one")
        frontend.transport.transport.loseConnection()
        return Deferred()
    _remember_in_cookie(frontend.transport, accepted)
    authextra = dict(accepted.authextra or {})
    if frontend.transport.transport_details:
        authextra["transport"] = frontend.transport.transport_details.marshal()
    client = frontend._client = AttachedClient(frontend, pool, frontend._controller._reactor)
    who = (accepted.realm, accepted.authid, accepted.authrole, accepted.authmethod, accepted.authprovider)
    return client.attach(Principal(*who, authextra, client.session_limits))


def left_by_itself(frontend: Any) -> None:
    """A client has taken leave, and been answered: its connection is of no further use."""
    if frontend.transport is not None:
        drop_within(frontend.transport, CLOSE_WITHIN_S)


def when_routed(frontend: Any, realm: str | None) -> Deferred[bool]:
    """Wait until a client's realm may be known. :returns: fires with whether the client is still there."""
    pool = pool_of(frontend._controller)
    waiting: Deferred[Any] = Deferred.fromCoroutine(pool.routed(realm)) if realm else succeed(None)
    return waiting.addCallback(lambda _: frontend.transport is not None)


def _remember_in_cookie(transport: Any, accepted: Any) -> None:
    """A client that is tracked by a cookie need not authenticate again, as in the release."""
    store = getattr(transport.factory, "_cookiestore", None)
    if store and hasattr(transport, "_cbtid"):
        store.setAuth(
            transport._cbtid,
            accepted.authid,
            accepted.authrole,
            accepted.authmethod,
            accepted.authextra,
            accepted.realm,
        )
