"""How soon somebody is noticed who has gone without a word, and dropped who is told to go and does not.

By the kernel: a link that is cut, a host that is gone. What still has a working kernel but does not answer, or is
behind a load balancer, is noticed by WebSocket pings.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from crossbar_cluster.core.limits import ConnectionLimits

#: Of clients, in the words of a web service's `options` (milliseconds): gone for 25 s at most. Whoever sends anything
#: need not answer.
PINGS = {"auto_ping_interval": 10_000, "auto_ping_timeout": 15_000, "auto_ping_restart_on_any_traffic": True}


@dataclass(frozen=True)
class Patience:
    """How long silence is borne. All of TCP's."""

    idle_s: int  #: until the other end is asked
    every_s: int  #: between further questions
    questions: int
    #: Sent data that is not acknowledged for so long ends the connection, too, as does a window that stays closed.
    unacknowledged_ms: int

    @property
    def options(self) -> tuple[tuple[int, int, int], ...]:
        """Of a socket."""
        return (
            (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
            (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, self.idle_s),
            (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, self.every_s),
            (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, self.questions),
            (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, self.unacknowledged_ms),
            # Not about silence, but wanted on the same connections: else a message waits for the acknowledgement of the
            # one before, which the other end puts off for 40 ms when it has nothing to send (measured: one event in a
            # hundred).
            (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
        )


#: With nodes.
NODES = Patience(idle_s=3, every_s=2, questions=3, unacknowledged_ms=8000)
#: With a router, once a client has joined there: one that reads in turns may keep its window closed for longer than
#: the above. Looks notice that it is gone. A router knows of proxies by nothing but their connections, and keeps to the
#: above: on Linux the time for what is unacknowledged is that of idle connections, too.
JOINED = replace(NODES, unacknowledged_ms=60000)
#: With clients, which may be on a train.
CLIENTS = Patience(idle_s=10, every_s=5, questions=3, unacknowledged_ms=25000)


def with_pings(config: Mapping[str, Any], limits: ConnectionLimits) -> dict[str, Any]:
    """The configuration of a WebSocket service with the options that notice who is gone, where it is silent on them."""
    closing = {"close_handshake_timeout": int(1000 * limits.leave_within_s)}
    return {**config, "options": {**PINGS, **closing, **config.get("options", {})}}


def keep_alive(transport: Any, patience: Patience = NODES) -> None:
    """Set the options on a connection with a node.

    :param transport: a Twisted transport; one without a TCP socket is left alone.
    """
    _set_options(_socket_of(transport), patience)


def inherit_keep_alive(port: Any, patience: Patience = NODES) -> Any:
    """Set them on a listening port: the connections that it accepts inherit them (Linux). :returns: the port."""
    _set_options(getattr(port, "socket", None), patience)
    return port


def _socket_of(transport: Any) -> Any:
    """With TLS it is that of a transport below: the handle of the one on top is OpenSSL's."""
    while transport is not None:
        handle = transport.getHandle() if hasattr(transport, "getHandle") else None
        if isinstance(handle, socket.socket):
            return handle
        transport = getattr(transport, "transport", None)
    return None


def _set_options(sock: Any, patience: Patience) -> None:
    if isinstance(sock, socket.socket) and sock.family in (socket.AF_INET, socket.AF_INET6):
        for level, option, value in patience.options:
            with suppress(OSError):  # the connection has ended
                sock.setsockopt(level, option, value)
