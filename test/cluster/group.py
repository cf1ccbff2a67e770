"""Clients of a realm on several routers: those that stay, those that keep coming, and which router they are on."""

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from autobahn.wamp import message
from autobahn.wamp.exception import ApplicationError
from autobahn.wamp.role import DEFAULT_CLIENT_ROLES

from crossbar_cluster.core.backends import UNAVAILABLE
from crossbar_cluster.core.proof import METHOD, NONCE_BYTES, PART, hello_part
from crossbar_cluster.lab.client import Client
from crossbar_cluster.lab.cluster import Cluster, Node
from crossbar_cluster.lab.raw_client import RawClient, Rejected, signed

from .conftest import until

REALM = "realm1"
JOINED_WITHIN_S = 15.0  # of a client that is let in by somebody; generous, what it really took is printed
EACH_S = 0.05
WITHIN_S = 20.0


def router_of(client: Client) -> str:
    """The name of the router node that a client is on."""
    return client.joined.result().authextra["x_cb_node"]


async def client_on(cluster: Cluster, router: Node, proxy: Node) -> Client:
    """A client on that router. Proxies give routers out in turn, so some attempts lead elsewhere."""
    while True:
        client = await cluster.client(REALM, proxy, JOINED_WITHIN_S)
        if router_of(client) == router.name:
            return client
        await client.close()
        await asyncio.sleep(EACH_S)  # it may take seconds until the router is there: no storm meanwhile


async def slow_call(
    caller: Client, callee: Client, seconds: float, after: Awaitable[object] | None = None
) -> asyncio.Future[str]:
    """A call that takes a while, once it has begun. :param after: its time begins when this is over."""
    begun = asyncio.Event()

    async def work() -> str:
        begun.set()
        if after is not None:
            await after
        await asyncio.sleep(seconds)
        return "done"

    uri = f"lab.slow.{callee.session_id}.{caller.session_id}"
    await callee.register(work, uri)
    async with asyncio.timeout(WITHIN_S):
        while await caller.call("wamp.registration.match", uri) is None:
            await asyncio.sleep(0.02)
    call = asyncio.ensure_future(caller.call(uri))
    async with asyncio.timeout(WITHIN_S):
        await begun.wait()
    return call


@dataclass
class Join:
    """An attempt to join, and what has become of it."""

    began_s: float  #: monotonic
    proxy: str
    router: str = ""
    took_s: float = float("inf")
    problem: str = ""


class Arrivals:
    """New clients, one every 50 ms, each of which does something and leaves. A context manager.

    :ivar proxies: that they come through in turn; a test may change the list at any time.
    :param use: what each does; what it raises is a problem.
    """

    def __init__(
        self, cluster: Cluster, *proxies: Node, use: Callable[[Client], Awaitable[object]] | None = None
    ) -> None:
        self.joins: list[Join] = []
        self.proxies = list(proxies)
        self._cluster = cluster
        self._use = use
        self._under_way: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> "Arrivals":
        self._coming = asyncio.create_task(self._come())
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._coming.cancel()
        await asyncio.wait([self._coming, *self._under_way])

    async def leave_out(self, proxy: Node) -> None:
        """Send nobody to a proxy any more, and wait for those that are about to join through it."""
        self.proxies.remove(proxy)
        if self._under_way:
            await asyncio.wait(set(self._under_way))

    async def _come(self) -> None:
        for number in itertools.count():
            task = asyncio.create_task(self._one(self.proxies[number % len(self.proxies)]))
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)
            await asyncio.sleep(EACH_S)  # the rate is what is tested

    async def _one(self, proxy: Node) -> None:
        join = Join(time.monotonic(), proxy.name)
        self.joins.append(join)
        client: Client | None = None
        try:
            client = await self._cluster.client(REALM, proxy, JOINED_WITHIN_S)
            join.took_s, join.router = time.monotonic() - join.began_s, router_of(client)
            if self._use is not None and not client.gone.done():
                await self._use(client)
        except Exception as e:
            join.problem = f"{type(e).__name__}: {e}"
        finally:
            if client is not None:
                await client.close()

    @property
    def slowest_s(self) -> float:
        return max(join.took_s for join in self.joins)

    def check(self) -> None:
        """See that nobody had a problem."""
        assert self.joins
        problems = [join for join in self.joins if join.problem]
        assert not problems, f"{len(problems)} of {len(self.joins)}: {problems[:5]}"


