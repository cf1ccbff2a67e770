"""Hosts of the lab in network namespaces: fresh namespaces and IPv6, as on real hosts. Needs root.

The bridge has a namespace of its own, so that nothing of this machine's network takes part.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import secrets
import shutil
import socket
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

_CLONE_NEWNET = 0x40000000
_SETTINGS = Path("/etc/netns")


def available() -> str | None:
    """Why namespaces cannot be used here; None when they can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if shutil.which("ip") is None:
        return "network namespaces need the command ip (Debian: iproute2)"
    probe = subprocess.run(["ip", "netns", "add", "lab-probe"], capture_output=True, text=True)
    if probe.returncode != 0 and "exists" not in probe.stderr:
        return f"ip netns add: {probe.stderr.strip()}"
    subprocess.run(["ip", "netns", "delete", "lab-probe"], capture_output=True)
    return None


def _ip(*args: str) -> None:
    done = subprocess.run(["ip", *args], capture_output=True, text=True)
    if done.returncode != 0:
        raise OSError(f"ip {' '.join(args)}: {done.stderr.strip()}")


@dataclass
class NamespaceNetwork:
    """A bridge and hosts on it, at 10.77.0.n and fd77::n. `close` removes all of it."""

    tag: str = field(default_factory=lambda: f"lab{secrets.token_hex(2)}")

    def __post_init__(self) -> None:
        self._count = 0
        self._hosts: list[NamespaceHost] = []
        self.names: dict[str, str] = {}
        self.bridge = f"{self.tag}-br"
        _ip("netns", "add", self.bridge)
        _ip("-n", self.bridge, "link", "add", "br0", "type", "bridge")
        _ip("-n", self.bridge, "link", "set", "br0", "up")

    def host(self, *, ipv6: bool = False, at: str | None = None) -> NamespaceHost:
        """A host in a fresh namespace.

        :param ipv6: what its ``address`` is; it has both.
        :param at: the address of a host that was removed, to take it over; default: the next free one.
        """
        self._count += 1
        host = NamespaceHost(f"{self.tag}-{self._count}", at or _address(self._count, ipv6), self)
        (_SETTINGS / host.name).mkdir(parents=True, exist_ok=True)
        self._write_names(host)
        _ip("netns", "add", host.name)
        _ip("-n", host.name, "link", "set", "lo", "up")
        _ip("-n", host.name, "link", "add", "eth0", "type", "veth", "peer", host.port, "netns", self.bridge)
        for address in {host.address, _address(self._count, False), _address(self._count, True)}:
            prefix, *options = ("/64", "nodad") if ":" in address else ("/24",)
            _ip("-n", host.name, "addr", "add", address + prefix, "dev", "eth0", *options)
        _ip("-n", host.name, "link", "set", "eth0", "up")
        _ip("-n", self.bridge, "link", "set", host.port, "master", "br0", "up")
        self._hosts.append(host)
        return host

    def remove(self, host: NamespaceHost) -> None:
        """Take a host and its link away, as a pod's namespace goes."""
        self._hosts.remove(host)
        # the link first: a namespace lives on as long as a process or socket is in it
        subprocess.run(["ip", "-n", self.bridge, "link", "delete", host.port], capture_output=True)
        subprocess.run(["ip", "netns", "delete", host.name], capture_output=True)
        shutil.rmtree(_SETTINGS / host.name, ignore_errors=True)

    def name(self, name: str, address: str) -> None:
        """Let ``name`` resolve to ``address`` on all hosts from now on."""
        self.names[name] = address
        for host in self._hosts:
            self._write_names(host)

    def _write_names(self, host: NamespaceHost) -> None:
        lines = ["127.0.0.1 localhost", "::1 localhost", *(f"{a} {n}" for n, a in self.names.items())]
        # written in place: `ip netns exec` has mounted this very file
        with open(_SETTINGS / host.name / "hosts", "w", encoding="utf-8") as f:
            f.write("\n".join(lines) + "\n")

    def close(self) -> None:
        for host in list(self._hosts):
            self.remove(host)
        subprocess.run(["ip", "netns", "delete", self.bridge], capture_output=True)


def _address(number: int, ipv6: bool) -> str:
    return f"fd77::{number:x}" if ipv6 else f"10.77.0.{number}"


def _on(switch: bool) -> str:
    return "on" if switch else "off"


@dataclass(frozen=True)
class NamespaceHost:
    """A network namespace with an interface on the network's bridge."""

    name: str
    address: str
    network: NamespaceNetwork

    @property
    def port(self) -> str:
        """The bridge's side of the host's link."""
        return f"v-{self.name.rpartition('-')[2]}"

    def command(self, argv: list[str]) -> list[str]:
        return ["ip", "netns", "exec", self.name, *argv]

    def link(self, *, up: bool) -> None:
        """Cut the host off, or connect it again. It notices nothing: what it sends vanishes, and nobody answers."""
        _ip("-n", self.network.bridge, "link", "set", self.port, *(("master", "br0") if up else ("nomaster",)))

    def isolate(self, isolated: bool) -> None:
        """Cut the host off from all others that are isolated, or connect it again. As with `link`, nobody notices."""
        _ip("-n", self.network.bridge, "link", "set", self.port, "type", "bridge_slave", "isolated", _on(isolated))

    def environment(self, directory: Path) -> dict[str, str]:
        return {"PYTHONDONTWRITEBYTECODE": "1"}

    async def connect(self, address: str, port: int) -> socket.socket:
        return await asyncio.to_thread(self._connect, address, port)

    def _connect(self, address: str, port: int) -> socket.socket:
        """Connect from the namespace: a socket belongs to the one its thread was in when it was made."""
        libc = ctypes.CDLL(None, use_errno=True)
        with open("/proc/thread-self/ns/net", "rb") as here, open(f"/run/netns/{self.name}", "rb") as there:
            if libc.setns(there.fileno(), _CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), f"setns to {self.name}")
            try:
                sock = socket.create_connection((address, port), timeout=3.0)
            finally:
                libc.setns(here.fileno(), _CLONE_NEWNET)
        sock.setblocking(False)
        return sock
