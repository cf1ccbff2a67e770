#!/usr/bin/env bash
# Autobahn 26.10.2 (Twisted): a session that refuses its WELCOME stays connected, and is never told that it has not joined.
#
# ApplicationSession.onWelcome may return a text, which is the reason for which the WELCOME is refused (a router whose proof
# does not hold, say).
# Guess before the run: as with a router's ABORT, onLeave is called with that reason, and the transport is closed.
# Seen: the ABORT is sent; then nothing. onLeave, onDisconnect and onUserError are not called, and the transport stays open,
# so that whoever retries when a session ends waits for ever. A session that refuses has to disconnect by itself.
#
# Exits 1 when that has changed.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check 'autobahn==26.10.2' 'twisted==26.10.0' 2>/dev/null

cat >"$work/refusing.py" <<'PYTHON'
"""A session that refuses its WELCOME, at a server that keeps the connection as it is."""

import platform
import sys

import txaio

txaio.use_twisted()

import autobahn
import twisted
from autobahn.twisted.rawsocket import WampRawSocketClientFactory, WampRawSocketServerFactory
from autobahn.twisted.wamp import ApplicationSession
from autobahn.wamp import message, role
from autobahn.wamp.interfaces import ITransportHandler
from autobahn.wamp.serializer import CBORSerializer
from autobahn.wamp.types import ComponentConfig
from twisted.internet import defer, endpoints, reactor, task

WATCH_S = 3.0


class Server:
    """Answers HELLO by WELCOME, and notes what comes then."""

    _authid = _session_id = None

    def __init__(self):
        self.received, self.closed = [], False

    def onOpen(self, transport):
        self.transport = transport

    def onMessage(self, msg):
        if isinstance(msg, message.Hello):
            self.transport.send(message.Welcome(1, {"broker": role.RoleBrokerFeatures()}, realm="realm1"))
        else:
            self.received.append(type(msg).__name__.upper())

    def onClose(self, was_clean):
        self.closed = True


ITransportHandler.register(Server)


class Refusing(ApplicationSession):
    def __init__(self):
        super().__init__(ComponentConfig("realm1"))
        self.told = []

    def onWelcome(self, welcome):
        return "not the router that is meant"

    def onJoin(self, details):
        self.told.append("onJoin")

    def onLeave(self, details):
        self.told.append("onLeave")

    def onDisconnect(self):
        self.told.append("onDisconnect")

    def onUserError(self, fail, msg):
        self.told.append("onUserError")


async def main(_):
    print(f"autobahn {autobahn.__version__}, Twisted {twisted.__version__}, Python {platform.python_version()}")
    server, session = Server(), Refusing()
    port = await endpoints.TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(
        WampRawSocketServerFactory(lambda: server, [CBORSerializer()])
    )
    client = WampRawSocketClientFactory(lambda: session, CBORSerializer())
    await endpoints.TCP4ClientEndpoint(reactor, "127.0.0.1", port.getHost().port).connect(client)
    await task.deferLater(reactor, WATCH_S)
    told, closed = list(session.told), server.closed
    print(f"the server has received {server.received}; its connection is {'closed' if closed else 'open'}")
    print(f"the session was told: {told or 'nothing'}; it is {'attached' if session.is_attached() else 'not attached'}")
    if server.received != ["ABORT"] or closed or told:
        print("this has changed")
        sys.exit(1)


task.react(lambda reactor: defer.ensureDeferred(main(reactor)))
PYTHON
"$work/venv/bin/python" "$work/refusing.py" 2>/dev/null
