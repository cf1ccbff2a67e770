"""What must be so before anything is started: this system, its memory, its ports."""

from __future__ import annotations

import errno
import socket
import sys
from collections.abc import Iterable
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from crossbar_cluster.lab.cluster import crossbar_command
from crossbar_cluster.lab.process import ProcessFailed
from crossbar_cluster.overlay.errors import UnsupportedRelease
from crossbar_cluster.overlay.installer import check_release

#: Measured: the demo's nine processes share little and come to 0.93 GB together (sum of PSS) while the router boots.
NEEDED_MB = 1100

#: Longest path of a Unix domain socket, see unix(7).
_SOCKET_PATH_MAX = 107
_CGROUP = Path("/sys/fs/cgroup")


class CannotStart(RuntimeError):
    """The demo cannot run here. The message says why, and what to do."""


def check_machine() -> None:
    """Look at system, memory and installation. :raises CannotStart:"""
    if not sys.platform.startswith("linux"):
        raise CannotStart(
            f"The demo needs Linux, where every address of 127.0.0.0/8 is this machine; this is {sys.platform}."
        )
    try:
        crossbar_command()
        check_release()
    except (ProcessFailed, UnsupportedRelease) as e:
        raise CannotStart(str(e)) from e
    free_mb = free_memory_mb()
    if free_mb < NEEDED_MB:
        raise CannotStart(
            f"The demo needs {NEEDED_MB} MB of free memory for nine processes; {free_mb} MB are free here."
        )


def check_directory(directory: Path) -> None:
    """See that nodes can have their Unix domain sockets below ``directory``. :raises CannotStart:"""
    longest = len(str(directory / "master" / ".crossbar" / "sock1").encode())
    if longest > _SOCKET_PATH_MAX:
        raise CannotStart(
            f"{directory} is {longest - _SOCKET_PATH_MAX} characters too long a path for the nodes' sockets.\n"
            "Use a shorter directory for temporary files: TMPDIR=/tmp crossbar-cluster demo"
        )


def free_memory_mb() -> int:
    """Memory that new processes can have: what the machine has left, or this control group if that is less."""
    free = int(psutil.virtual_memory().available)
    for limit, used, stat, cache in _cgroup_files():
        try:
            text = limit.read_text().strip()
            if text == "max":
                continue
            counters = dict(line.split() for line in stat.read_text().splitlines())
            free = min(free, int(text) - int(used.read_text()) + int(counters.get(cache, 0)))
        except (OSError, ValueError):
            continue
    return max(0, free) // 2**20


def _cgroup_files() -> Iterable[tuple[Path, Path, Path, str]]:
    """Files with limit, use and statistics of this process's memory, and the counter of what can be reclaimed."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        # inside a container the path is often the host's, and the container's own group is mounted at the top
        if not controllers:
            for group in (_CGROUP / path.lstrip("/"), _CGROUP):
                yield group / "memory.max", group / "memory.current", group / "memory.stat", "inactive_file"
        elif "memory" in controllers.split(","):
            for group in (_CGROUP / "memory" / path.lstrip("/"), _CGROUP / "memory"):
                limit, used = group / "memory.limit_in_bytes", group / "memory.usage_in_bytes"
                yield limit, used, group / "memory.stat", "total_inactive_file"


def check_listeners(listeners: Iterable[tuple[str, str, range]]) -> None:
    """See that every node can listen where it has to.

    :param listeners: node name, address, and the ports of which it takes the first free one.
    :raises CannotStart: naming the port, and who has it if that can be known.
    """
    for node, address, ports in listeners:
        for port in ports:
            error = _bind_error(address, port)
            if error is None:
                break
            if error.errno != errno.EADDRINUSE:
                raise CannotStart(f"{node} cannot listen at {address}:{port}: {error.strerror}.")
        else:
            which = f"{ports[0]}" if len(ports) == 1 else f"{ports[0]} to {ports[-1]}"
            raise CannotStart(
                f"Port {which} is in use: {node} cannot listen at {address}:{ports[0]}.\n{_holder(ports[0])}"
            )


def _bind_error(address: str, port: int) -> OSError | None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the nodes do; a listener is still in the way
        try:
            sock.bind((address, port))
        except OSError as e:
            return e
    return None


def _holder(port: int) -> str:
    """A sentence on who listens on ``port``."""
    unknown = f"Who has it is not to be seen without root: try  sudo ss -ltnp 'sport = :{port}'"
    try:
        found = [c for c in psutil.net_connections("tcp") if c.status == psutil.CONN_LISTEN and c.laddr.port == port]
    except (psutil.Error, OSError):
        return unknown
    # a listener on all addresses is the one that can be in the way
    for connection in sorted(found, key=lambda c: c.laddr.ip not in ("0.0.0.0", "::")):
        where = f"{connection.laddr.ip}:{port}"
        if connection.pid is None:
            return f"Something of another user listens at {where}. {unknown}"
        try:
            name = psutil.Process(connection.pid).name()
        except psutil.Error:
            name = "a process"
        return f"It is taken by {name} (process {connection.pid}), which listens at {where}. Stop that one first."
    return unknown
