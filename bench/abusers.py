"""Clients that are not well-behaved, as a process of its own: started by abuse.py, which ends it.

    python bench/abusers.py KIND REALM ADDRESS:PORT [ADDRESS:PORT ...]

All they say is valid; there is too much of it, or too little. They are nice to the machine (`NICE`), so that what is
measured is what they do to the cluster and not that they take its processors.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import resource
import socket
import sys
from collections.abc import Awaitable, Callable

from autobahn.wamp import message

from crossbar_cluster.lab.raw_client import RawClient, Rejected, anonymous

NICE = 10
FLOODERS = 20
SLOW_READERS = 20
LARGE_BYTES, LARGE_PER_S = 10_000, 200
SILENT = 5_000
SUBSCRIPTIONS = 100_000
IDLE_AT_A_LIMIT = 400
AGAIN_S = 0.5

Place = tuple[str, int]
ENDED = (OSError, EOFError, Rejected, asyncio.IncompleteReadError, TimeoutError)


async def joined(realm: str, place: Place) -> RawClient:
    client = await RawClient.connect(*place, websocket=True)
    await client.join(anonymous(realm))
    return client


async def again_and_again(attempt: Callable[[], Awaitable[None]]) -> None:
    """What the cluster has ended tries again, as clients do."""
    while True:
        with contextlib.suppress(*ENDED):
            await attempt()
        await asyncio.sleep(AGAIN_S)


async def flood(realm: str, places: list[Place]) -> None:
    """Publish small messages as fast as the connection takes them."""

    async def one(number: int) -> None:
        client = await joined(realm, places[number % len(places)])
        for request in itertools.count(1):
            client.send(message.Publish(request, f"abuse.flood.{number}", args=[request]))
            if request % 100 == 0:
                await client._writer.drain()

    await asyncio.gather(*(again_and_again(lambda n=n: one(n)) for n in range(FLOODERS)))  # type: ignore[misc]


async def slow(realm: str, places: list[Place]) -> None:
    """Subscribe, and read nothing of the large events that somebody publishes."""

    async def reader(number: int) -> None:
        client = await joined(realm, places[number % len(places)])
        client._writer.transport.pause_reading()  # type: ignore[attr-defined]
        client.send(message.Subscribe(1, "abuse.large"))
        while not client._writer.transport.is_closing():
            await asyncio.sleep(1.0)

    async def publisher() -> None:
        client = await joined(realm, places[0])
        for request in itertools.count(1):
            client.send(message.Publish(request, "abuse.large", args=["x" * LARGE_BYTES]))
            await client._writer.drain()
            await asyncio.sleep(1 / LARGE_PER_S)

    readers = (again_and_again(lambda n=n: reader(n)) for n in range(SLOW_READERS))  # type: ignore[misc]
    await asyncio.gather(again_and_again(publisher), *readers)


async def _silent(places: list[Place], count: int) -> None:
    """Connect and say nothing; what is closed is replaced."""

    async def one(number: int) -> None:
        reader, writer = await asyncio.open_connection(*places[number % len(places)])
        try:
            while await reader.read(1000):
                pass
        finally:
            writer.close()

    await asyncio.gather(*(again_and_again(lambda n=n: one(n)) for n in range(count)))  # type: ignore[misc]


async def silent(realm: str, places: list[Place]) -> None:
    await _silent(places, SILENT)


async def idle(realm: str, places: list[Place]) -> None:
    await _silent(places, IDLE_AT_A_LIMIT)


async def subscribe(realm: str, places: list[Place]) -> None:
    """Subscribe to a great many topics, leave without a word, and begin anew."""

    async def one() -> None:
        client = await joined(realm, places[0])
        answered = asyncio.create_task(_count(client, SUBSCRIPTIONS))
        for request in range(1, SUBSCRIPTIONS + 1):
            client.send(message.Subscribe(request, f"abuse.topic.{request}"))
            if request % 100 == 0:
                await client._writer.drain()
        await answered
        client._writer.transport.abort()

    await again_and_again(one)


async def _count(client: RawClient, answers: int) -> None:
    for _ in range(answers):
        await client.receive()


async def churn(realm: str, places: list[Place]) -> None:
    """Join and leave as fast as it goes."""

    async def one() -> None:
        while True:
            client = await joined(realm, places[0])
            client.send(message.Goodbye())
            client.close()

    await again_and_again(one)


KINDS = {each.__name__: each for each in (flood, slow, silent, idle, subscribe, churn)}


def main() -> int:
    kind, realm, *given = sys.argv[1:]
    places = [(address, int(port)) for address, _, port in (place.rpartition(":") for place in given)]
    os.nice(NICE)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    socket.setdefaulttimeout(30.0)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(KINDS[kind](realm, places))
    return 0


if __name__ == "__main__":
    sys.exit(main())
