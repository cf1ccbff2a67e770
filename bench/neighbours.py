"""Well-behaved clients, in pairs, which tell how well they are served while others are not so well-behaved.

The two of every third pair are on different proxies, those of the others on one. Each calls a procedure of the other
one and publishes an event that the other one has subscribed to, waits for the answer, and begins anew, `EACH_S` after
it began at the earliest. What is lost joins again at once, so that the next case finds all of them there.
"""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from autobahn.wamp import message

from crossbar_cluster.lab.raw_client import RawClient, Rejected, anonymous

EACH_S = 0.2
#: All is calm when each has had an answer within this time.
CALM_S = 0.1
#: A client whose answer takes longer counts as lost.
ANSWER_WITHIN_S = 30.0
AGAIN_S = 0.2


@dataclass
class Sample:
    """One round of a client: when its answer was there, and how long that took."""

    at: float
    took_s: float


@dataclass
class Neighbour:
    """One of a pair. :ivar number: of all; those with the numbers 2n and 2n + 1 are a pair."""

    number: int
    address: str
    port: int
    realm: str
    router: str = ""  #: name of the node that it is on
    samples: list[Sample] = field(default_factory=list)
    losses: list[tuple[float, str]] = field(default_factory=list)  #: when, and what has happened
    joined: bool = False
    _waiting: dict[Any, asyncio.Future[None]] = field(default_factory=dict)

    @property
    def partner(self) -> int:
        return self.number ^ 1

    async def run(self) -> None:
        """Go on until cancelled."""
        was_joined = False
        while True:
            try:
                async with asyncio.timeout(ANSWER_WITHIN_S):
                    client = await self._join()
                was_joined = self.joined = True
                await self._stay(client)
            except (OSError, EOFError, TimeoutError, Rejected, asyncio.IncompleteReadError) as e:
                if was_joined:
                    self.losses.append((time.monotonic(), f"{type(e).__name__}: {e}"))
                was_joined = self.joined = False
            await asyncio.sleep(AGAIN_S)

    async def _join(self) -> RawClient:
        client = await RawClient.connect(self.address, self.port, websocket=True)
        welcome = await client.join(anonymous(self.realm))
        self.router = str((welcome.authextra or {}).get("x_cb_node", ""))
        await client.ask(message.Register(1, f"bench.call.{self.number}", force_reregister=True))
        await client.ask(message.Subscribe(2, f"bench.event.{self.partner}"))
        return client

    async def _stay(self, client: RawClient) -> None:
        reading = asyncio.create_task(self._read(client))
        asking = asyncio.create_task(self._ask(client))
        try:
            done, _ = await asyncio.wait((reading, asking), return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                await task
        finally:
            for task in (reading, asking):
                task.cancel()
            await asyncio.gather(reading, asking, return_exceptions=True)
            self._waiting.clear()
            client.close()

    async def _read(self, client: RawClient) -> None:
        while True:
            received = await client.receive()
            match received:
                case message.Invocation():
                    client.send(message.Yield(received.request, args=received.args))
                case message.Result() | message.Error():
                    self._arrived(received.request)
                case message.Event():
                    self._arrived("event")

    def _arrived(self, what: Any) -> None:
        waiting = self._waiting.pop(what, None)
        if waiting is not None and not waiting.done():
            waiting.set_result(None)

    async def _ask(self, client: RawClient) -> None:
        loop, request = asyncio.get_running_loop(), 2
        while True:
            request += 2
            began = time.monotonic()
            answer = self._waiting[request] = loop.create_future()
            client.send(message.Call(request, f"bench.call.{self.partner}", args=[request]))
            client.send(message.Publish(request + 1, f"bench.event.{self.number}", args=[request]))
            async with asyncio.timeout(ANSWER_WITHIN_S):
                await answer
            now = time.monotonic()
            self.samples.append(Sample(now, now - began))
            await asyncio.sleep(max(0.0, began + EACH_S - now))


@dataclass(frozen=True)
class Served:
    """How a case went for those who had nothing to do with it."""

    clients: int
    lost: int
    why: tuple[str, ...]  #: the first few losses
    answers: int
    median_s: float
    p99_s: float
    worst_s: float


class Neighbourhood:
    """All of them. An async context manager: they run meanwhile."""

    def __init__(self, count: int, proxies: Sequence[tuple[str, int]], realm: str) -> None:
        self.all = [Neighbour(n, *proxies[_place(n) % len(proxies)], realm) for n in range(count)]
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Neighbourhood:
        self._tasks = [asyncio.create_task(each.run()) for each in self.all]
        return self

    async def __aexit__(self, *exc: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def calm(self, within_s: float) -> None:
        """Wait until each has been answered anew, and soon. :raises TimeoutError: naming how many have not."""
        since = time.monotonic()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while self._unanswered(since):
                    await asyncio.sleep(0.1)
        if left := self._unanswered(since):
            raise TimeoutError(f"{len(left)} of {len(self.all)} clients are not served {within_s:g} s after the case")

    def _unanswered(self, since: float) -> list[Neighbour]:
        def is_calm(each: Neighbour) -> bool:
            last = each.samples[-1] if each.joined and each.samples else Sample(0.0, 0.0)
            return last.at > since and last.took_s < CALM_S

        return [each for each in self.all if not is_calm(each)]

    def unconcerned(self, names: Collection[str], address: str = "") -> list[Neighbour]:
        """Those of pairs that are neither on a router of ``names`` nor on the proxy at ``address``."""

        def is_concerned(each: Neighbour) -> bool:
            return each.router in names or each.address == address

        return [each for each in self.all if not is_concerned(each) and not is_concerned(self.all[each.partner])]

    def served(self, whom: Sequence[Neighbour], since: float, until: float) -> Served:
        """How they have been served between two monotonic times."""
        took = sorted(s.took_s for each in whom for s in each.samples if since <= s.at <= until)
        losses = [why for each in whom for at, why in each.losses if since <= at <= until]
        return Served(
            len(whom),
            len(losses),
            tuple(losses[:3]),
            len(took),
            statistics.median(took) if took else float("inf"),
            took[int(0.99 * (len(took) - 1))] if took else float("inf"),
            took[-1] if took else float("inf"),
        )


def _place(number: int) -> int:
    """Which proxy a client is on: pairs in turn, and every third pair on two."""
    pair, second = divmod(number, 2)
    return pair + (second if pair % 3 == 0 else 0)
