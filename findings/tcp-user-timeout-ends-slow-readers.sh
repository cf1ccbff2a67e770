#!/usr/bin/env bash
# Twisted 26.10.0 on Linux: TCP_USER_TIMEOUT, set to notice peers that are gone, ends a peer that is there and only does not read.
#
# Guess before the run: the peer's kernel goes on answering the probes of a closed window, so the connection is alive
# and stays; only a peer whose host is gone is given up.
# Seen: it ends, not much later than the timeout after the peer's window has closed, and Twisted reports ConnectionLost()
# without any reason, as for a host that is gone. With TCP keepalive alone it stays. tcp(7) has it in half a sentence. So
# whoever answers a slow consumer by no longer reading from its producer has to resume within that time, or the producer's
# connection is gone.
#
# Exits 1 when that has changed.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check 'twisted==26.10.0' 2>/dev/null

cat >"$work/slow_reader.py" <<'PYTHON'
"""A server that writes to a client which is alive and does not read, with and without TCP_USER_TIMEOUT."""

import platform
import socket
import sys

import twisted
from twisted.internet import defer, endpoints, error, protocol, reactor, task

TIMEOUT_MS = 3000
WATCH_S = 9.0
MUCH = b"x" * 2**24  # more than the buffers of both ends hold


class Server(protocol.Protocol):
    def connectionMade(self):
        sock = self.transport.getHandle()
        self.transport.setTcpKeepAlive(True)
        if self.factory.timeout_ms:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, self.factory.timeout_ms)
        self.began = reactor.seconds()
        self.transport.write(MUCH)

    def connectionLost(self, reason):
        self.factory.ended.append((reactor.seconds() - self.began, reason.value))


class Client(protocol.Protocol):
    def connectionMade(self):
        self.transport.pauseProducing()  # it lives, and its kernel answers; it only reads nothing


async def ended(timeout_ms):
    """How long the connection lasted, and how it ended; None: it was still there after WATCH_S."""
    factory = protocol.Factory.forProtocol(Server)
    factory.timeout_ms, factory.ended = timeout_ms, []
    port = await endpoints.TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(factory)
    client = endpoints.TCP4ClientEndpoint(reactor, "127.0.0.1", port.getHost().port)
    await client.connect(protocol.Factory.forProtocol(Client))
    await task.deferLater(reactor, WATCH_S)
    await port.stopListening()
    return factory.ended[0] if factory.ended else None


async def main(_):
    print(f"Twisted {twisted.__version__}, Python {platform.python_version()}, Linux {platform.release().split('-')[0]}")
    without, with_it = await ended(0), await ended(TIMEOUT_MS)
    print(f"keepalive alone: {without or f'still there after {WATCH_S:.0f} s'}")
    print(f"TCP_USER_TIMEOUT {TIMEOUT_MS} ms:", f"{with_it[0]:.1f} s, {with_it[1]!r}" if with_it else "still there")
    if without is not None or with_it is None or not isinstance(with_it[1], error.ConnectionLost):
        print("this has changed")
        sys.exit(1)


task.react(lambda reactor: defer.ensureDeferred(main(reactor)))
PYTHON
"$work/venv/bin/python" "$work/slow_reader.py"
