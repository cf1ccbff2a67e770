#!/usr/bin/env bash
# Autobahn 26.10.2 (Twisted): a RawSocket transport that was told to close goes on taking messages, and they arrive.
#
# Guess before the run: after close(), isOpen() is false and send() raises TransportLost, as a transport that is closing
# carries nothing any more.
# Seen: while the peer has not read what was sent before, isOpen() is true, send() takes messages without a word, and the
# peer gets them, after the close. So whoever is sent to faster than it reads is never rid of its connection by close(): that
# takes abort(), or no longer sending. And "is it open, then send" does not tell a router that the session is over.
#
# Exits 1 when that has changed.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check 'autobahn==26.10.2' 'twisted==26.10.0' \
    2>/dev/null

cat >"$work/closing.py" <<'PYTHON'
"""Two ends in one process; the server's transport is closed while much is still to be sent to a client that does not read."""

import platform
import sys

import txaio

txaio.use_twisted()

import autobahn
import twisted
from autobahn.twisted.rawsocket import WampRawSocketClientFactory, WampRawSocketServerFactory
from autobahn.wamp import message
from autobahn.wamp.interfaces import ITransportHandler
from autobahn.wamp.serializer import CBORSerializer
from twisted.internet import defer, endpoints, reactor, task

LARGE = "x" * 2**22
BEFORE = 4


class Session:
    """Has what a transport asks of a session, and keeps the transport."""

    _authid = _session_id = None

    def __init__(self):
        self.opened, self.gone = defer.Deferred(), defer.Deferred()
        self.received = []

    def onOpen(self, transport):
        self.transport = transport
        self.opened.callback(transport)

    def onMessage(self, msg):
        self.received.append(msg.publication)

    def onClose(self, was_clean):
        self.gone.callback(None)


ITransportHandler.register(Session)


async def main(_):
    print(f"autobahn {autobahn.__version__}, Twisted {twisted.__version__}, Python {platform.python_version()}")
    server_session, client_session = Session(), Session()
    server = WampRawSocketServerFactory(lambda: server_session, [CBORSerializer()])
    client = WampRawSocketClientFactory(lambda: client_session, CBORSerializer())
    port = await endpoints.TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(server)
    await endpoints.TCP4ClientEndpoint(reactor, "127.0.0.1", port.getHost().port).connect(client)
    transport, other = await server_session.opened, await client_session.opened
    other.transport.pauseProducing()  # the peer is there, and does not read yet
    for publication in range(1, BEFORE + 1):
        transport.send(message.Event(1, publication, args=[LARGE]))
    transport.close()
    await task.deferLater(reactor, 0.5)
    is_open = transport.isOpen()
    try:
        transport.send(message.Event(1, BEFORE + 1))
        became = "taken"
    except Exception as e:
        became = type(e).__name__
    other.transport.resumeProducing()
    await client_session.gone
    print(f"after close(): isOpen() is {is_open}; a message that is sent: {became}")
    print(f"sent before close(): {list(range(1, BEFORE + 1))}, after it: [{BEFORE + 1}]; arrived: {client_session.received}")
    if not is_open or became != "taken" or client_session.received != list(range(1, BEFORE + 2)):
        print("this has changed")
        sys.exit(1)


task.react(lambda reactor: defer.ensureDeferred(main(reactor)))
PYTHON
"$work/venv/bin/python" "$work/closing.py" 2>/dev/null
