"""A whole cluster of the lab: master, routers and proxies as real ``crossbar`` processes, configured over WAMP.

What a user would do by hand (make keys, ``crossbar master start``, ``crossbar edge start``, management calls), in the
same order and with the same commands, but for the keys (`crossbar_cluster.lab.keys`). `Cluster.patched` decides whether
the processes run the patch set or, with ``CROSSBAR_CLUSTER=off``, the release as it is; a single node can differ
(`Node.patched`).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import sys
import sysconfig
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from autobahn.wamp import cryptosign
from autobahn.wamp.exception import ApplicationError

from crossbar_cluster.core.keyfile import parse_tags
from crossbar_cluster.core.router import VERBS
from crossbar_cluster.lab import client as lab_client
from crossbar_cluster.lab import keys
from crossbar_cluster.lab.client import Caller, Client, JoinFailed, in_url
from crossbar_cluster.lab.host import Host, LoopbackNetwork
from crossbar_cluster.lab.process import NodeProcess, ProcessFailed

MASTER_PORT = 9000
PROXY_PORT = 8080
BOOT_TIMEOUT_S = 90.0
MREALM = "crossbarfabriccenter.mrealm."

#: A master's own configuration, merged into the built-in one: "COPY" keeps an entry, null drops it. What is dropped
#: would fetch something from the Internet at start.
MASTER_CONFIG = {
    "version": 2,
    "controller": {"id": "master1", "blockchain": None, "ipfs": None},
    "workers": [{"transports": ["COPY", "COPY", {"paths": {"autobahn": None}}]}, "COPY"],
}


@dataclass
class Node:
    """A node's configuration and, while it runs, its process."""

    name: str
    host: Host
    directory: Path
    patched: bool = True
    cluster_ip: str | None = None  #: what CROSSBAR_NODE_CLUSTER_IP says; None: not set
    process: NodeProcess | None = None
    oid: str = ""  #: object id of the node's record on the master
    settings: dict[str, str] = field(default_factory=dict)  #: further environment variables

    @property
    def cbdir(self) -> Path:
        return self.directory / ".crossbar"

    @property
    def running(self) -> NodeProcess:
        """The node's process. :raises ProcessFailed: it has none."""
        if self.process is None:
            raise ProcessFailed(f"{self.name} has not been started")
        return self.process


@dataclass
class Realm:
    """An application realm of the cluster: its name and the worker group and web cluster it runs on."""

    name: str
    oid: str
    workergroup: str


