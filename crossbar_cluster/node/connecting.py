"""Connections from this node to router workers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from autobahn.twisted.rawsocket import WampRawSocketClientFactory
from autobahn.wamp.serializer import CBORSerializer
from twisted.internet.endpoints import HostnameEndpoint, TCP4ClientEndpoint

from crossbar_cluster.node.backend_session import BackendSession
from crossbar_cluster.node.pacing import paced


def resolving_endpoint(reactor: Any, config: Any) -> HostnameEndpoint | None:
    """An endpoint that looks its host name up at every connect, IPv4 and IPv6 alike; None where the release's will do.

    The released endpoint looks up IPv4 only. It is kept for names with an underscore: Twisted's `HostnameEndpoint`
    takes those for invalid, and docker-compose, which hands them out, runs on IPv4.
    """
    if not isinstance(config, Mapping) or config.get("type") != "tcp" or config.get("tls") or "version" in config:
        return None
    host = config["host"]
    if ":" in host or "_" in host or host.replace(".", "").isdecimal() or host.endswith(".onion"):
        return None
    return HostnameEndpoint(reactor, host, config["port"], timeout=config.get("timeout", 10))


def connect(session: BackendSession, reactor: Any, host: str, port: int, within_s: float) -> None:
    """Give a session a connection to where a router worker listens for other nodes."""
    named = resolving_endpoint(reactor, {"type": "tcp", "host": host, "port": port, "timeout": within_s})
    endpoint = named or TCP4ClientEndpoint(reactor, host, port, timeout=within_s)  # takes IPv6 addresses, too
    factory = WampRawSocketClientFactory(lambda: session, serializer=CBORSerializer())
    factory.noisy = False
    session.connect(endpoint.connect(paced(factory)))
