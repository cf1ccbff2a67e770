"""A free port is looked for in the address family of the interface that is asked for."""

import socket

from crossbar_cluster.overlay import Record

FREE_PORT = Record(
    target="crossbar._util:first_free_tcp_port",
    kind="wrap",
    members=("first_free_tcp_port",),
    why="The release looks for a free port in IPv4 only: on an IPv6 interface it finds none.",
    retire="When the release looks for free ports on IPv6 interfaces.",
    reason="A module function that the listening code has imported by name.",
)


@FREE_PORT
def first_free_tcp_port(wrapped, instance, args, kwargs):
    return _first_free(wrapped, *args, **kwargs)


def _first_free(wrapped, host="127.0.0.1", portrange=(1024, 65535)):
    if ":" not in host:
        return wrapped(host, portrange)
    for port in range(portrange[0], portrange[1] + 1):
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as sock:
            try:
                sock.bind((host, port))
            except OSError:
                continue
            return port
    raise OSError(f"no free port on [{host}] from {portrange[0]} to {portrange[1]}")
