"""A worker group, its router cluster and its web cluster grow and shrink while clients are connected.

Those that are on nothing that goes are never disconnected, nobody is turned away by a proxy that stays, and no router
worker moves that need not.
"""

import asyncio
import contextlib
import json
import sysconfig
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from pathlib import Path

import pytest
import pytest_asyncio
from autobahn.wamp import cryptosign
from autobahn.wamp.exception import ApplicationError
from autobahn.wamp.types import RegisterOptions

from crossbar_cluster.lab.client import Client, join
from crossbar_cluster.lab.cluster import MASTER_PORT, PROXY_PORT, Cluster, JoinFailed, Node, loopback_cluster

from .conftest import PATCHED, RECOVERY_S, until

GROUP = "group_realm1"
G1, G2, G3 = (f"{GROUP}_{number}" for number in (1, 2, 3))
MEMBER = cryptosign.CryptosignKey.from_bytes(bytes(range(32)))
AUTH = {
    "anonymous": {"type": "static", "role": "anonymous"},
    "cryptosign": {
        "type": "static",
        "principals": {"member1": {"role": "member", "authorized_keys": [MEMBER.public_key()]}},
    },
}

Place = tuple[str, str]  # node and router worker


def place_of(client: Client) -> Place:
    """The router worker that a client is on."""
    extra = client.joined.result().authextra
    return extra["x_cb_node"], extra["x_cb_worker"]


class Guest:
    """A client that stays, and joins again at once when it is thrown out. Notes what it is thrown out of."""

    def __init__(self, cluster: Cluster, proxy: Node) -> None:
        self.proxy = proxy
        self.place: Place | None = None
        self.lost: list[Place] = []
        self.failed: list[str] = []
        self._cluster = cluster
        self.task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        while True:
            try:
                client = await self._cluster.client("realm1", self.proxy, timeout_s=10.0)
            except JoinFailed as e:
                self.failed.append(str(e))
                await asyncio.sleep(0.2)  # a proxy that is gone refuses at once
                continue
            self.place = place_of(client)
            try:
                await asyncio.shield(client.gone)
            finally:
                await client.close()
            self.lost.append(self.place)
            self.place = None


class Newcomers:
    """Clients that join through a proxy and leave, one after the other. Notes those that are not let in."""

    def __init__(self, cluster: Cluster, proxy: Node) -> None:
        self.failed: list[str] = []
        self.let_in = 0
        self._cluster, self._proxy = cluster, proxy
        self.task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        while True:
            try:
                client = await self._cluster.client("realm1", self._proxy, timeout_s=10.0)
            except JoinFailed as e:
                self.failed.append(str(e))
            else:
                self.let_in += 1
                await client.close()
            await asyncio.sleep(0.05)  # the others are to get a turn at the cores


class Clients:
    """All clients of a test. Their proxies are to stay."""

    def __init__(self, cluster: Cluster, proxies: Iterable[Node]) -> None:
        self.guests: list[Guest] = []
        self._cluster, self._proxies = cluster, tuple(proxies)
        self._newcomers = [Newcomers(cluster, proxy) for proxy in self._proxies]

    async def fill(self, placements: Mapping[str, str]) -> None:
        """Let guests come until there is one on each router worker through each proxy.

        :param placements: worker -> node.
        """
        wanted = {(proxy.name, (node, worker)) for proxy in self._proxies for worker, node in placements.items()}

        async def filled() -> bool:
            await self.seated()
            missing = wanted - {(guest.proxy.name, guest.place) for guest in self.guests}
            self.guests += [
                Guest(self._cluster, p) for p in self._proxies if any(p.name == name for name, _ in missing)
            ]
            return not missing

        await until(filled, RECOVERY_S)

    async def seated(self) -> None:
        """Wait until each guest has a session."""

        async def all_are() -> bool:
            return all(guest.place for guest in self.guests)

        await until(all_are, RECOVERY_S)

    def places(self) -> dict[Guest, Place | None]:
        return {guest: guest.place for guest in self.guests}

    def thrown_out_of(self) -> set[Place]:
        return {place for guest in self.guests for place in guest.lost}

    def failed(self) -> list[str]:
        return [why for noted in (*self.guests, *self._newcomers) for why in noted.failed]

    async def end(self) -> None:
        tasks = [noted.task for noted in (*self.guests, *self._newcomers)]
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


