"""WAMP clients of the lab: a session as an awaitable, and a caller that notices every gap in service."""

from __future__ import annotations

import asyncio
import contextlib
import io
import logging
import time
from dataclasses import dataclass, field
from typing import Any

import txaio

txaio.use_asyncio()

# bjdata, built for NumPy 1, prints a page about NumPy 2 when it is first imported; it is harmless and not ours
with contextlib.redirect_stderr(io.StringIO()):
    import autobahn.wamp.serializer  # noqa: F401

from autobahn.asyncio.wamp import ApplicationSession  # noqa: E402
from autobahn.asyncio.websocket import WampWebSocketClientFactory  # noqa: E402
from autobahn.wamp import cryptosign  # noqa: E402
from autobahn.wamp.exception import ApplicationError  # noqa: E402
from autobahn.wamp.serializer import CBORSerializer  # noqa: E402
from autobahn.wamp.types import Challenge, CloseDetails, ComponentConfig, SessionDetails  # noqa: E402

from crossbar_cluster.lab.host import Host  # noqa: E402

# what goes wrong with a connection is told by exceptions; Autobahn would print it, with tracebacks, as well
logging.getLogger("autobahn").setLevel(logging.CRITICAL + 1)


class JoinFailed(ConnectionError):
    """A client could not join: no connection, no answer in time, or an ABORT. Says which."""


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
            self.joined.set_exception(JoinFailed(f"{details.reason}: {details.message}"))
        self.disconnect()

    def onDisconnect(self) -> None:
        if not self.joined.done():
            self.joined.set_exception(JoinFailed("the connection was lost before the session had joined"))
        if not self.gone.done():
            self.gone.set_result("lost")

    def onUserError(self, fail: Any, msg: str) -> None:
        """Errors reach the awaiting test; they are not printed a second time."""

    async def close(self) -> None:
        """Leave, and wait until the connection is closed."""
        if self.is_attached():
            with contextlib.suppress(Exception):
                self.leave()
                async with asyncio.timeout(3.0):
                    await asyncio.shield(self.gone)
        elif self.is_connected():
            self.disconnect()


def in_url(address: str) -> str:
    """``address`` as it stands in a URL: an IPv6 address in brackets."""
    return f"[{address}]" if ":" in address else address


def _seen(future: asyncio.Future[Any]) -> None:
    """Mark a future's exception as seen: nobody has to wait for a join that was given up."""
    if not future.cancelled():
        future.exception()


async def join(
    host: Host,
    address: str,
    port: int,
    realm: str | None,
    *,
    key: cryptosign.CryptosignKey | None = None,
    authid: str | None = None,
    authrole: str | None = None,
    authextra: dict[str, Any] | None = None,
    timeout_s: float = 5.0,
) -> Client:
    """Join ``realm`` from ``host`` over WebSocket and CBOR at ``ws://address:port/ws``.

    :param key: authenticate by WAMP-cryptosign with this key; without one, anonymously.
    :raises JoinFailed: no WELCOME within ``timeout_s``.
    """
    extra = {"key": key, "realm": realm, "authid": authid, "authrole": authrole, "authextra": authextra or {}}
    client = Client(ComponentConfig(realm, extra))
    where = in_url(address)
    factory = WampWebSocketClientFactory(lambda: client, url=f"ws://{where}:{port}/ws", serializers=[CBORSerializer()])
    transport = None
    try:
        async with asyncio.timeout(timeout_s):
            sock = await host.connect(address, port)
            transport, _ = await asyncio.get_running_loop().create_connection(factory, sock=sock)
            await asyncio.shield(client.joined)
    except TimeoutError:
        if transport is not None:
            transport.abort()
        client.joined.cancel()
        raise JoinFailed(f"no answer from {where}:{port} within {timeout_s:g} s") from None
    except OSError as e:
        if transport is not None:
            transport.abort()
        raise e if isinstance(e, JoinFailed) else JoinFailed(f"{where}:{port}: {e}") from e
    except BaseException:
        if transport is not None:
            transport.abort()
        raise
    return client


@dataclass
class Caller:
    """A client that calls through a proxy without pause, and joins again whenever it is thrown out.

    It has no retry policy of note on purpose: a new attempt every ``retry_s``, a few at a time, so that what it
    measures is the cluster and not the client's backoff, nor a proxy drowned in attempts. The first one served wins.
    """

    host: Host
    address: str
    port: int
    realm: str
    retry_s: float = 0.1
    attempts: int = 3
    attempt_timeout_s: float = 2.0
    served_at: list[float] = field(default_factory=list)  #: monotonic time of each answered call, seconds
    failures: int = 0  #: attempts and calls that were not answered
    last_error: str = ""

    def __post_init__(self) -> None:
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])  # unlike awaiting the task, it does not hide that the caller is cancelled

    async def served(self, since: float, timeout_s: float) -> float | None:
        """Monotonic time of the first call answered after ``since``; None when none was within ``timeout_s``."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if self.served_at and self.served_at[-1] > since:
                return next(at for at in self.served_at if at > since)
            await asyncio.sleep(0.01)
        return None

    async def _run(self) -> None:
        while True:
            client = await self._join()
            try:
                await self._call_until_lost(client)
            finally:
                await asyncio.shield(client.close())

    async def _join(self) -> Client:
        attempts: set[asyncio.Task[Client]] = set()
        try:
            while True:
                if len(attempts) < self.attempts:
                    attempts.add(asyncio.create_task(self._attempt()))
                done, attempts = await asyncio.wait(attempts, timeout=self.retry_s, return_when=asyncio.FIRST_COMPLETED)
                won: Client | None = None
                for attempt in done:
                    if (error := attempt.exception()) is not None:
                        self.failures += 1
                        self.last_error = str(error)
                    elif won is None:
                        won = attempt.result()
                    else:
                        await attempt.result().close()
                if won is not None:
                    return won
                if done:
                    await asyncio.sleep(self.retry_s)
        finally:
            for attempt in attempts:
                attempt.cancel()
            for result in await asyncio.gather(*attempts, return_exceptions=True):
                if isinstance(result, Client):
                    await result.close()

    async def _attempt(self) -> Client:
        client = await join(self.host, self.address, self.port, self.realm, timeout_s=self.attempt_timeout_s)
        try:
            await client.register(lambda x: x, f"lab.echo.{client.session_id}")
            await self._call(client)
        except BaseException:
            await asyncio.shield(client.close())
            raise
        return client

    async def _call(self, client: Client) -> None:
        sent = time.monotonic()
        # not asyncio.wait_for: before Python 3.12 it loses a cancellation that comes together with the answer
        async with asyncio.timeout(self.attempt_timeout_s):
            answer = await client.call(f"lab.echo.{client.session_id}", sent)
        if answer != sent:
            raise JoinFailed(f"a call was answered with {answer!r} instead of {sent!r}")
        self.served_at.append(time.monotonic())

    async def _call_until_lost(self, client: Client) -> None:
        while not client.gone.done():
            try:
                await self._call(client)
            except Exception as e:
                self.failures += 1
                self.last_error = e.error_message() if isinstance(e, ApplicationError) else repr(e)
                return
            await asyncio.sleep(0.02)
