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

    def begin(self) -> None:
        """Listen no more, and turn away who has come and has no session yet."""
        for transport in self._controller.transports.values():
            transport.port.stopListening()
        self._pool.close()

    def clients(self) -> Iterator[Any]:
        yield from self._pool.sessions()

    def is_busy(self, client: Any) -> bool:
        return bool(getattr(client, "is_busy", False))  # the proxy's own sessions have nobody who would wait

    def dismiss(self, client: Any) -> None:
        client.dismiss("this proxy is about to end")
