"""How soon the kernel notices that the other end of a connection has gone without a word (a link that is cut, a host
that is gone). What still has a working kernel but does not answer is not noticed this way.
"""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import Any

IDLE_S = 3  #: of silence, until the other end is asked
EVERY_S = 2  #: between further questions
QUESTIONS = 3
#: Sent data that is not acknowledged for so long ends the connection, too.
UNACKNOWLEDGED_MS = 8000

_OPTIONS = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, IDLE_S),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, EVERY_S),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, QUESTIONS),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNACKNOWLEDGED_MS),
    # Not about silence, but wanted on the same connections: else a message waits for the acknowledgement of the one
    # before, which the other end puts off for 40 ms when it has nothing to send (measured: one event in a hundred).
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
)


def keep_alive(transport: Any) -> None:
    """Set the options on a connection.

    :param transport: a Twisted transport; one without a TCP socket is left alone.
    """
    _set_options(_socket_of(transport))


def inherit_keep_alive(port: Any) -> Any:
    """Set them on a listening port: the connections that it accepts inherit them (Linux). :returns: the port."""
    _set_options(getattr(port, "socket", None))
    return port


def _socket_of(transport: Any) -> Any:
    """With TLS it is that of a transport below: the handle of the one on top is OpenSSL's."""
    while transport is not None:
        handle = transport.getHandle() if hasattr(transport, "getHandle") else None
        if isinstance(handle, socket.socket):
            return handle
        transport = getattr(transport, "transport", None)
    return None


def _set_options(sock: Any) -> None:
    if isinstance(sock, socket.socket) and sock.family in (socket.AF_INET, socket.AF_INET6):
        for level, option, value in _OPTIONS:
            with suppress(OSError):  # the connection has ended
                sock.setsockopt(level, option, value)
