"""Make a process live at one address of the loopback network, as if it ran on a host of its own.

Owned by the lab, never active elsewhere: a generated ``sitecustomize`` calls `confine` in each process of a node (the
node passes its ``PYTHONPATH`` on to its workers). The released software listens on all interfaces; on one machine a
node's *former* address would then still answer, and a test of a moved router would prove nothing. Confined, a
listener is bound to the node's address only, connections leave from it, and names are looked up in the lab's own file.
"""

import json
import os
import socket
import time
from typing import Any

_WILDCARDS = ("", "0.0.0.0", "::")


def confine(address: str, names_file: str) -> None:
    """Confine the calling process.

    :param address: IPv4 address of 127.0.0.0/8.
    :param names_file: JSON file, host name to address, read at each look-up. Other names are looked up as usual.
    """
    bind, connect, connect_ex = socket.socket.bind, socket.socket.connect, socket.socket.connect_ex
    getaddrinfo, gethostbyname = socket.getaddrinfo, socket.gethostbyname

    def local(sock: socket.socket) -> str:
        return address if sock.family == socket.AF_INET else f"::ffff:{address}"

    def confined_bind(self: socket.socket, where: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6) and where[0] in _WILDCARDS:
            where = (local(self), *where[1:])
        bind(self, where)

    def leave_from_address(self: socket.socket, target: Any) -> None:
        if self.family == socket.AF_INET and str(target[0]).startswith("127.") and self.getsockname()[1] == 0:
            bind(self, (address, 0))

    def confined_connect(self: socket.socket, target: Any) -> None:
        leave_from_address(self, target)
        connect(self, target)

    def confined_connect_ex(self: socket.socket, target: Any) -> int:
        leave_from_address(self, target)
        return connect_ex(self, target)

    def look_up(name: Any) -> Any:
        if isinstance(name, bytes):
            name = name.decode("ascii", "replace")
        if not os.path.exists(names_file):
            return name
        with open(names_file, encoding="utf-8") as f:
            return json.load(f).get(name, name)

    def confined_getaddrinfo(host: Any, *args: Any, **kwargs: Any) -> Any:
        return getaddrinfo(look_up(host), *args, **kwargs)

    def confined_gethostbyname(host: Any) -> str:
        return gethostbyname(look_up(host))

    socket.socket.bind = confined_bind  # type: ignore[method-assign, assignment]
    socket.socket.connect = confined_connect  # type: ignore[method-assign, assignment]
    socket.socket.connect_ex = confined_connect_ex  # type: ignore[method-assign, assignment]
    socket.getaddrinfo = confined_getaddrinfo
    socket.gethostbyname = confined_gethostbyname


def step_clock(file: str) -> None:
    """Have the calling process's wall clock be off by what stands in a file, which may change at any time.

    :param file: seconds; not there: the clock is right. Monotonic clocks are left alone, as when the system's is set.
    """
    wall, wall_ns, monotonic = time.time, time.time_ns, time.monotonic
    known = {"off_s": 0.0, "until_s": 0.0}

    def off_s() -> float:
        if (now_s := monotonic()) >= known["until_s"]:
            try:
                with open(file, encoding="utf-8") as f:
                    known["off_s"] = float(f.read())
            except FileNotFoundError:
                known["off_s"] = 0.0
            known["until_s"] = now_s + 0.05
        return known["off_s"]

    time.time = lambda: wall() + off_s()
    time.time_ns = lambda: wall_ns() + int(off_s() * 1e9)
