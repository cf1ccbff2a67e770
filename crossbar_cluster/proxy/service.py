"""Sessions that a proxy worker holds for itself on a realm: for dynamic authenticators, the REST bridge, the meta API.

One for each realm and role (`FollowingSession`), which is made when it is first used, on a backend that is up, and anew
when it has ended. That there is none is never remembered: a realm may come.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from autobahn.twisted.wamp import ApplicationSession
from autobahn.util import generate_serial_number
from autobahn.wamp.exception import ApplicationError
from autobahn.wamp.types import ComponentConfig
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.python.failure import Failure

from crossbar_cluster.core.backends import UNAVAILABLE, Backend
from crossbar_cluster.core.proof import METHOD
from crossbar_cluster.node.attempt import Attempt, TurnedAway
from crossbar_cluster.node.handshake import Handshake, NotJoined, Principal, Refused, Unreachable, WrongRouter
from crossbar_cluster.proxy.pool import BackendPool, NoBackend, pool_of


class ServiceSession(ApplicationSession):  # type: ignore[misc]
    """A session of the proxy itself. `joined` fires with it."""

    client = None  #: it is for no client

    def __init__(self, backend: Backend, handshake: Handshake, pool: BackendPool) -> None:
        super().__init__(ComponentConfig(handshake.principal.realm, {}))
        self.backend = backend
        self.joined: Deferred[ServiceSession] = Deferred()
        self._handshake = handshake
        self._pool = pool
        self._attempt = Attempt(self._fail)

    def connect(self, connecting: Deferred[Any]) -> None:
        """:param connecting: fires with the protocol when the connection stands; fails when it cannot be made."""
        self._attempt.begin(connecting)

    def onConnect(self) -> None:
        proxy = self._handshake.proxy
        realm = self._handshake.principal.realm
        self.join(realm, authmethods=[METHOD], authid=proxy.authid, authextra=self._handshake.authextra)

    def onChallenge(self, challenge: Any) -> str:
        try:
            return self._handshake.answer(challenge.method, challenge.extra)
        except WrongRouter as e:
            self._fail(e)
            raise

    def onWelcome(self, welcome: Any) -> str | None:
        try:
            self._handshake.check_welcome(welcome.authextra)
        except WrongRouter as e:
            self._fail(e)
            return "wamp.error.authentication_failed"
        return None

    def onJoin(self, details: Any) -> None:
        self._attempt.joined()
        if not self.joined.called:
            self.joined.callback(self)

    def onLeave(self, details: Any) -> None:
        self._fail(Refused(details.reason, details.message))
        if self.is_connected():
            self.disconnect()

    def onDisconnect(self) -> None:
        self._fail(TurnedAway("the connection was lost while joining"))
        self._pool.ended(self)
        super().onDisconnect()  # whoever waits for an answer is told that there is none

    @property
    def is_busy(self) -> bool:
        """Whether somebody waits for an answer."""
        return bool(self._call_reqs or self._publish_reqs or self._register_reqs or self._subscribe_reqs)

    def onUserError(self, fail: Any, msg: str) -> None:
        """What goes wrong while joining is told by `joined`."""

    def _fail(self, why: NotJoined) -> None:
        if not self.joined.called:
            self.joined.errback(why)

    def give_up(self) -> None:
        """Nobody waits for it to join any more."""
        self._fail(Unreachable("no answer in time"))
        self.lose("")

    def disconnect(self) -> None:
        """Close its connection, at whatever stage it is: the base class knows only one that can carry messages."""
        if self.is_connected():
            super().disconnect()
        else:
            self._attempt.drop()

    def lose(self, why: str) -> None:
        """Its router is known to be gone."""
        self._attempt.drop()

    def dismiss(self, why: str) -> None:
        """It is to end, after what it has sent."""
        self.disconnect()


class FollowingSession:
    """What stands for a service session: each use of it goes to one that lives, made anew if need be.

    Those who use service sessions (the HTTP bridge among them) keep theirs for ever.
    """

    def __init__(self, controller: Any, realm: str, role: str) -> None:
        self.realm = self._realm = realm
        self.authrole = self._authrole = role
        self._log = controller.log
        self._pool = pool_of(controller)
        self._session: ServiceSession | None = None
        self._making: Deferred[None] | None = None

    @property
    def session_id(self) -> int | None:
        """Of the session that it stands for now."""
        return self._session._session_id if self._session is not None else None

    _session_id = session_id

    @property
    def authid(self) -> str | None:
        return self._session._authid if self._session is not None else None

    def is_attached(self) -> bool:
        """As far as its users are concerned."""
        return True

    def call(self, *args: Any, **kwargs: Any) -> Deferred[Any]:
        """As of a session. Fails with ``wamp.error.unavailable`` when no backend can be reached."""
        return self._use(lambda session: session.call(*args, **kwargs))

    def publish(self, *args: Any, **kwargs: Any) -> Deferred[Any]:
        """As `call`."""
        return self._use(lambda session: session.publish(*args, **kwargs))

    def subscribe(self, *args: Any, **kwargs: Any) -> Deferred[Any]:
        """As `call`. It ends with the session that it is made on."""
        return self._use(lambda session: session.subscribe(*args, **kwargs))

    def register(self, *args: Any, **kwargs: Any) -> Deferred[Any]:
        """As `subscribe`."""
        return self._use(lambda session: session.register(*args, **kwargs))

    def _use(self, what: Callable[[ServiceSession], Any]) -> Deferred[Any]:
        return Deferred.fromCoroutine(self._living()).addCallback(what)

    async def _living(self) -> ServiceSession:
        if self._session is not None and self._session.is_attached():
            return self._session
        making = self._making
        if making is None:
            making = self._making = Deferred.fromCoroutine(self._make())
            making.addBoth(self._made)
        await _end_of(making)
        if self._session is None or not self._session.is_attached():
            raise ApplicationError(UNAVAILABLE, f"no router of realm {self.realm} can be reached now: try again")
        return self._session

    async def _make(self) -> None:
        principal = Principal(self.realm, f"proxy-{generate_serial_number()}", self.authrole)
        try:
            self._session, _ = await self._pool.join(principal, self._new)
        except NoBackend as e:
            self._log.warn(
                "No service session on realm {realm} with role {role}: {why}",
                realm=self.realm,
                role=self.authrole,
                why=e,
            )

    def _made(self, result: Any) -> None:
        self._making = None
        if isinstance(result, Failure) and not isinstance(result.value, CancelledError):
            self._log.failure(
                "A service session on realm {realm} with role {role} could not be made",
                failure=result,
                realm=self.realm,
                role=self.authrole,
            )

    def _new(self, backend: Backend, handshake: Handshake) -> ServiceSession:
        return ServiceSession(backend, handshake, self._pool)


def _end_of(work: Deferred[Any]) -> Deferred[None]:
    """Fires when ``work`` is over: any number can wait for it."""
    over: Deferred[None] = Deferred()

    def pass_on(result: Any) -> Any:
        over.callback(None)
        return result

    work.addBoth(pass_on)
    return over


def service_session(controller: Any, realm: str, role: str | None) -> Deferred[FollowingSession] | None:
    """A service session of a proxy worker; None when the release has to make it: its backends are not a master's."""
    if not pool_of(controller).serves(realm, role):
        return None
    sessions = vars(controller).setdefault("_cluster_service_sessions", {})
    if (realm, role) not in sessions:
        sessions[realm, role] = FollowingSession(controller, realm, str(role))
    return succeed(sessions[realm, role])
