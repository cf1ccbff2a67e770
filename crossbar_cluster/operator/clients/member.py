"""One client that stays joined: Autobahn's `Component`, as its users have it, and what it is seen to do."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, Protocol

import crossbar_cluster.operator.client  # noqa: F401  # first: it tells Autobahn to use asyncio

# isort: split
from autobahn.asyncio.component import Component
from autobahn.wamp.exception import ApplicationError
from autobahn.websocket.util import parse_url

from crossbar_cluster.core.clients import Where

#: An address where nothing answers costs a client no more than this. Autobahn asks for a whole number.
CONNECT_TIMEOUT_S = 1
#: Before an attempt at a proxy that was tried since the client last joined there. The first one is made at once.
RETRY_S = 0.1
MOST_RETRY_S = 0.5
RETRY_GROWTH = 1.2
#: A client asks that often whether its proxy is alive, and takes it for lost without an answer.
PING_EVERY_S = 5
PONG_WITHIN_S = 10
CALLED = "wamp.session.count"
ANSWER_WITHIN_S = 5.0


class Heard(Protocol):
    """Who is told what a client does, by its number."""

    def joined(self, client: int, where: Where) -> None: ...

    def lost(self, client: int, reason: str) -> None: ...

    def failed(self, client: int, url: str, reason: str) -> None: ...

    def away(self, client: int, url: str, reason: str) -> None: ...

    def gave_up(self, client: int, reason: str) -> None: ...


@dataclass
class Attempt:
    """One connection of a client, from when it is tried to its end."""

    url: str
    protocol: Any = None  #: Autobahn's, once there is a TCP connection
    opened: bool = False  #: as a WebSocket
    joined: bool = False

    def problem(self, error: BaseException) -> tuple[bool, str]:
        """:returns: whether anybody has answered, and why there is no session."""
        if isinstance(error, ApplicationError):
            return True, f"{error.error}: {error.args[0]}" if error.args and error.args[0] else error.error
        if self.protocol is not None:
            if self.opened:
                return True, f"{self.ending()} before the client had joined"
            if self.protocol.wasOpenHandshakeTimeout or self.protocol.droppedByMe:  # an answer, but not the right one
                return True, str(self.protocol.wasNotCleanReason)
        return False, str(error) or type(error).__name__

    def ending(self) -> str:
        """How the WebSocket connection has ended."""
        code, reason = self.protocol.remoteCloseCode, self.protocol.remoteCloseReason
        if code is None:
            return str(self.protocol.wasNotCleanReason or "connection lost")
        return f"closed with {code} ({reason})" if reason else f"closed with {code}"


class _Observed(Component):  # type: ignore[misc]
    """A Component that lets its connections be seen: what it reports of a failed one does not tell why it failed."""

    attempt: Attempt

    def _connect_transport(self, loop: Any, transport: Any, session_factory: Any, done: Any) -> Any:
        attempt = self.attempt = Attempt(transport.url)
        connecting = super()._connect_transport(loop, transport, session_factory, done)

        def connected(future: asyncio.Future[Any]) -> None:
            if not future.cancelled() and future.exception() is None:
                attempt.protocol = future.result()[1]

        connecting.add_done_callback(connected)
        return connecting


class Member:
    """A client that joins, and joins again whenever it is lost, from now on.

    :param number: tells it from the others.
    :param urls: of proxies, in the order in which they are tried.
    """

    def __init__(self, number: int, urls: list[str], realm: str, heard: Heard) -> None:
        self.number = number
        self._heard = heard
        self._session: Any = None
        self._component = _Observed(_main, transports=[_transport(url) for url in urls], realm=realm)
        for event, listener in (
            ("connect", self._on_connect),
            ("join", self._on_join),
            ("leave", self._on_leave),
            ("connectfailure", self._on_failure),
        ):
            self._component.on(event, listener)
        self._component.start(asyncio.get_running_loop()).add_done_callback(self._on_end)

    async def call(self) -> bool | None:
        """Call a procedure of the router. :returns: whether it was answered; None: the session has ended meanwhile."""
        session = self._session
        try:
            async with asyncio.timeout(ANSWER_WITHIN_S):
                # a call is not cancelled with whoever stops waiting for it: see `crossbar_cluster.operator.client`
                await asyncio.shield(session.call(CALLED))
        except TimeoutError:
            return None if session is not self._session else False
        except ApplicationError as e:
            # who may not call has got an answer; a call that is canceled is lost with its router
            return None if session is not self._session or e.error == ApplicationError.CANCELED else True
        except Exception:
            return None  # the connection is lost
        return True

    async def leave(self) -> None:
        """Leave, if it has joined. It does not join again."""
        if self._session is not None and self._session.is_attached():
            await self._component.stop()

    def _on_connect(self, session: Any, protocol: Any) -> None:
        self._component.attempt.opened = True
        self._component.attempt.protocol = protocol

    def _on_join(self, session: Any, details: Any) -> None:
        self._component.attempt.joined = True
        self._session = session
        router = (details.authextra or {}).get("x_cb_node", "")
        self._heard.joined(self.number, Where(self._component.attempt.url, router))

    def _on_leave(self, session: Any, details: Any) -> None:
        attempt = self._component.attempt
        if attempt.joined:
            self._session = None
            lost = details.reason == details.REASON_TRANSPORT_LOST
            self._heard.lost(self.number, attempt.ending() if lost else f"{details.reason}: {details.message}")

    def _on_failure(self, component: Component, error: BaseException) -> None:
        attempt = self._component.attempt
        if not attempt.joined:
            answered, reason = attempt.problem(error)
            (self._heard.failed if answered else self._heard.away)(self.number, attempt.url, reason)

    def _on_end(self, future: asyncio.Future[None]) -> None:
        error = None if future.cancelled() else future.exception()
        self._heard.gave_up(self.number, str(error) if error else "its session was ended as if all were done")


def _main(loop: asyncio.AbstractEventLoop, session: Any) -> asyncio.Future[None]:
    """What a Component does with a session; it has done its work when this ends, which it never does.

    A Component without a main function never forgets an attempt, and waits longer and longer after each loss.
    """
    return loop.create_future()


def _transport(url: str) -> dict[str, Any]:
    secure, host, port, *_ = parse_url(url)
    return {
        "type": "websocket",
        "url": url,
        "endpoint": {"type": "tcp", "host": host, "port": port, "tls": secure, "timeout": CONNECT_TIMEOUT_S},
        "options": {"autoPingInterval": PING_EVERY_S, "autoPingTimeout": PONG_WITHIN_S},
        "max_retries": -1,
        "initial_retry_delay": RETRY_S,
        "max_retry_delay": MOST_RETRY_S,
        "retry_delay_growth": RETRY_GROWTH,
    }