@dataclass
class Cluster:
    """A cluster in ``directory``. An async context manager: on exit no process of it is left."""

    directory: Path
    master_host: Host
    client_host: Host  #: where management and application clients connect from
    patched: bool = True
    nodes: dict[str, Node] = field(default_factory=dict)
    tell: Callable[[str], None] = lambda step: None  #: told what is being done, for progress displays
    management: Client | None = None

    def __post_init__(self) -> None:
        self.master = Node("master", self.master_host, self.directory / "master", self.patched)
        self.watched = self.directory / "nodes"  #: the master pairs every node whose key it finds below
        self.webcluster = ""
        self._started: list[NodeProcess] = []  #: every process that was ever started, so that `stop` misses none

    async def __aenter__(self) -> Cluster:
        self.watched.mkdir(parents=True, exist_ok=True)
        (self.directory / "home").mkdir(exist_ok=True)
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.stop()

    async def stop(self) -> None:
        """Kill every process of the cluster."""
        killed = await asyncio.gather(*(process.kill() for process in self._started), return_exceptions=True)
        if self.management is not None:
            await self.management.close()
        for problem in killed:
            if isinstance(problem, BaseException):
                raise problem

    # -- processes ----------------------------------------------------------------------------------------------

    def environment(self, node: Node) -> dict[str, str]:
        """The environment of ``node``'s processes: this one's, less what belongs to another cluster or to pytest."""
        env = {
            k: v
            for k, v in os.environ.items()
            if not k.startswith(("CROSSBAR_", "PYTEST_", "MAILGUN_", "INFURA_")) and k != "PYTHONPATH"
        }
        env["HOME"] = str(self.directory / "home")
        env["CROSSBAR_FABRIC_URL"] = f"ws://{in_url(self.master_host.address)}:{MASTER_PORT}/ws"
        env["CROSSBAR_CLUSTER"] = "on" if node.patched else "off"
        if node is self.master:
            env["CROSSBAR_FABRIC_SUPERUSER"] = str(self.directory / "home" / ".crossbar" / "default.pub")
            env["CROSSBAR_WATCH_TO_PAIR"] = str(self.watched)
        else:
            env["CROSSBAR_NODE_ID"] = node.name
            if node.cluster_ip is not None:
                env["CROSSBAR_NODE_CLUSTER_IP"] = node.cluster_ip
        env.update(node.settings)
        env.update(node.host.environment(node.directory))
        return env

    async def run(self, node: Node, *argv: str) -> str:
        """Run ``crossbar`` with ``argv`` to its end as ``node`` would. :returns: its output. :raises ProcessFailed:"""
        return await self._run(f"crossbar {' '.join(argv)}", node, node.host.command([crossbar_command(), *argv]))

    async def _run(self, what: str, node: Node, argv: list[str]) -> str:
        node.directory.mkdir(parents=True, exist_ok=True)
        log_file = node.directory / "commands.log"
        process = await NodeProcess.start(what, argv, self.environment(node), node.directory, log_file)
        self._started.append(process)
        try:
            code = await process.ended(BOOT_TIMEOUT_S)
        except TimeoutError:
            raise process.failure(f"did not end within {BOOT_TIMEOUT_S:g} s") from None
        finally:
            await process.kill()
        if code != 0:
            raise process.failure(f"ended with code {code}")
        return "\n".join(line.text for line in process.lines)

    async def start(self, node: Node) -> NodeProcess:
        """Start ``node``'s process; does not wait for it to come up."""
        kind = "master" if node is self.master else "edge"
        node.process = await NodeProcess.start(
            node.name,
            node.host.command([crossbar_command(), kind, "start", f"--cbdir={node.cbdir}"]),
            self.environment(node),
            node.directory,
            node.directory / "node.log",
        )
        self._started.append(node.process)
        return node.process

    # -- setting up ---------------------------------------------------------------------------------------------

    def add_node(self, name: str, host: Host, cluster_ip: str | None = "", patched: bool | None = None) -> Node:
        """Declare an edge node. ``cluster_ip`` "" (the default): the host's address; None: leave the variable unset."""
        node = Node(
            name,
            host,
            self.watched / name,
            self.patched if patched is None else patched,
            host.address if cluster_ip == "" else cluster_ip,
        )
        self.nodes[name] = node
        return node

    async def boot(self) -> None:
        """Make all keys, start the master and all nodes, pair them; return when the master manages every node."""
        self.tell("making keys")
        await self.make_keys(*self.nodes.values(), superuser=True)
        self.tell("starting the master")
        self.master.cbdir.mkdir(parents=True, exist_ok=True)
        (self.master.cbdir / "config.json").write_text(json.dumps(MASTER_CONFIG))
        await self.start_master()
        self.tell("starting the nodes")
        await _together(*(self.bring_up(node) for node in self.nodes.values()))

    async def start_master(self) -> None:
        """Start the master and a management session on it."""
        process = await self.start(self.master)
        await process.line("Management realm controller ready", timeout_s=BOOT_TIMEOUT_S)
        await self._join_management()

    async def _join_management(self) -> None:
        self.management = await self._retry(
            lambda: lab_client.join(
                self.client_host, self.master_host.address, MASTER_PORT, "default", **self.superuser()
            ),
            "the management realm can be joined",
        )

    async def make_keys(self, *nodes: Node, superuser: bool = False) -> None:
        """Make the keys of nodes, and the superuser's. The release's key files differ from the patched ones."""
        home = self.directory / "home" / ".crossbar"
        making = []
        for patched in (True, False):
            alike = [node for node in nodes if node.patched is patched]
            of_superuser = home if superuser and patched is self.patched else None
            if alike or of_superuser:
                document = keys.wanted(of_superuser, ((node.cbdir, self.environment(node)) for node in alike))
                who = alike[0] if alike else self.master
                making.append(self._run("making keys", who, [sys.executable, "-m", keys.__name__, document]))
        await _together(*making)

    async def make_key(self, node: Node) -> None:
        await self.make_keys(node)

    async def bring_up(self, node: Node) -> None:
        """Start ``node`` and wait until the master can call it."""
        await self.start(node)
        await self.managed(node)

    async def managed(self, node: Node) -> None:
        """Wait until the master can call ``node``."""
        await self._retry(lambda: self._find(node), f"{node.name} is managed by the master", process=node.running)

    async def move(self, node: Node, host: Host, cluster_ip: str | None = "", *, gently: bool = False) -> NodeProcess:
        """End ``node``'s process and start it on another ``host``, as a rescheduled pod. Does not wait for it.

        :param cluster_ip: as for `add_node`.
        :param gently: by SIGTERM instead of SIGKILL.
        """
        await (node.running.terminate() if gently else node.running.kill())
        node.host = host
        node.cluster_ip = host.address if cluster_ip == "" else cluster_ip
        return await self.start(node)

    def node_key(self, node: Node) -> cryptosign.CryptosignKey:
        """The private key of ``node``."""
        return _private_key(_tags(node.cbdir / "key.priv"))

    async def _find(self, node: Node) -> None:
        record = await self.manage("get_node_by_authid", node.name)
        node.oid = record["oid"]
        await self.call("crossbarfabriccenter.remote.node.get_status", node.oid)

    def superuser(self) -> dict[str, Any]:
        """What a management session authenticates with: arguments for `client.join`."""
        tags = _tags(self.directory / "home" / ".crossbar" / "default.priv")
        return {"key": _private_key(tags), "authid": tags["user-id"]}

    # -- management ---------------------------------------------------------------------------------------------

    async def call(self, procedure: str, *args: Any, timeout_s: float = 30.0) -> Any:
        """Call a management procedure as the superuser."""
        assert self.management is not None, "the cluster has not been booted"
        if self.management.gone.done():  # the master drops a client that does not answer, as while a debugger holds it
            await self._join_management()
        async with asyncio.timeout(timeout_s):
            return await self.management.call(procedure, *args)

    async def manage(self, procedure: str, *args: Any) -> Any:
        """Call ``crossbarfabriccenter.mrealm.<procedure>``."""
        return await self.call(MREALM + procedure, *args)

    async def status(self, timeout_s: float = 30.0) -> dict[str, Any]:
        """The document that `crossbar-cluster status` shows."""
        status = await self.call(f"{MREALM}get_cluster_status", timeout_s=timeout_s)
        assert isinstance(status, dict)
        return status

    async def record(self, node: Node) -> dict[str, Any]:
        """The node's record on the master."""
        record = await self.manage("get_node_by_authid", node.name)
        assert isinstance(record, dict)
        return record

    async def sessions_of(self, name: str) -> list[int]:
        """The living management sessions of a node, or of whoever has that authid."""
        found = []
        for session in await self.call("wamp.session.list"):
            try:
                details = await self.call("wamp.session.get", session)
            except ApplicationError:  # it has ended since
                continue
            if details["authid"] == name:
                found.append(session)
        return found

    async def start_webcluster(self, *proxies: Node, services: Mapping[str, Any] | None = None) -> None:
        """Make ``proxies`` the web cluster of all realms: WebSocket at ``ws://PROXY:8080/ws``.

        :param services: further web services, path -> configuration.
        """
        self.tell("configuring the proxies")
        cluster = await self.manage(
            "webcluster.create_webcluster", {"name": "web", "tcp_port": PROXY_PORT, "tcp_shared": True}
        )
        self.webcluster = cluster["oid"]
        for proxy in proxies:
            await self.manage("webcluster.add_webcluster_node", self.webcluster, proxy.oid, {"parallel": 1})
        for path, config in {"ws": {"type": "websocket"}, **(services or {})}.items():
            await self.manage("webcluster.add_webcluster_service", self.webcluster, path, config)
        await self.manage("webcluster.start_webcluster", self.webcluster)

    async def start_realm(self, name: str, *routers: Node, scale: int = 1) -> Realm:
        """Configure and start an application realm on workers of its own.

        :param routers: nodes that the workers are spread over.
        :param scale: how many workers.
        """
        self.tell(f"configuring {name} on {', '.join(router.name for router in routers)}")
        cluster = await self.manage("routercluster.create_routercluster", {"name": f"routers_{name}"})
        for router in routers:
            await self.manage("routercluster.add_routercluster_node", cluster["oid"], router.oid, {})
        group = await self.manage(
            "routercluster.add_routercluster_workergroup",
            cluster["oid"],
            {"name": f"group_{name}", "scale": scale, "cluster_oid": cluster["oid"]},
        )
        await self.manage("routercluster.start_routercluster", cluster["oid"])
        return await self.start_realm_on(name, group["oid"])

    async def start_realm_on(self, name: str, workergroup: str) -> Realm:
        """Configure and start an application realm on a worker group, open to anonymous clients for everything."""
        arealm = await self.manage(
            "arealm.create_arealm", {"name": name, "enable_meta_api": True, "bridge_meta_api": True}
        )
        role = await self._role()
        await self.manage("arealm.add_arealm_role", arealm["oid"], role, {"authmethod": "anonymous"})
        await self.manage("arealm.start_arealm", arealm["oid"], workergroup, self.webcluster)
        return Realm(name, arealm["oid"], workergroup)

    async def _role(self) -> str:
        try:
            role = await self.manage("arealm.get_role_by_name", "anonymous")
        except Exception:
            role = await self.manage("arealm.create_role", {"name": "anonymous"})
            allow = {f"allow_{verb}": True for verb in VERBS}
            await self.manage("arealm.add_role_permission", role["oid"], "", {"match": "prefix", **allow})
        return str(role["oid"])

    # -- clients ------------------------------------------------------------------------------------------------

    async def client(self, realm: str, proxy: Node, timeout_s: float = 5.0) -> Client:
        """Join ``realm`` through ``proxy`` as an anonymous client. :raises JoinFailed:"""
        return await lab_client.join(self.client_host, proxy.host.address, PROXY_PORT, realm, timeout_s=timeout_s)

    def caller(self, realm: str, proxy: Node) -> Caller:
        """A client that calls without pause through ``proxy``; not started."""
        return Caller(self.client_host, proxy.host.address, PROXY_PORT, realm)

    async def served(
        self, realm: str, proxy: Node, timeout_s: float = BOOT_TIMEOUT_S, since: float | None = None
    ) -> float:
        """Wait until a client that tries without pause is served.

        :param since: monotonic time; default: now.
        :returns: seconds after ``since``.
        :raises JoinFailed: with the last reason, when none was served within ``timeout_s``.
        """
        since = time.monotonic() if since is None else since
        caller = self.caller(realm, proxy)
        caller.start()
        try:
            at = await caller.served(since, timeout_s)
        finally:
            await caller.stop()
        if at is None:
            raise JoinFailed(
                f"no client of {realm} served through {proxy.name} within {timeout_s:g} s; "
                f"last error: {caller.last_error}"
            )
        return at - since

    async def _retry(
        self,
        attempt: Callable[[], Any],
        what: str,
        timeout_s: float = BOOT_TIMEOUT_S,
        process: NodeProcess | None = None,
    ) -> Any:
        """Await ``attempt()`` until it does not fail. :raises ProcessFailed: naming ``what`` and the last error."""
        process = process or self.master.running
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                return await attempt()
            except Exception as e:
                if not process.running:
                    raise process.failure(f"ended with code {process.returncode}") from e
                if time.monotonic() > deadline:
                    raise process.failure(f"not within {timeout_s:g} s: {what} ({e})") from e
            await asyncio.sleep(0.1)


