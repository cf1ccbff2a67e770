"""What is drained of a proxy worker: its listeners, and the clients of realms that a master has told it of."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from crossbar_cluster.proxy.pool import pool_of


class ProxyDraining:
    """:param controller: the release's ``ProxyController``."""

    def __init__(self, controller: Any) -> None:
        self._controller = controller
        self._pool = pool_of(controller)
        self._clients: dict[Any, Any] = {}  #: of sessions that were dismissed; None: it was one of the proxy's own

    def begin(self) -> None:
        """Listen no more, and turn away who has come and has no session yet."""
        for transport in self._controller.transports.values():
            transport.port.stopListening()
        self._pool.close()

    def clients(self) -> Iterator[Any]:
        yield from self._pool.sessions()

    def is_busy(self, client: Any) -> bool:
        return bool(client.is_busy)

    def dismiss(self, client: Any) -> None:
        self._clients[client] = client.client
        client.dismiss("this proxy is about to end")

    def is_gone(self, client: Any) -> bool:
        behind = self._clients.get(client)
        return client.transport is None and (behind is None or behind.is_gone)
