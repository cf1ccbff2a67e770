"""A node's connection to its master: made, watched, made again for as long as the node runs.

Owns when and where the node connects. Started when the node boots; stands where the release has an `ApplicationRunner`
and is used like one (`run`, `stop`). Its work ends when a session has joined: what goes over the connection is
`crossbar_cluster.node.bridge`'s.

Unlike the release's runner it waits 5 s at most before the next attempt, notices a master that is silently gone,
turns to the address in CROSSBAR_FABRIC_URL when the one it has does not answer (an activation file has precedence over
that variable and is never rewritten, so a master that has moved would not be found), and waits when the master does not
know the node yet.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, cast

from autobahn.twisted.websocket import WampWebSocketClientFactory
from autobahn.wamp.types import ComponentConfig
from autobahn.websocket.compress import (
    PerMessageDeflateOffer,
    PerMessageDeflateResponse,
    PerMessageDeflateResponseAccept,
)
from autobahn.websocket.util import parse_url
from twisted.application.internet import ClientService
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred, succeed
from twisted.internet.endpoints import HostnameEndpoint, TCP4ClientEndpoint, wrapClientTLS
from twisted.internet.interfaces import IProtocolFactory, IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.internet.ssl import optionsForClientTLS
from twisted.logger import ILogObserver, Logger
from twisted.python.failure import Failure
from txaio import make_logger
from zope.interface import implementer  # type: ignore[import-untyped]

from crossbar_cluster.core.metrics import METRICS, UPLINK_CONNECTS, UPLINK_IMPOSTORS
from crossbar_cluster.core.news import Seldom
from crossbar_cluster.core.rights import ALREADY_CONNECTED, UNPAIRED
from crossbar_cluster.node.pairing_offer import has_token
from crossbar_cluster.node.pings import PING_ANSWER_WITHIN_S, PING_EVERY_S

URL_VARIABLE = "CROSSBAR_FABRIC_URL"
FIRST_DELAY_S = 0.5
DELAY_AT_MOST_S = 5.0
DELAY_GROWTH = 1.5
JITTER = 0.2  #: share of the delay, either way
CONNECT_WITHIN_S = 5.0
JOIN_WITHIN_S = 15.0  #: from the connection until a session has joined
REMIND_AFTER_S = 60.0
TROUBLE_AT_MOST = 300  #: characters of why a connection fails
MESSAGE_AT_MOST = 2**20  #: bytes, as the release's listener takes them


class Backoff:
    """Delays that grow and vary: 0.5 s, times 1.5 each time, 5 s at most with jitter and all."""

    def __init__(self, vary: Callable[[float, float], float] = random.uniform) -> None:
        self._vary = vary
        self._failures = 0

    def reset(self) -> None:
        self._failures = 0

    def next_s(self) -> float:
        highest = DELAY_AT_MOST_S / (1 + JITTER)
        delay = min(FIRST_DELAY_S * DELAY_GROWTH ** min(self._failures, 50), highest)
        self._failures += 1
        return delay * self._vary(1 - JITTER, 1 + JITTER)


@dataclass
class Address:
    """Where a master may be."""

    url: str
    endpoint: Any  #: IStreamClientEndpoint
    factory: Any = None  #: of WebSocket protocols that speak to this URL


@dataclass
class Uplink:
    """Keeps a connection to the master, with one session of ``make`` at a time.

    :ivar urls: where the master may be; the first has precedence.
    :ivar public_key: the node's, hexadecimal, for the operator who has to pair it.
    :ivar tls: what to demand of a master's certificate; None: that it is for the URL's host.
    """

    urls: tuple[str, ...]
    public_key: str
    reactor: Any
    tls: Any = None
    log: Any = field(default_factory=make_logger)
    backoff: Backoff = field(default_factory=Backoff)

    def __post_init__(self) -> None:
        self.addresses = [Address(url, endpoint_of(url, self.reactor, self.tls)) for url in self.urls]
        self._at = 0  # which of them is tried now
        self._joined = False  # the present connection, or the one that has just ended, has had its session joined
        self.joined_s = float("-inf")  #: when a session has joined last, in the reactor's time
        self._trouble = ""  # why the last attempt failed
        self._distrust = ""  # whoever answers does not prove to be the master: why, and what to do
        self._refusal = ""  # the master answered that it does not know the node: in its words
        self._told = Seldom(REMIND_AFTER_S)  # what the operator was told
        self._session: Any = None
        self._service: ClientService | None = None
        self._joining: Any = None  # IDelayedCall: ends the present connection, unless a session joins

    # -- what the release's node calls ------------------------------------------------------------------------------

    def run(self, make: Callable[[Any], Any], start_reactor: bool, auto_reconnect: bool) -> Deferred[Any]:
        """Begin to connect. :returns: fires with the first connection, or with None when stopped before that."""
        for address in self.addresses:
            address.factory = websocket_factory(lambda: self._new_session(make), address.url)
        dialler, protocols = cast(IStreamClientEndpoint, _Dialler(self)), cast(IProtocolFactory, _Protocols(self))
        self._service = _ClientService(dialler, protocols, lambda _: self._pause_s(), clock=self.reactor)
        self._service.startService()
        self.reactor.addSystemEventTrigger("before", "shutdown", self._say_goodbye)
        connected: Deferred[Any] = self._service.whenConnected()
        connected.addErrback(_unless_stopped)
        return connected

    def stop(self) -> Deferred[Any]:
        """Drop the connection and make no other."""
        return self._service.stopService() if self._service else succeed(None)

    # -- what its sessions tell -------------------------------------------------------------------------------------

    def joined(self) -> None:
        """The session has joined: the master is there, and knows the node."""
        if self._told.forget():
            self.log.info("Joined the master at {url}", url=self.address.url)
        self._cancel_joining()
        self._joined = True
        self.joined_s = self.reactor.seconds()
        self.backoff.reset()

    def unpaired(self, why: str | None) -> None:
        """The master has refused the session: it does not know the node. :param why: in the master's words."""
        self._refusal = why or "it does not know this node"

    def distrusted(self, why: str) -> None:
        """Whoever answers has been refused: it does not prove to be the master. :param why: and what to do."""
        self._distrust = self._distrust or why

    # -- attempts ---------------------------------------------------------------------------------------------------

    @property
    def address(self) -> Address:
        return self.addresses[self._at]

    def dial(self, factory: Any) -> Deferred[Any]:
        """One attempt at the present address. :param factory: of protocols."""
        connecting: Deferred[Any] = self.address.endpoint.connect(factory)
        connecting.addErrback(self._note)
        return connecting

    def connected(self, protocol: Any) -> None:
        """Whoever answers has a limited time to let the node in. :param protocol: of the connection to it."""
        self._cancel_joining()
        self._joining = self.reactor.callLater(JOIN_WITHIN_S, self._not_joined, protocol)

    def _not_joined(self, protocol: Any) -> None:
        self._joining = None
        self._trouble = f"it did not let this node in within {JOIN_WITHIN_S:.0f} s"
        if protocol.transport is not None:
            protocol.transport.abortConnection()

    def _cancel_joining(self) -> None:
        if self._joining is not None:
            self._joining.cancel()
            self._joining = None

    def _note(self, failure: Any) -> Any:
        self._trouble = _in_one_line(failure)
        return failure

    def _pause_s(self) -> float:
        """An attempt has failed or a connection ended: say so once, choose the next address. :returns: seconds."""
        self._cancel_joining()
        if self._joined:
            self._joined = False
            self.log.warn("The connection to the master at {url} is lost: connecting again", url=self.address.url)
        else:
            self._tell_why()
            self._turn()
        self._distrust = self._refusal = self._trouble = ""
        return self.backoff.next_s()

    @property
    def _why(self) -> str:
        if self._distrust:
            return "does not prove to be this node's master"
        if self._refusal:
            return "does not know this node"
        return f"does not answer ({self._trouble or 'the connection ended before the node had joined'})"

    def _tell_why(self) -> None:
        if self._distrust:
            self._tell(
                ("distrusted", self._distrust),
                "Whoever answers at {url} does not prove to be this node's master, and gets nothing from it: {why}.",
                why=self._distrust,
            )
        elif self._refusal and has_token():
            self._tell(
                ("unpaired", self._refusal),
                "This node is not paired: the master at {url} does not take its pairing token: {why}. It tries again "
                "and again.",
                why=self._refusal.rstrip("."),
            )
        elif self._refusal:
            self._tell(
                "unpaired",
                "This node is not paired: the master at {url} does not know its public key {key}. It waits, and joins "
                "as soon as it is paired: `crossbar-cluster pair {key} <name>`, or put its "
                "key.pub below the directory that the master watches (CROSSBAR_WATCH_TO_PAIR).",
                key=self.public_key,
            )
        elif self._at == len(self.addresses) - 1:
            self._tell("unanswered", "The master at {url} {why}; trying again and again", why=self._why)

    def _turn(self) -> None:
        was, why = self.address, self._why
        self._at = (self._at + 1) % len(self.addresses)
        if self._at:
            text = "The master at {was} {why}; trying {url} from {variable}"
            self._tell("turned", text, was=was.url, why=why, variable=URL_VARIABLE)

    def _tell(self, what: Hashable, text: str, **values: Any) -> None:
        """Warn, and remind once a minute for as long as nothing has joined."""
        if self._told.due(what, self.reactor.seconds()):
            self.log.warn(text, url=self.address.url, **values)

    # -- sessions ---------------------------------------------------------------------------------------------------

    def _new_session(self, make: Callable[[Any], Any]) -> Any:
        self._session = make(ComponentConfig(realm=None, extra={}))
        return self._session

    def _say_goodbye(self) -> Deferred[Any]:
        """The node ends: leave, so that the master need not find out, and do not come back while workers end."""
        there = self._session is not None and self._session.is_attached()
        leaving: Deferred[Any] = maybeDeferred(self._session.leave) if there else succeed(None)
        return leaving.addBoth(lambda _: self.stop())


