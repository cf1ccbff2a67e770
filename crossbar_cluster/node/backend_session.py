"""A client's session on a router worker, or a trial of one: what stands between a connection and its client.

Made for one connection. It says HELLO as soon as the connection stands; `joined` tells what comes of that. From then on
every message goes to the client as it is. Its work ends with the connection.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Protocol

from autobahn.wamp.exception import TransportLost
from autobahn.wamp.interfaces import ITransportHandler
from autobahn.wamp.message import Abort, Authenticate, Challenge, Goodbye, Hello, Welcome
from autobahn.wamp.role import DEFAULT_CLIENT_ROLES
from twisted.internet.defer import Deferred

from crossbar_cluster.core.proof import METHOD
from crossbar_cluster.core.router import RLINK_ROLE
from crossbar_cluster.node.attempt import Attempt, TurnedAway
from crossbar_cluster.node.handshake import Handshake, NotJoined, Refused, Unreachable, WrongRouter

DEFAULT_REASON = "wamp.close.normal"
#: How long a router may take to let a client go.
LEAVE_WITHIN_S = 5.0
#: And how long after that to read what is still on its way to it.
READ_WITHIN_S = 30.0


class Client(Protocol):
    """Who a session is for."""

    @property
    def is_busy(self) -> bool:
        """Whether something is in flight for it."""

    def forward(self, message: Any) -> None:
        """A message for the client."""

    def ended(self, session: BackendSession, why: str | None) -> None:
        """The joined session has ended. :param why: for people; None: the client has left by itself."""


class Counterpart(Protocol):
    """The router worker that a session is on."""

    heard_s: float  #: when it last sent anything


class BackendSession:
    """One session. Used by the release like its own: it reads `_session_id` and `_transport`, and calls `leave`.

    :param backend: a `Counterpart`.
    :param client: None: a trial, which only sees who answers, and whether that is the router worker that is meant.
    """

    _authid = None  # Autobahn's WebSocket transport reads it for its log

    def __init__(self, backend: Any, handshake: Handshake, client: Client | None, clock: Any) -> None:
        self.backend = backend
        #: fires with the WELCOME, a trial with the CHALLENGE that has been found right; fails with `NotJoined`
        self.joined: Deferred[Any] = Deferred()
        #: of a link, which is read in other turns than clients (`node.pacing`), whatever their roles are called
        self._authrole = RLINK_ROLE if handshake.linked_worker is not None else None
        self._handshake = handshake
        self._client = client
        self._clock = clock
        self._attempt = Attempt(self._fail)
        self._transport: Any = None
        self._session_id: int | None = None
        self._leaving = False
        self._leave_timer: Any = None

    @property
    def transport(self) -> Any:
        return self._transport

    @property
    def client(self) -> Client | None:
        """Who it is for, until its end."""
        return self._client

    @property
    def is_busy(self) -> bool:
        """Whether something is in flight for its client."""
        return self._client is not None and self._client.is_busy

    def connect(self, connecting: Deferred[Any]) -> None:
        """:param connecting: fires with the protocol when the connection stands; fails when it cannot be made."""
        self._attempt.begin(connecting)

    # -- what its connection tells ------------------------------------------------------------------------------

    def onOpen(self, transport: Any) -> None:
        self._transport = transport
        handshake = self._handshake
        if self._client is None and handshake.router is None:
            self._succeed(None)  # a trial of a router that proves nothing: it answers, and more cannot be seen
            self.disconnect()
            return
        transport.send(
            Hello(
                handshake.principal.realm,
                DEFAULT_CLIENT_ROLES,
                authmethods=[METHOD],
                authid=handshake.proxy.authid,
                authextra=handshake.authextra,
            )
        )

    def onMessage(self, message: Any) -> None:
        if self._session_id is None:
            try:
                self._shake_hands(message)
            except WrongRouter as e:
                self._fail(e)
            return
        self.backend.heard_s = self._clock.seconds()
        if type(message) is Goodbye:
            self._goodbye(message)
        elif self._client is not None:
            self._client.forward(message)

    def onClose(self, wasClean: bool) -> None:
        self._transport = None
        if self._leave_timer is not None and self._leave_timer.active():
            self._leave_timer.cancel()
        self._fail(TurnedAway("the connection was lost while joining"))
        self._end("the connection was lost")

    # -- the handshake ------------------------------------------------------------------------------------------

    def _shake_hands(self, message: Any) -> None:
        if isinstance(message, Challenge):
            signature = self._handshake.answer(message.method, message.extra)
            if self._client is None:
                self._succeed(message)
                self.disconnect()
            else:
                self._transport.send(Authenticate(signature))
        elif isinstance(message, Welcome):
            self._handshake.check_welcome(message.authextra)
            self._session_id = message.session
            if self._handshake.linked_worker is None:
                self._attempt.joined()
            self._succeed(message)
        elif isinstance(message, Abort):
            self._fail(Refused(message.reason, message.message))
        else:
            raise WrongRouter(f"whoever answers sends a {type(message).__name__} before a WELCOME")

    def _succeed(self, message: Any) -> None:
        if not self.joined.called:
            self.joined.callback(message)

    def _fail(self, why: NotJoined) -> None:
        if not self.joined.called:
            self.joined.errback(why)
            self.disconnect()

    def give_up(self) -> None:
        """Nobody waits for it any more."""
        self._fail(Unreachable("no answer in time"))

    # -- its end ------------------------------------------------------------------------------------------------

    def leave(self, reason: str | None = None, message: str | None = None) -> None:
        """Take leave of the router, for the client if it is still there."""
        self._leaving = True
        if self._session_id is None or self._transport is None:
            self.disconnect()
            return
        if self._leave_timer is None:
            self._leave_timer = self._clock.callLater(LEAVE_WITHIN_S, self._leave_unasked)
        try:
            self._transport.send(Goodbye(reason or DEFAULT_REASON, message))
        except TransportLost:
            return
        except Exception:  # of its own for each serializer: this one cannot say what the client has said
            self._transport.send(Goodbye(DEFAULT_REASON))

    def _leave_unasked(self) -> None:
        """The router does not take leave. It may only be slow, and have much to read before that."""
        self._leave_timer = self._clock.callLater(READ_WITHIN_S, self._transport.abort)
        with suppress(TransportLost):
            self._transport.close()

    def lose(self, why: str) -> None:
        """Its router is known to be gone, whatever the connection looks like: tell the client, and close it."""
        self._end(why)
        if self._transport is not None:
            self._transport.abort()

    def too_far_behind(self, unsent: int) -> None:
        """Its router does not read. :param unsent: bytes that wait for it."""
        self._clock.callLater(0, self.lose, f"the router does not read: {unsent} bytes wait for it")

    def dismiss(self, why: str) -> None:
        """Its router is well, and it is to end all the same: tell the client, and leave after what it has sent."""
        self._end(why)
        self.leave()

    def disconnect(self) -> None:
        """Close the connection, at whatever stage it is."""
        if self._session_id is not None and self._transport is not None:
            self._transport.close()
        else:
            self._attempt.drop()

    def _goodbye(self, message: Goodbye) -> None:
        if not self._leaving:
            with suppress(TransportLost):
                self._transport.send(Goodbye())
        self._end(f"the router has closed the session: {message.reason}")
        self.disconnect()

    def _end(self, why: str) -> None:
        client, self._client = self._client, None
        if client is not None and self._session_id is not None:
            client.ended(self, None if self._leaving else why)


ITransportHandler.register(BackendSession)
