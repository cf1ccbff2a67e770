"""A proxy tells the master of a router worker that it does not get through to, so that it is looked at at once."""

from __future__ import annotations

from typing import Any

from autobahn.wamp.exception import TransportLost

#: At most one report per connection in this time: one that is looked at again and again is no news.
REPORT_EACH_S = 2.0


def report_unreachable(controller: Any, connection_id: str) -> None:
    """:param controller: the release's ``ProxyController``."""
    try:
        controller.publish(f"{controller._uri_prefix}.on_backend_unreachable", connection_id)
    except TransportLost:  # the node is about to end
        return