def _in_one_line(failure: Any) -> str:
    """What a failure says, for people. One that is about another failure has that one's traceback in its text."""
    causes = [arg for arg in failure.value.args if isinstance(arg, Failure)]
    text = _in_one_line(causes[0]) if causes else failure.getErrorMessage()
    return " ".join(text.split())[:TROUBLE_AT_MOST]


def uplink_in_place_of(runner: Any, node: Any) -> Any:
    """What a node uses instead of the release's runner: to the same address, or else to CROSSBAR_FABRIC_URL's.

    A RawSocket URL, which only a node's own configuration can hold, is left to the release.
    """
    if not runner.url.startswith("ws"):
        return runner
    configured = os.environ.get(URL_VARIABLE, "").strip()
    urls = (runner.url, configured) if configured not in ("", runner.url) else (runner.url,)
    return Uplink(urls, node.secmod[1].public_key(binary=False), node._reactor, runner.ssl)


def tell_joined(runner: Any) -> None:
    """The session of a node's runner has joined."""
    METRICS.count(UPLINK_CONNECTS)
    if isinstance(runner, Uplink):
        runner.joined()


def can_wait(runner: Any, reason: str, message: str | None) -> bool:
    """Whether a node whose session was refused for ``reason`` goes on trying without a word to the rest of the node."""
    if not isinstance(runner, Uplink):
        return False
    if reason == UNPAIRED:
        runner.unpaired(message)
    return reason in (UNPAIRED, ALREADY_CONNECTED)


