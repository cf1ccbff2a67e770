"""WAMP clients of the lab: sessions that start from a host of it, and a caller that notices every gap in service."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any

from autobahn.wamp import cryptosign
from autobahn.wamp.exception import ApplicationError

from crossbar_cluster.lab.host import Host
from crossbar_cluster.operator.client import Client, JoinFailed, open_session

__all__ = ["Caller", "Client", "JoinFailed", "in_url", "join"]


def in_url(address: str) -> str:
    """``address`` as it stands in a URL: an IPv6 address in brackets."""
    return f"[{address}]" if ":" in address else address


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
    where = f"{in_url(address)}:{port}"

    async def connect(factory: Any) -> Any:
        sock = await host.connect(address, port)
        return await asyncio.get_running_loop().create_connection(factory, sock=sock)

    return await open_session(
        f"ws://{where}/ws",
        connect,
        realm,
        where=where,
        key=key,
        authid=authid,
        authrole=authrole,
        authextra=authextra,
        timeout_s=timeout_s,
    )


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
        joined: list[Client] = []  #: the first one of them is wanted
        try:
            while not joined:
                if len(attempts) < self.attempts:
                    attempts.add(asyncio.create_task(self._attempt()))
                done, attempts = await asyncio.wait(attempts, timeout=self.retry_s, return_when=asyncio.FIRST_COMPLETED)
                for attempt in done:
                    if (error := attempt.exception()) is not None:
                        self.failures += 1
                        self.last_error = str(error)
                    else:
                        joined.append(attempt.result())
                if done and not joined:
                    await asyncio.sleep(self.retry_s)
            won = joined.pop(0)
            try:
                await asyncio.shield(asyncio.create_task(_close_all(attempts, joined)))
            except asyncio.CancelledError:  # the caller is stopped before it has got its client
                joined.append(won)
                raise
            return won
        except BaseException:
            await asyncio.shield(asyncio.create_task(_close_all(attempts, joined)))
            raise

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


async def _close_all(attempts: set[asyncio.Task[Client]], joined: list[Client]) -> None:
    """Leave no client behind, of those that have joined and of those that are about to."""
    for attempt in attempts:
        attempt.cancel()
    results = await asyncio.gather(*attempts, return_exceptions=True)
    await asyncio.gather(*(each.close() for each in [*joined, *(r for r in results if isinstance(r, Client))]))
