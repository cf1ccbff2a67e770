"""What is drained of a proxy worker: sessions of clients; when it is to end all of them, and its listeners."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from crossbar_cluster.proxy.pool import BackendPool


class SessionsDraining:
    """Some sessions of a proxy worker on its backends.

    :param sessions: gives those that are still joined, and still to go.
    :param why: for people.
    """

    def __init__(self, sessions: Callable[[], Iterable[Any]], why: str) -> None:
        self._sessions = sessions
        self._why = why
        self._clients: dict[Any, Any] = {}  #: of sessions that were dismissed; None: it was one of the proxy's own

    def begin(self) -> None:
        """Nothing is to be done: whoever comes is sent elsewhere already."""

    def clients(self) -> Iterable[Any]:
        return self._sessions()

    def is_busy(self, client: Any) -> bool:
        return bool(client.is_busy)

    def dismiss(self, client: Any) -> None:
        self._clients[client] = client.client
        client.dismiss(self._why)

    def is_gone(self, client: Any) -> bool:
        behind = self._clients.get(client)
        return client.transport is None and (behind is None or behind.is_gone)


class ProxyDraining(SessionsDraining):
    """All sessions of a proxy worker that is to end. :param controller: the release's ``ProxyController``."""

    def __init__(self, controller: Any, pool: BackendPool) -> None:
        super().__init__(pool.sessions, "this proxy is about to end")
        self._controller = controller
        self._pool = pool

    def begin(self) -> None:
        """Listen no more, and turn away who has come and has no session yet."""
        for transport in self._controller.transports.values():
            transport.port.stopListening()
        self._pool.close()