def tell_distrusted(runner: Any, log: Any, why: str, impostor: bool = True) -> None:
    """Whoever answers to a node's runner does not prove to be its master.

    :param impostor: it is not the node's own trouble that this is so.
    """
    if impostor:
        METRICS.count(UPLINK_IMPOSTORS)
    if isinstance(runner, Uplink):
        runner.distrusted(why)
    else:
        log.warn("Whoever answers does not prove to be this node's master, and gets nothing from it: {why}.", why=why)


def endpoint_of(url: str, reactor: Any, tls: Any = None) -> Any:
    """An endpoint for a WebSocket URL; looks its host name up at every connect, IPv4 and IPv6 alike."""
    secure, host, port, *_ = parse_url(url)
    if "_" in host:  # docker-compose hands such names out; HostnameEndpoint takes them for invalid
        plain: Any = TCP4ClientEndpoint(reactor, host, port, timeout=CONNECT_WITHIN_S)
    else:
        plain = HostnameEndpoint(reactor, host, port, timeout=CONNECT_WITHIN_S)
    return wrapClientTLS(tls or optionsForClientTLS(host), plain) if secure else plain


def websocket_factory(new_session: Callable[[], Any], url: str) -> Any:
    """Protocols that speak WAMP to ``url``: as the release's, with pings that notice a silent loss soon."""
    factory = WampWebSocketClientFactory(new_session, url=url)
    factory.noisy = False
    factory.setProtocolOptions(
        autoPingInterval=PING_EVERY_S,
        autoPingTimeout=PING_ANSWER_WITHIN_S,
        autoPingRestartOnAnyTraffic=True,
        openHandshakeTimeout=5,  # seconds: a master that all its nodes come back to at once is slow to answer
        closeHandshakeTimeout=1,
        serverConnectionDropTimeout=1,
        failByDrop=True,
        tcpNoDelay=True,
        maxFramePayloadSize=MESSAGE_AT_MOST,
        maxMessagePayloadSize=MESSAGE_AT_MOST,
        autoFragmentSize=2**16,
        perMessageCompressionOffers=[PerMessageDeflateOffer()],
        perMessageCompressionAccept=_accept_compression,
    )
    return factory


def _unless_stopped(failure: Any) -> None:
    failure.trap(CancelledError)


def _accept_compression(response: Any) -> Any:
    return PerMessageDeflateResponseAccept(response) if isinstance(response, PerMessageDeflateResponse) else None


class _ClientService(ClientService):
    """Connects again and again. Its own log has a line for each attempt; the uplink says what matters of them."""

    _log = Logger(observer=cast(ILogObserver, lambda event: None))


@implementer(IStreamClientEndpoint)
class _Dialler:
    """The endpoint of whichever address is to be tried now."""

    def __init__(self, uplink: Uplink) -> None:
        self._uplink = uplink

    def connect(self, protocolFactory: Any) -> Deferred[Any]:
        return self._uplink.dial(protocolFactory)


class _Protocols(Factory):
    """The protocols for whichever address has been connected to."""

    noisy = False

    def __init__(self, uplink: Uplink) -> None:
        self._uplink = uplink

    def buildProtocol(self, addr: Any) -> Any:
        protocol = self._uplink.address.factory.buildProtocol(addr)
        self._uplink.connected(protocol)
        return protocol
