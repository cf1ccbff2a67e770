"""What is drained of a router worker: the clients that have come through proxies. Links stay until its end."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from autobahn.wamp.message import Unregister

from crossbar_cluster.node.backend_auth import clients_of

REASON = "wamp.close.system_shutdown"


class RouterDraining:
    """:param controller: the release's ``RouterController``."""

    def __init__(self, controller: Any) -> None:
        self._controller = controller

    def begin(self) -> None:
        """Nothing is to be done: `node.backend_auth` refuses whoever comes now, and proxies try the next router."""

    def clients(self) -> Iterator[Any]:
        return (session for session, _ in clients_of(self._controller))

    def is_busy(self, client: Any) -> bool:
        dealer = client._router._dealer
        return bool(dealer._caller_to_invocations.get(client) or dealer._callee_to_invocations.get(client))

    def dismiss(self, client: Any) -> None:
        if not client._goodbye_sent:
            dealer = client._router._dealer  # a client that has been told to leave answers no calls any more
            for registration in list(dealer._session_to_registrations.get(client, ())):
                dealer._unregister(registration, client, Unregister(0, registration.id))
            client.leave(REASON, "this router is about to end")

    def is_gone(self, client: Any) -> bool:
        return client._session_id is None or client._transport is None  # it has taken leave, or its proxy has