@dataclass
class Resident:
    """A client that stays. When its session ends, it joins again at once and without backoff."""

    cluster: Cluster
    proxy: Node
    begin: Callable[[Client], Awaitable[object]] | None = None  #: what it does whenever it has joined
    client: Client | None = None  #: while it is joined, and has begun
    router: str = ""  #: that it is on, or was on last
    joined_at: list[float] = field(default_factory=list)  #: monotonic
    lost_at: list[float] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    async def start(self, router: Node | None = None) -> "Resident":
        """:param router: that it is to be on at first; default: any."""
        first = await client_on(self.cluster, router, self.proxy) if router else None
        self._task = asyncio.create_task(self._stay(first))
        await until(self.is_here, JOINED_WITHIN_S)
        return self

    async def is_here(self) -> bool:
        return self.client is not None

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _stay(self, client: Client | None) -> None:
        try:
            while True:
                try:
                    client = client or await self.cluster.client(REALM, self.proxy, JOINED_WITHIN_S)
                    self.router = router_of(client)
                    if self.begin is not None:
                        await self.begin(client)
                except Exception as e:
                    self.problems.append(f"{type(e).__name__}: {e}")
                    if client is not None:
                        await client.close()
                        client = None
                    await asyncio.sleep(0.02)  # a proxy that is not there says so at once
                    continue
                self.client = client
                self.joined_at.append(time.monotonic())
                await asyncio.shield(client.gone)
                self.client, client = None, None
                self.lost_at.append(time.monotonic())
        finally:
            if client is not None:
                await asyncio.shield(client.close())


class Together:
    """One client calls another one and publishes for it, again and again. A context manager.

    :ivar problems: what a call was answered with, other than what it should be.
    :ivar events: the numbers that have arrived, in this order.
    """

    def __init__(self, caller: Client, callee: Client, name: str) -> None:
        self.answered_at: list[float] = []
        self.problems: list[str] = []
        self.events: list[int] = []
        self.published = 0
        self._caller, self._callee, self._name = caller, callee, name

    async def __aenter__(self) -> "Together":
        self._registration = await self._callee.register(lambda x: x, f"{self._name}.echo")
        self._subscription = await self._callee.subscribe(self.events.append, f"{self._name}.event")
        self._task = asyncio.create_task(self._go_on())
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _go_on(self) -> None:
        while True:
            self._caller.publish(f"{self._name}.event", self.published)
            self.published += 1
            try:
                answer = await self._caller.call(f"{self._name}.echo", self.published)
                if answer != self.published:
                    self.problems.append(f"{answer!r} instead of {self.published!r}")
                self.answered_at.append(time.monotonic())
            except Exception as e:
                self.problems.append(f"{type(e).__name__}: {e}")
            await asyncio.sleep(0.02)

    @property
    def longest_gap_s(self) -> float:
        return max(later - earlier for earlier, later in itertools.pairwise(self.answered_at))

    async def all_events_have_arrived(self) -> bool:
        return self.events == list(range(self.published))


@dataclass
class Pair:
    """A client on each of two routers, each with a procedure that tells where it lives."""

    name: str
    clients: dict[str, Client]  #: by the name of the router

    @classmethod
    async def on(cls, cluster: Cluster, routers: list[Node], proxy: Node, name: str) -> "Pair":
        clients = {router.name: await client_on(cluster, router, proxy) for router in routers}
        for router, client in clients.items():
            await client.register(lambda router=router: router, f"{name}.{router}")
        return cls(name, clients)

    async def linked(self) -> bool:
        """Whether each reaches the other's procedure."""
        pairs = itertools.product(self.clients, self.clients)
        return not any(await asyncio.gather(*(self.answers(here, there) for here, there in pairs)))

    async def answers(self, here: str, there: str, within_s: float = 2.0) -> str | None:
        """Call, on one router, the procedure of the client on another. :returns: None: it answers; or why not."""
        try:
            async with asyncio.timeout(within_s):
                answer = await self.clients[here].call(f"{self.name}.{there}")
        except TimeoutError:
            return "no answer"
        except Exception as e:
            return str(e)
        return None if answer == there else f"it is {answer}"

    async def close(self) -> None:
        for client in self.clients.values():
            await client.close()


async def first_at(cluster: Cluster, router: Node, node: Node, port: int) -> tuple[RawClient, int]:
    """The very first client at a router worker's own port, which tries without pause, with the key of a node.

    :returns: the client, and how often it was refused before.
    """
    key = cluster.node_key(node)
    authextra = {
        "pubkey": key.public_key(),
        "proxy_realm": REALM,
        "proxy_authid": "first",
        "proxy_authrole": "anonymous",
        "proxy_authextra": None,
        PART: hello_part(bytes(NONCE_BYTES)),
    }
    hello = message.Hello(REALM, DEFAULT_CLIENT_ROLES, authmethods=[METHOD], authid=node.name, authextra=authextra)
    refused = 0
    while True:
        try:
            client = await RawClient.connect(router.host.address, port, websocket=False)
        except ConnectionError:  # it does not listen yet
            await asyncio.sleep(0.005)
            continue
        try:
            await client.join(hello, lambda extra: signed(key, extra))
            return client, refused
        except Rejected as e:
            assert isinstance(e.answer, message.Abort) and e.answer.reason == UNAVAILABLE, e.answer
            refused += 1
            client.close()
            await asyncio.sleep(0.005)


async def procedures(client: Client) -> dict[str, list[int]]:
    """All that is registered on a client's router, and by which sessions of the realm."""
    found = {}
    for registration in (await client.call("wamp.registration.list"))["exact"]:
        try:
            uri = (await client.call("wamp.registration.get", registration))["uri"]
            if not uri.startswith("wamp."):
                found[uri] = sorted(await client.call("wamp.registration.list_callees", registration))
        except ApplicationError as e:
            if e.error != ApplicationError.NO_SUCH_REGISTRATION:  # else it has ended since
                raise
    return found
