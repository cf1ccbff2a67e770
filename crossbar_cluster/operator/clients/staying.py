"""Clients that stay joined until they are told to end: starts them, has them call in turn, and tells of what happens.

What is counted, and when there is news for people, is up to `crossbar_cluster.core.clients`.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

from crossbar_cluster.core.clients import Tally, Where
from crossbar_cluster.operator.clients.member import Member

EACH_S = 0.005  #: between the starts of two clients
CALL_EVERY_S = 0.5
TELL_EVERY_S = 0.1
LEAVE_S = 3.0


class Teller(Protocol):
    """Who is told of what happens."""

    def event(self, kind: str, **fields: Any) -> None:
        """One thing that has happened, for machines."""

    def line(self, line: str) -> None:
        """What is worth a line, for people."""


class Staying:
    """``count`` clients of ``realm``, spread over the proxies at ``urls``. To be run once."""

    def __init__(self, urls: list[str], realm: str, count: int, teller: Teller) -> None:
        self._urls = urls
        self._realm = realm
        self._teller = teller
        self._tally = Tally(count, time.monotonic())
        self._members: list[Member] = []
        self._ending = False

    async def run(self, for_s: float | None) -> bool:
        """Stay joined for ``for_s`` seconds, or until SIGINT or SIGTERM. :returns: whether all is, and went, well."""
        loop = asyncio.get_running_loop()
        # names are looked up by threads: lookups that hang, of a proxy that is away, must not hold up the others
        loop.set_default_executor(ThreadPoolExecutor(64))
        told_to_end = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, told_to_end.set)
        work = [asyncio.create_task(each) for each in (self._call(), self._tell_news(), told_to_end.wait())]
        starting = asyncio.create_task(self._start())
        done, _ = await asyncio.wait(work, timeout=for_s, return_when=asyncio.FIRST_COMPLETED)
        self._ending = True
        for task in (*work, starting):
            task.cancel()
        await asyncio.wait((*work, starting))
        for task in done:
            task.result()
        now = time.monotonic()
        for line in self._tally.news(now):
            self._teller.line(line)
        self._teller.line(self._tally.summary_line(now))
        self._teller.event("summary", **self._tally.summary(now))
        await self._leave()
        return self._tally.good

    # -- what members say, each with its number -------------------------------------------------------------------

    def joined(self, client: int, where: Where) -> None:
        if not self._ending:
            away_s = self._tally.has_joined(client, where, time.monotonic())
            rounded = None if away_s is None else round(away_s, 3)
            self._teller.event("joined", client=client, proxy=where.url, router=where.router, away_s=rounded)

    def lost(self, client: int, reason: str) -> None:
        if not self._ending and (where := self._tally.is_lost(client, reason, time.monotonic())) is not None:
            self._teller.event("lost", client=client, proxy=where.url, router=where.router, reason=reason)

    def failed(self, client: int, url: str, reason: str) -> None:
        if not self._ending:
            self._tally.has_failed(url, reason)
            self._teller.event("failed", client=client, proxy=url, reason=reason)

    def away(self, client: int, url: str, reason: str) -> None:
        if not self._ending:
            self._tally.was_away(url, reason)
            self._teller.event("away", client=client, proxy=url, reason=reason)

    def gave_up(self, client: int, reason: str) -> None:
        if not self._ending:
            self._tally.gives_up(client, reason)
            self._teller.event("gave_up", client=client, reason=reason)

    # -- what goes on -----------------------------------------------------------------------------------------------

    async def _start(self) -> None:
        for number in range(self._tally.count):
            first = number % len(self._urls)
            self._members.append(Member(number, self._urls[first:] + self._urls[:first], self._realm, self))
            await asyncio.sleep(EACH_S)

    async def _call(self) -> None:
        turn = 0
        while True:
            await asyncio.sleep(CALL_EVERY_S)
            if joined := [member for member in self._members if self._tally.is_joined(member.number)]:
                turn += 1
                answered = await joined[turn % len(joined)].call()
                self._tally.answered += answered is True
                self._tally.unanswered += answered is False

    async def _tell_news(self) -> None:
        while True:
            await asyncio.sleep(TELL_EVERY_S)
            for line in self._tally.news(time.monotonic()):
                self._teller.line(line)

    async def _leave(self) -> None:
        # what becomes of attempts that are under way does not matter any more
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LEAVE_S):
                await asyncio.gather(*(member.leave() for member in self._members), return_exceptions=True)
