"""What a worker tells the master: that something has happened, so that it looks at once. It looks by itself as well."""

from __future__ import annotations

from typing import Any

from autobahn.wamp.exception import TransportLost


def tell_master(controller: Any, event: str, about: str) -> None:
    """Publish an event of a worker, which its node passes on to the master.

    :param controller: the release's controller of the worker.
    """
    try:
        controller.publish(f"{controller._uri_prefix}.{event}", about)
    except TransportLost:  # the node is about to end
        return