class Growing:
    """A realm on two of three routers, behind two proxies."""

    def __init__(self, cluster: Cluster, network) -> None:
        self.cluster = cluster
        self.router1, self.router2, self.router3 = (cluster.add_node(f"router{n}", network.host()) for n in (1, 2, 3))
        self.proxies = [cluster.add_node(f"proxy{n}", network.host()) for n in (1, 2)]

    async def configure(self) -> None:
        cluster = self.cluster
        await cluster.boot()
        await cluster.start_webcluster(*self.proxies, services={"ws": {"type": "websocket", "auth": AUTH}})
        self.realm = await cluster.start_realm("realm1", self.router1, self.router2)
        self.routers = (await self.manage("get_routercluster_by_name", "routers_realm1"))["oid"]
        for proxy in self.proxies:
            await cluster.served("realm1", proxy)

    async def manage(self, procedure: str, *args):
        return await self.cluster.manage(f"routercluster.{procedure}", *args)

    async def scale(self, scale: int) -> list[tuple[str, str]]:
        """:returns: what became of which worker."""
        answer = await self.manage("scale_workergroup", self.routers, self.realm.workergroup, scale)
        assert answer["workergroup"]["scale"] == scale
        return [(change["what"], change["worker"]) for change in answer["changes"]]

    async def command(self, *arguments: str):
        """The JSON document that `crossbar-cluster` prints, as an operator types it."""
        cluster = self.cluster
        url = f"ws://{cluster.master.host.address}:{MASTER_PORT}/ws"
        key = cluster.directory / "home" / ".crossbar" / "default.priv"
        process = await asyncio.create_subprocess_exec(
            str(Path(sysconfig.get_path("scripts")) / "crossbar-cluster"), *arguments, "--url", url, "--key", str(key),
            stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, _ = await process.communicate()
        assert process.returncode == 0
        return json.loads(out)

    async def placements(self) -> dict[str, str]:
        """Worker -> node, once all is as configured."""
        deadline = time.monotonic() + RECOVERY_S
        while (status := await self.cluster.status())["problems"]:
            assert time.monotonic() < deadline, status["problems"]
            await asyncio.sleep(0.1)
        (group,) = status["groups"]
        placements = {placed["worker"]: placed["node"] for placed in group["placements"]}
        run = {(w["worker"], w["node"]) for w in status["workers"] if w["kind"] == "router"}
        assert run == set(placements.items()), "what is placed runs, and nothing else"
        return placements

    async def scaled(self, scale: int) -> dict[str, str]:
        """The placements at that scale, whatever it was before."""
        await self.scale(scale)
        return await self.placements()

    @contextlib.asynccontextmanager
    async def clients(self, *proxies: Node) -> AsyncIterator[Clients]:
        """Clients through these proxies. In the end none of them has been turned away."""
        clients = Clients(self.cluster, proxies)
        try:
            yield clients
            await clients.seated()
            assert clients.failed() == []
        finally:
            await clients.end()


@pytest_asyncio.fixture(scope="module")
async def growing(tmp_path_factory):
    async with loopback_cluster(tmp_path_factory.mktemp("growing"), patched=PATCHED) as (cluster, network):
        growing = Growing(cluster, network)
        await growing.configure()
        yield growing


@pytest.mark.slow
async def test_a_group_grows_and_shrinks(growing):
    master = growing.cluster.master.running
    await growing.manage("add_routercluster_node", growing.routers, growing.router3.oid, {})
    now = await growing.placements()
    async with growing.clients(*growing.proxies) as clients:
        for worker in (G2, G3):
            before = now
            assert await growing.scale(len(before) + 1) == [("placed", worker)]
            now = await growing.placements()
            assert before.items() <= now.items()
            await clients.fill(now)
        assert set(now.values()) == {"router1", "router2", "router3"}
        assert clients.thrown_out_of() == set()

        before, mark = clients.places(), master.mark()
        answer = await growing.command("placements", "scale", GROUP, "1", "--json")
        assert [(c["what"], c["worker"]) for c in answer["changes"]] == [("removed", G2), ("removed", G3)]
        assert await growing.placements() == {G1: now[G1]}
        await clients.seated()
        for guest, place in before.items():
            assert guest.lost == ([] if place[1] == G1 else [place])
        log = [line.text for line in master.lines[mark:]]
        for worker in (G2, G3):
            (stopped,) = where(log, f"Router worker {worker} on {now[worker]}: worker stopped")
            left = where(log, f"connection cnc_{now[worker]}_{worker} stopped")
            assert len(left) == len(growing.proxies)
            assert max(left) < stopped, "a proxy could send clients to a worker that was being stopped"
    await growing.manage("remove_routercluster_node", growing.routers, growing.router3.oid)


def where(log: list[str], text: str) -> list[int]:
    return [number for number, line in enumerate(log) if text in line]


@pytest.mark.slow
async def test_a_worker_that_was_to_go_and_stays_after_all_is_no_new_one(growing):
    """It has clients: it does not make way when a node comes."""
    before = await growing.scaled(3)
    assert before == {G1: "router1", G2: "router2", G3: "router1"}
    assert await growing.scale(2) == [("removed", G3)]
    assert await growing.scale(3) == [("placed", G3)]
    assert await growing.placements() == before
    async with growing.clients(*growing.proxies) as clients:
        await clients.fill(before)
        await growing.manage("add_routercluster_node", growing.routers, growing.router3.oid, {})
        assert await growing.placements() == before
        assert clients.thrown_out_of() == set()
    await growing.manage("remove_routercluster_node", growing.routers, growing.router3.oid)


@pytest.mark.slow
async def test_a_router_node_comes_and_goes(growing):
    before = await growing.scaled(2)
    async with growing.clients(*growing.proxies) as clients:
        await clients.fill(before)
        await growing.manage("add_routercluster_node", growing.routers, growing.router3.oid, {})
        assert await growing.placements() == before
        now = await growing.scaled(3)
        assert now == {**before, G3: "router3"}
        await clients.fill(now)
        assert clients.thrown_out_of() == set()

        before = clients.places()
        await growing.manage("remove_routercluster_node", growing.routers, growing.router3.oid)
        moved = await growing.placements()
        assert moved == {**now, G3: "router1"}
        await clients.seated()
        for guest, place in before.items():
            assert guest.lost == ([place] if place == ("router3", G3) else [])
        await clients.fill(moved)


@pytest.mark.slow
async def test_a_proxy_node_comes_and_goes(growing):
    cluster, (proxy1, proxy2) = growing.cluster, growing.proxies
    placements = await growing.scaled(2)
    async with growing.clients(proxy1) as clients:
        await clients.fill(placements)
        leaver = await cluster.client("realm1", proxy2)
        await cluster.manage("webcluster.remove_webcluster_node", cluster.webcluster, proxy2.oid)
        async with asyncio.timeout(RECOVERY_S):
            await leaver.gone
        assert await growing.placements() == placements
        with pytest.raises(ConnectionError):
            await cluster.client("realm1", proxy2)
        await cluster.manage("webcluster.add_webcluster_node", cluster.webcluster, proxy2.oid, {"parallel": 1})
        await cluster.served("realm1", proxy2, RECOVERY_S)
        assert await growing.placements() == placements
        async with growing.clients(proxy2) as newer:
            await newer.fill(placements)
        assert clients.thrown_out_of() == set()


class Members:
    """Clients of the role "member", one on each router worker."""

    def __init__(self, growing: Growing) -> None:
        self._growing = growing
        self.on: dict[Place, Client] = {}

    async def join(self) -> Client:
        cluster, proxy = self._growing.cluster, self._growing.proxies[0]
        return await join(
            cluster.client_host, proxy.host.address, PROXY_PORT, "realm1", key=MEMBER, authid="member1", timeout_s=10.0
        )

    async def fill(self, placements: Mapping[str, str]) -> None:
        """Join until there is one on each. Until the role is there they are turned away."""
        wanted = {(node, worker) for worker, node in placements.items()}

        async def filled() -> bool:
            with contextlib.suppress(JoinFailed):
                client = await self.join()
                if place_of(client) in self.on:
                    await client.close()
                else:
                    self.on[place_of(client)] = client
            return set(self.on) == wanted

        await until(filled, RECOVERY_S)

    async def may_register(self, uri: str) -> set[bool]:
        return {await may_register(client, uri) for client in self.on.values()}


async def may_register(client: Client, uri: str) -> bool:
    try:
        # shared, because another router may not have heard yet that the client there has let go of the name
        registration = await client.register(lambda: None, uri, options=RegisterOptions(invoke="roundrobin"))
    except ApplicationError as e:
        assert e.error == ApplicationError.NOT_AUTHORIZED
        return False
    await registration.unregister()
    return True


@pytest.mark.slow
async def test_a_role_comes_changes_and_goes_on_all_routers(growing):
    cluster, arealm = growing.cluster, growing.realm.oid
    placements = await growing.scaled(2)
    async with growing.clients(*growing.proxies) as clients:
        await clients.fill(placements)
        members = Members(growing)
        with pytest.raises(JoinFailed):
            await members.join()
        role = (await cluster.manage("arealm.create_role", {"name": "member"}))["oid"]
        await cluster.manage("arealm.add_role_permission", role, "app.", {"match": "prefix", "allow_register": True})
        await cluster.manage("arealm.add_arealm_role", arealm, role, {"authmethod": "cryptosign"})
        await members.fill(placements)
        assert await members.may_register("app.door") == {True}
        assert await members.may_register("elsewhere.door") == {False}

        added = await cluster.manage(
            "arealm.add_role_permission", role, "elsewhere.", {"match": "prefix", "allow_register": True}
        )
        await until(lambda: is_so(members.may_register("elsewhere.door"), {True}), RECOVERY_S)
        await cluster.manage("arealm.remove_role_permission", role, added["oid"])
        await until(lambda: is_so(members.may_register("elsewhere.door"), {False}), RECOVERY_S)
        assert await members.may_register("app.door") == {True}

        await cluster.manage("arealm.remove_arealm_role", arealm, role)
        await until(lambda: is_so(members.may_register("app.door"), {False}), RECOVERY_S)
        assert await growing.placements() == placements
        with pytest.raises(JoinFailed):
            await members.join()
        assert not any(client.gone.done() for client in members.on.values())
        assert clients.thrown_out_of() == set()
        for client in members.on.values():
            await client.close()


async def is_so(found, expected) -> bool:
    return await found == expected
