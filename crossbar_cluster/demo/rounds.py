"""What happens in a demo: a small cluster is set up, then its router dies and comes back elsewhere, again and again.

Tells what it sees as `events`, through a function, and prints nothing. Every time comes from the log line or the
answered call that shows it. Whoever runs it (`runner`) stops the cluster afterwards.
"""

from __future__ import annotations

import asyncio
import bisect
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from crossbar_cluster.core.router import LISTENING_PORTS
from crossbar_cluster.demo.events import (
    Back,
    Event,
    Killed,
    Milestone,
    Missed,
    Reached,
    Ready,
    RoundBegan,
    RoundEnded,
    RoundResult,
    SettingUp,
)
from crossbar_cluster.lab.client import Caller
from crossbar_cluster.lab.cluster import MASTER_PORT, PROXY_PORT, Cluster
from crossbar_cluster.lab.host import LoopbackNetwork
from crossbar_cluster.lab.process import NodeProcess, ProcessFailed

REALM = "realm1"
#: How long the other milestones are watched for once the client is served.
GRACE_S = 2.0
#: How long the client goes on calling before the next round.
PAUSE_S = 1.0
_WATCH_NODES_S = 0.25


@dataclass(frozen=True)
class Options:
    """What a user can choose."""

    rounds: int = 3
    patched: bool = True
    watch_s: float = 20.0  #: how long a round waits for the client to be served


