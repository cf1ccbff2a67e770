"""The end of a link at the router that is linked to: what the release has as a session of the role for links.

The other router is a subscriber and callee here, for its own clients. What goes to it carries on whose behalf.
"""

from __future__ import annotations

from typing import Any

from autobahn.wamp.message import Invocation

from crossbar_cluster.links.remote import Identity


def identity(session_id: Any, authid: Any, authrole: Any) -> Identity | None:
    """A session as messages between routers name it; None: it is not one that could be named.

    A client that has just left has no session id any more: its testament is published without.
    """
    if not isinstance(authrole, str):
        return None
    return {"session": session_id if isinstance(session_id, int) else 0, "authid": authid, "authrole": authrole}


class Peer:
    """Another router of the group, which has linked itself with this one for a realm.

    :param session: the release's ``RouterSession`` of it.
    """

    def __init__(self, node: str, worker: str, session: Any, now_s: float) -> None:
        self.node = node
        self.worker = worker
        self.session = session
        self.heard_s = now_s
        #: It has shown all that its clients had when it linked itself: it makes its first call then, and not before.
        self.in_sync = False


class NamingTransport:
    """The transport of a peer's session: an INVOCATION that goes over a link says who calls, disclosed or not.

    Whether the callee is told, the router that it is on decides.
    """

    def __init__(self, transport: Any) -> None:
        self._transport = transport

    def send(self, message: Any) -> None:
        if type(message) is Invocation:
            who = identity(*message._router_internal)
            message.forward_for = [who] if who else None
        self._transport.send(message)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)
