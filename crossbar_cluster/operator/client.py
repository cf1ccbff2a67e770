"""A WAMP client session as an awaitable, for commands and for the lab: it joins, or an exception says why it did not.

Owns the session and its connection; which address to connect to, and from where, is the caller's.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import txaio

txaio.use_asyncio()

# bjdata, built for NumPy 1, prints a page about NumPy 2 when it is first imported; it is harmless and not ours
with contextlib.redirect_stderr(io.StringIO()):
    import autobahn.wamp.serializer  # noqa: F401

from autobahn.asyncio.wamp import ApplicationSession  # noqa: E402
from autobahn.asyncio.websocket import WampWebSocketClientFactory  # noqa: E402
from autobahn.wamp import cryptosign  # noqa: E402
from autobahn.wamp.serializer import CBORSerializer as CBORSerializer  # noqa: E402
from autobahn.wamp.serializer import JsonSerializer as JsonSerializer  # noqa: E402
from autobahn.wamp.types import Challenge, CloseDetails, ComponentConfig, SessionDetails  # noqa: E402

# what goes wrong with a connection is told by exceptions; Autobahn would print it, with tracebacks, as well
logging.getLogger("autobahn").setLevel(logging.CRITICAL + 1)

#: Opens a connection for the protocol that it is given the factory of.
Connect = Callable[[Callable[[], asyncio.BaseProtocol]], Awaitable[tuple[asyncio.BaseTransport, Any]]]


class JoinFailed(ConnectionError):
    """A client could not join: no connection, no answer in time, or an ABORT. Says which.

    :ivar refusal: URI of the ABORT; None: there was none.
    """

    def __init__(self, message: str, refusal: str | None = None) -> None:
        super().__init__(message)
        self.refusal = refusal


class Client(ApplicationSession):  # type: ignore[misc]
    """A session that tells by futures when it has joined and when it is gone."""

    def __init__(self, config: ComponentConfig) -> None:
        super().__init__(config)
        loop = asyncio.get_running_loop()
        self.joined: asyncio.Future[SessionDetails] = loop.create_future()
        self.gone: asyncio.Future[str] = loop.create_future()
        self.joined.add_done_callback(_seen)

    def onConnect(self) -> None:
        if not self.is_connected():
            return  # given up between the handshake and this call
        key, realm, authid, authrole, authextra = (
            self.config.extra[k] for k in ("key", "realm", "authid", "authrole", "authextra")
        )
        if key is None:
            self.join(realm, authmethods=["anonymous"])
        else:
            extra = {"pubkey": key.public_key(), **authextra}
            self.join(realm, authmethods=["cryptosign"], authid=authid, authrole=authrole, authextra=extra)

    def onChallenge(self, challenge: Challenge) -> Any:
        return self.config.extra["key"].sign_challenge(challenge)

    def onJoin(self, details: SessionDetails) -> None:
        self.joined.set_result(details)

    def onLeave(self, details: CloseDetails) -> None:
        if not self.joined.done():
            self.joined.set_exception(JoinFailed(f"{details.reason}: {details.message}", details.reason))
        self.disconnect()

    def onDisconnect(self) -> None:
        if not self.joined.done():
            self.joined.set_exception(JoinFailed("the connection was lost before the session had joined"))
        if not self.gone.done():
            self.gone.set_result("lost")

    def call(self, procedure: str, *args: Any, **kwargs: Any) -> asyncio.Future[Any]:
        """Call a procedure. Whoever stops waiting for the answer does not cancel the call.

        A cancelled call is answered by the released router a second time when its callee ends, and Autobahn drops a
        session that gets an answer to nothing.
        """
        return asyncio.shield(super().call(procedure, *args, **kwargs))

    def onUserError(self, fail: Any, msg: str) -> None:
        """Errors reach the awaiting caller; they are not printed a second time."""

    async def close(self, timeout_s: float = 3.0) -> None:
        """Leave, and wait until the connection is closed, for ``timeout_s`` at most."""
        if self.is_attached():
            with contextlib.suppress(Exception):
                self.leave()
                async with asyncio.timeout(timeout_s):
                    await asyncio.shield(self.gone)
        elif self.is_connected():
            self.disconnect()


def _seen(future: asyncio.Future[Any]) -> None:
    """Mark a future's exception as seen: nobody has to wait for a join that was given up."""
    if not future.cancelled():
        future.exception()


async def open_session(
    url: str,
    connect: Connect,
    realm: str | None,
    *,
    where: str,
    key: cryptosign.CryptosignKey | None = None,
    authid: str | None = None,
    authrole: str | None = None,
    authextra: dict[str, Any] | None = None,
    timeout_s: float = 5.0,
) -> Client:
    """Join ``realm`` over WebSocket and CBOR at ``url``, over the connection that ``connect`` opens.

    :param where: the other end, as messages name it.
    :param key: authenticate by WAMP-cryptosign with this key; without one, anonymously.
    :raises JoinFailed: no WELCOME within ``timeout_s``.
    """
    extra = {"key": key, "realm": realm, "authid": authid, "authrole": authrole, "authextra": authextra or {}}
    client = Client(ComponentConfig(realm, extra))
    factory = WampWebSocketClientFactory(lambda: client, url=url, serializers=[CBORSerializer()])
    transport: Any = None
    try:
        async with asyncio.timeout(timeout_s):
            transport, protocol = await connect(factory)
            # a connection that ends before it is a WebSocket is not told to the session
            await asyncio.wait({client.joined, protocol.is_closed}, return_when=asyncio.FIRST_COMPLETED)
            if not client.joined.done():
                client.joined.cancel()
                raise JoinFailed(f"{where}: {protocol.wasNotCleanReason or 'the connection was closed'}")
            client.joined.result()
    except TimeoutError:
        if transport is not None:
            transport.abort()
        client.joined.cancel()
        raise JoinFailed(f"no answer from {where} within {timeout_s:g} s") from None
    except OSError as e:
        if transport is not None:
            transport.abort()
        raise e if isinstance(e, JoinFailed) else JoinFailed(f"{where}: {e}") from e
    except BaseException:
        if transport is not None:
            transport.abort()
        raise
    return client