class Demo:
    """The cluster of a demo in ``directory`` and what happens to it.

    :param tell: told every event when it happens.
    """

    def __init__(self, directory: Path, options: Options, tell: Callable[[Event], None]) -> None:
        self._options = options
        self._tell = tell
        self._began = time.monotonic()
        network = LoopbackNetwork(directory)
        self.cluster = Cluster(directory, network.host(), network.host(), options.patched)
        self.cluster.tell = lambda step: tell(SettingUp(step, time.monotonic() - self._began))
        self.proxy = self.cluster.add_node("proxy1", network.host())
        self._hosts = [network.host() for _ in range(options.rounds + 1)]  #: where the router is, round by round
        self.router = self.cluster.add_node("router1", self._hosts[0])

    @property
    def url(self) -> str:
        """Where clients connect to."""
        return f"ws://{self.proxy.host.address}:{PROXY_PORT}/ws"

    @property
    def listeners(self) -> list[tuple[str, str, range]]:
        """Node, address and ports of all that will listen; a node takes the first free port."""
        return [
            ("master", self.cluster.master_host.address, range(MASTER_PORT, MASTER_PORT + 1)),
            ("proxy1", self.proxy.host.address, range(PROXY_PORT, PROXY_PORT + 1)),
            *(("router1", host.address, LISTENING_PORTS) for host in self._hosts),
        ]

    async def run(self) -> list[RoundResult]:
        """Set up, and play all rounds. :raises ProcessFailed: a node ended that should not have, or did not come up."""
        playing, watching = asyncio.create_task(self._play()), asyncio.create_task(self._watch_nodes())
        try:
            await asyncio.wait({playing, watching}, return_when=asyncio.FIRST_COMPLETED)
            if playing.done():
                return playing.result()
            watching.result()  # it ends by an exception only
            raise AssertionError("the nodes are not watched any more")
        except ProcessFailed:
            raise
        except Exception as e:
            self._fail_for_dead_node(e)
            raise self._failure(f"{type(e).__name__}: {e}") from e
        finally:
            playing.cancel()
            watching.cancel()
            await asyncio.gather(playing, watching, return_exceptions=True)

    async def _watch_nodes(self) -> None:
        while True:
            await asyncio.sleep(_WATCH_NODES_S)
            self._fail_for_dead_node()

    def _fail_for_dead_node(self, cause: Exception | None = None) -> None:
        for node in (self.cluster.master, *self.cluster.nodes.values()):
            if node.process is not None and node.process.died:
                what = f"ended unexpectedly, with code {node.process.returncode}"
                raise node.process.failure(what) from cause

    def _failure(self, what: str) -> ProcessFailed:
        process = self.cluster.master.process
        return ProcessFailed(what) if process is None else process.failure(what)

    # -- setting up ---------------------------------------------------------------------------------------------

    async def _play(self) -> list[RoundResult]:
        cluster = await self.cluster.__aenter__()
        await cluster.boot()
        await cluster.start_webcluster(self.proxy)
        await cluster.start_realm(REALM, self.router)
        cluster.tell("waiting for a client to be served")
        client = cluster.caller(REALM, self.proxy)
        client.start()
        try:
            await self._first_served(client)
            results: list[RoundResult] = []
            for number, host_before in enumerate(self._hosts[:-1], 1):
                served = not results or results[-1].recovered
                self._tell(RoundBegan(number, self._options.rounds, host_before.address, self._hosts[number].address))
                results.append(await self._round(number, client, served))
                self._tell(RoundEnded(results[-1]))
            return results
        finally:
            await client.stop()

    async def _first_served(self, client: Caller) -> None:
        if await client.served(0.0, 90.0) is None:
            raise self._failure(f"no client was served within 90 s: {client.last_error}")
        nodes = (self.cluster.master, self.router, self.proxy)
        addresses = {node.name: node.host.address for node in nodes}
        self._tell(Ready(addresses, self.url, REALM, time.monotonic() - self._began, client))
        await asyncio.sleep(PAUSE_S)

    # -- a round ------------------------------------------------------------------------------------------------

    async def _round(self, number: int, client: Caller, served_before: bool) -> RoundResult:
        cluster, router = self.cluster, self.router
        old, new = router.host.address, self._hosts[number]
        if served_before and await client.served(time.monotonic(), 10.0) is None:
            raise self._failure(f"the client lost its service before the router was killed: {client.last_error}")
        answered, failed = len(client.served_at), client.failures
        log_position = cluster.master.running.mark(), self.proxy.running.mark()
        killed_at = time.monotonic()
        await router.running.kill()
        self._tell(Killed(old))
        router.host, router.cluster_ip = new, new.address
        back_at = (await cluster.start(router)).started_at
        self._tell(Back(new.address))
        seconds = await self._watch_round(back_at, self._sources(client, back_at, *log_position))
        served_after_s = seconds[Milestone.CLIENT_SERVED]
        outage_s = None
        if served_after_s is not None:
            await asyncio.sleep(PAUSE_S)
            first = bisect.bisect_right(client.served_at, back_at)
            outage_s = client.served_at[first] - client.served_at[first - 1]
        return RoundResult(
            number=number,
            old_address=old,
            new_address=new.address,
            killed_s=killed_at - back_at,
            seconds=seconds,
            watched_s=self._options.watch_s,
            outage_s=outage_s,
            calls_answered=len(client.served_at) - answered,
            attempts_failed=client.failures - failed,
        )

    def _sources(
        self, client: Caller, back_at: float, master_mark: int, proxy_mark: int
    ) -> dict[Milestone, Awaitable[float | None]]:
        """For each milestone what waits for it and gives its monotonic time."""
        master, router, proxy = self.cluster.master.running, self.router.running, self.proxy.running
        timeout_s = self._options.watch_s + GRACE_S
        # the released master logs nothing when it lets a node in; the node itself does
        authenticated = (
            (master, rf"Node authentication received: node {self.router.name}\b", master_mark)
            if self._options.patched
            else (router, "Connected to Crossbar.io Master", 0)
        )
        return {
            Milestone.AUTHENTICATED: _logged(*authenticated, timeout_s),
            Milestone.RECORD_REFRESHED: _logged(
                master, rf"Node {self.router.name} cluster IP changed from", master_mark, timeout_s
            ),
            Milestone.WORKER_LISTENING: _logged(router, "transport.*started as transport", 0, timeout_s),
            # The proxy says so when it is done. The master, who told it to, hears of that a moment later: by then a
            # client may have been served.
            Milestone.PROXY_REPOINTED: _logged(proxy, "connection .* re-pointed from", proxy_mark, timeout_s),
            Milestone.CLIENT_SERVED: client.served(back_at, timeout_s),
        }

    async def _watch_round(
        self, back_at: float, sources: dict[Milestone, Awaitable[float | None]]
    ) -> dict[Milestone, float | None]:
        """Tell milestones as they come. :returns: for each its seconds since ``back_at``, or None."""
        seconds: dict[Milestone, float | None] = dict.fromkeys(sources)
        waiting = {asyncio.ensure_future(source): milestone for milestone, source in sources.items()}
        pending = set(waiting)
        until = back_at + self._options.watch_s
        try:
            while pending and time.monotonic() < until:
                done, pending = await asyncio.wait(
                    pending, timeout=until - time.monotonic(), return_when=asyncio.FIRST_COMPLETED
                )
                reached = ((task.result(), waiting[task]) for task in done)
                for at, milestone in sorted((at, milestone) for at, milestone in reached if at is not None):
                    seconds[milestone] = at - back_at
                    self._tell(Reached(milestone, at - back_at))
                    if milestone is Milestone.CLIENT_SERVED:
                        until = min(until, time.monotonic() + GRACE_S)
        finally:
            for task in pending:
                task.cancel()
            await asyncio.gather(*pending, return_exceptions=True)
        watched_s = time.monotonic() - back_at
        for milestone in (milestone for milestone in Milestone if seconds[milestone] is None):
            self._tell(Missed(milestone, watched_s, await self._remark(milestone)))
        return seconds

    async def _remark(self, milestone: Milestone) -> str:
        if milestone is not Milestone.RECORD_REFRESHED:
            return ""
        record = await self.cluster.record(self.router)
        return f"it says {record['cluster_ip']}"


async def _logged(process: NodeProcess, pattern: str, since: int, timeout_s: float) -> float | None:
    """Monotonic time of the log line; None when there is none in time."""
    try:
        return (await process.line(pattern, since=since, timeout_s=timeout_s)).at
    except ProcessFailed:
        if process.died:
            raise
        return None
