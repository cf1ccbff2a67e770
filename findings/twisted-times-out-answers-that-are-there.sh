#!/usr/bin/env bash
# Twisted 26.10.0: after the event loop was held up, time limits end waits for answers that have long arrived.
#
# Guess before the run: a time limit of 1 s on an answer that the kernel received after 0.3 s does not fire; the loop, once
# it turns again, finds the answer first, as that came first.
# Seen: if what held it up was the handling of another connection's data, the wait fails with TimeoutError, and the answer is
# read in the same turn, just after that: a turn runs the timers that are due before it looks at any socket. (If a timer
# held it up, the answer comes first: its turn goes on with the sockets.) So whoever ends others for not answering "in
# time" ends, after each large message of somebody, everybody whom it had asked. Ask first whether the own loop was late.
#
# Exits 1 when that has changed.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check 'twisted==26.10.0' 2>/dev/null

cat >"$work/stall.py" <<'PYTHON'
"""A client with a time limit on an answer; its own loop stops for longer than that, while the answer comes.

Once it is stopped by a timer, once by what comes on another connection.
"""

import platform
import sys
import threading
import time
from socket import create_server

import twisted
from twisted.internet import defer, endpoints, protocol, reactor, task

ANSWERS_AFTER_S, LIMIT_S, STALL_S = 0.3, 1.0, 2.0


def serve(listening, answered, stalls):
    """In a thread, so that the client's loop has no part in it. The second connection is the one that stalls it."""
    connection, _ = listening.accept()
    other, _ = listening.accept()
    connection.recv(100)
    if stalls:
        other.sendall(b"stall")
    time.sleep(ANSWERS_AFTER_S)
    connection.sendall(b"answer")
    answered.append(time.monotonic())
    connection.recv(100)


class Client(protocol.Protocol):
    def connectionMade(self):
        self.answer = defer.Deferred(canceller=lambda _: None)
        self.read_at = defer.Deferred()

    def dataReceived(self, data):
        self.read_at.callback(time.monotonic())
        if not self.answer.called:
            self.answer.callback(data)


class Other(protocol.Protocol):
    def dataReceived(self, data):
        time.sleep(STALL_S)  # as a large message is handled


async def asked(stalled_by):
    """:returns: what the wait for the answer ended with, and how long before that the answer was sent."""
    listening, answered = create_server(("127.0.0.1", 0)), []
    threading.Thread(target=serve, args=(listening, answered, stalled_by == "data"), daemon=True).start()
    endpoint = endpoints.TCP4ClientEndpoint(reactor, *listening.getsockname())
    client = await endpoint.connect(protocol.Factory.forProtocol(Client))
    await endpoint.connect(protocol.Factory.forProtocol(Other))
    client.transport.write(b"question")
    client.answer.addTimeout(LIMIT_S, reactor)
    if stalled_by == "timer":
        reactor.callLater(0.05, time.sleep, STALL_S)
    try:
        outcome = await client.answer
    except defer.TimeoutError as e:
        outcome = e
    ended_at = time.monotonic()
    read_at = await client.read_at
    listening.close()
    return outcome, ended_at - answered[0], read_at - ended_at


async def main(_):
    print(f"Twisted {twisted.__version__}, Python {platform.python_version()}")
    found = {stalled_by: await asked(stalled_by) for stalled_by in ("data", "timer")}
    for stalled_by, (outcome, early_s, later_s) in found.items():
        print(f"held up by {stalled_by}: the wait ended with {outcome!r}, {early_s:.1f} s after the answer was sent;", end=" ")
        print(f"the answer was read {1000 * max(0.0, later_s):.1f} ms after that")
    timed_out = isinstance(found["data"][0], defer.TimeoutError) and found["data"][1] > 1.0
    if not timed_out or found["timer"][0] != b"answer":
        print("this has changed")
        sys.exit(1)


task.react(lambda reactor: defer.ensureDeferred(main(reactor)))
PYTHON
"$work/venv/bin/python" "$work/stall.py"
