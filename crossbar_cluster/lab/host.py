"""Where a node of the lab lives: an address of its own, on the loopback network or in a network namespace.

A host knows how to start a process on itself and how to open a connection from itself; it knows nothing of Crossbar.io.
"""

from __future__ import annotations

import asyncio
import json
import random
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol


class Host(Protocol):
    """What the lab needs of a host."""

    @property
    def address(self) -> str:
        """The host's address, as other hosts reach it."""

    def command(self, argv: list[str]) -> list[str]:
        """``argv`` so that it runs on this host."""

    def environment(self, directory: Path) -> dict[str, str]:
        """Environment variables a process of this host needs. ``directory`` is the node's own, for generated files."""

    async def connect(self, address: str, port: int) -> socket.socket:
        """A connected, non-blocking TCP socket from this host. :raises OSError: as ``connect(2)``."""


@dataclass
class LoopbackNetwork:
    """A network of its own in 127.0.0.0/8, picked at random so that several labs run side by side without root."""

    directory: Path
    prefix: str = field(default_factory=lambda: f"127.{random.randint(16, 250)}.{random.randint(1, 250)}")

    clocks: bool = False  #: each node has a wall clock of its own, which can be set (`LoopbackHost.clock`)

    def __post_init__(self) -> None:
        self._free: Iterator[int] = iter(range(1, 255))
        self.names: dict[str, str] = {}

    @property
    def names_file(self) -> Path:
        """The lab's host names: JSON, name to address, read by confined processes at each look-up."""
        return self.directory / "names.json"

    def host(self) -> LoopbackHost:
        """A host at the next free address."""
        return LoopbackHost(f"{self.prefix}.{next(self._free)}", self)

    def name(self, name: str, address: str) -> None:
        """Let ``name`` resolve to ``address`` from now on."""
        self.names[name] = address
        written = self.names_file.with_suffix(".new")
        written.write_text(json.dumps(self.names))
        written.replace(self.names_file)


@dataclass(frozen=True)
class LoopbackHost:
    """A host at one address of 127.0.0.0/8: its processes are confined to it (see `confine`)."""

    address: str
    network: LoopbackNetwork

    def command(self, argv: list[str]) -> list[str]:
        return argv

    @staticmethod
    def clock(directory: Path) -> Path:
        """The file with the seconds that a node's wall clock is off, where the network has such `clocks`."""
        return directory / "clock"

    def environment(self, directory: Path) -> dict[str, str]:
        site = directory / "site"
        site.mkdir(parents=True, exist_ok=True)
        clock = f"step_clock({str(self.clock(directory))!r})\n" if self.network.clocks else ""
        (site / "sitecustomize.py").write_text(
            "from crossbar_cluster.lab.census import answer_census\n"
            "from crossbar_cluster.lab.confine import confine, step_clock\n\n"
            f"confine({self.address!r}, {str(self.network.names_file)!r})\n"
            f"answer_census({str(site)!r})\n{clock}"
        )
        return {"PYTHONPATH": str(site), "PYTHONDONTWRITEBYTECODE": "1"}

    async def connect(self, address: str, port: int) -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        sock.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(sock, (address, port))
        except BaseException:
            sock.close()
            raise
        return sock