@contextlib.asynccontextmanager
async def loopback_cluster(directory: Path, *, patched: bool = True) -> Any:
    """A cluster on loopback addresses, with no node yet. :yields: the `Cluster` and its `LoopbackNetwork`."""
    network = LoopbackNetwork(directory)
    async with Cluster(directory, network.host(), network.host(), patched) as cluster:
        yield cluster, network


async def _together(*work: Coroutine[Any, Any, object]) -> None:
    """Run all of ``work`` at once. What fails first ends the others and is raised as it is."""
    try:
        async with asyncio.TaskGroup() as group:
            for each in work:
                group.create_task(each)
    except BaseExceptionGroup as failed:
        raise failed.exceptions[0] from None


def crossbar_command() -> str:
    """Path of the ``crossbar`` command of this Python. :raises ProcessFailed: it is not installed."""
    beside = Path(sysconfig.get_path("scripts")) / "crossbar"
    found = str(beside) if beside.exists() else shutil.which("crossbar")
    if found is None:
        raise ProcessFailed(f"no crossbar command beside {sys.executable} or in PATH: pip install crossbar-cluster")
    return found


def _tags(key_file: Path) -> dict[str, str]:
    return parse_tags(key_file.read_text(encoding="utf-8"))


def _private_key(tags: Mapping[str, str]) -> cryptosign.CryptosignKey:
    return cryptosign.CryptosignKey.from_bytes(bytes.fromhex(tags["private-key-ed25519"]))
