"""The HTTP side of a node's health: where it listens, and how answers are written.

Listens when the node starts. A port that cannot be had keeps no node from its work, which is to serve a cluster: it is
told once as an error, and tried again until it can. (After a restart it may be the former process that still has it.)
"""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site

from crossbar_cluster.node.newcomers import GuardedFactory, NewcomersGuard

RETRY_S = 5.0
NO_IPV6 = "0.0.0.0"
#: A probe's connection: how long it may take to ask, and to ask again.
ASK_WITHIN_S = 10.0
#: Connections at once: the oldest gives way. The process has other work, and needs its descriptors for that.
CONNECTIONS = 32


@dataclass(frozen=True)
class Response:
    """An answer to a request."""

    status: int
    body: bytes
    content_type: str

    @classmethod
    def of(cls, status: int, document: Any) -> Response:
        """A JSON document."""
        return cls(status, json.dumps(document, indent=1).encode() + b"\n", "application/json")


#: Answers a request. :param: its Accept header.
Handler = Callable[[str], Coroutine[Any, Any, Response]]


class _Probe(Resource):
    isLeaf = True

    def __init__(self, handler: Handler, log: Any) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._handler = handler
        self._log = log

    def render_GET(self, request: Any) -> int:
        accept = ", ".join(request.requestHeaders.getRawHeaders("accept") or [])
        gone: list[Any] = []
        request.notifyFinish().addErrback(gone.append)
        answering = Deferred.fromCoroutine(self._handler(accept))
        answering.addErrback(self._failed)
        answering.addCallback(_write, request, gone)
        return NOT_DONE_YET

    def _failed(self, failure: Any) -> Response:
        self._log.failure("A probe could not be answered", failure=failure)
        return Response.of(500, {"error": failure.getErrorMessage()})


def _write(response: Response, request: Any, gone: list[Any]) -> None:
    """:param gone: not empty: whoever has asked is not there any more."""
    if gone:
        return
    request.setResponseCode(response.status)
    request.setHeader(b"content-type", response.content_type.encode())
    request.setHeader(b"cache-control", b"no-store")
    request.setHeader(b"content-length", str(len(response.body)).encode())
    if request.method != b"HEAD":
        request.write(response.body)
    request.finish()


class _Site(Site):
    """Without a log line for each probe."""

    noisy = False

    def log(self, request: Any) -> None:
        pass


class HealthServer:
    """:param handlers: path, without the slash -> what answers.
    :param address: where to listen; None: on all interfaces, IPv6 and IPv4.
    """

    def __init__(self, handlers: Mapping[str, Handler], port: int, address: str | None, reactor: Any, log: Any) -> None:
        root: Any = Resource()  # type: ignore[no-untyped-call]
        for path, handler in handlers.items():
            root.putChild(path.encode(), _Probe(handler, log))
        self._site = _Site(root, timeout=int(ASK_WITHIN_S), reactor=reactor)  # type: ignore[no-untyped-call]
        guard = NewcomersGuard("health", CONNECTIONS, ASK_WITHIN_S, reactor, log, counts=False)
        self._guarded = GuardedFactory(self._site, guard)
        self._port = port
        self._addresses = ("::", NO_IPV6) if address is None else (address,)
        self._reactor = reactor
        self._log = log
        self._told = False
        self.listening: Any = None

    def start(self) -> None:
        """Listen, now or as soon as that can be done."""
        for address in self._addresses:
            try:
                self.listening = self._reactor.listenTCP(self._port, self._guarded, interface=address)
            except CannotListenError as e:  # "::" does not exist where IPv6 is switched off
                problem = e.socketError
            else:
                self._log.info("Health and metrics at {address}, port {port}", address=address, port=self._port)
                return
        if not self._told:
            self._told = True
            self._log.error(
                "Health and metrics cannot be asked for: no listening at {address}, port {port}: {problem}. The node "
                "goes on without, and tries again each {retry:g} s. Free the port, or set {variable} to another one",
                address=" and ".join(self._addresses),
                port=self._port,
                problem=problem,
                retry=RETRY_S,
                variable="CROSSBAR_HEALTH_PORT",
            )
        self._reactor.callLater(RETRY_S, self.start)
