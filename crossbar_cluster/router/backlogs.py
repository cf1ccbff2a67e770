"""What waits on a router to be read by somebody: the proxy of a client, or another router. Bounded for each of them.

A proxy that hangs, or a router, is given up by other means, soon. These bounds are for one that lives and reads too
little: its own session ends, and nobody else notices.
"""

from __future__ import annotations

from typing import Any

from crossbar_cluster.core.metrics import METRICS, UNREAD_ENDED
from crossbar_cluster.node.backlog import guard_backlog

#: For one client's session: two of the largest messages, and more than a proxy lets wait for its client.
CLIENT_BYTES = 64 * 2**20
#: For a link, in either direction: it carries what all clients of a realm have for those of another router.
LINK_BYTES = 256 * 2**20


def bound_backlog(router: Any, session: Any, is_link: bool) -> None:
    """Bound what waits for a session that has come through an inner port.

    :param router: the release's ``Router``. :param session: its ``RouterSession``.
    """

    def too_far_behind(unsent: int) -> None:
        METRICS.count(UNREAD_ENDED, "link" if is_link else "client")
        router.log.warn(
            "Realm {realm}: session {session} (authid {authid}) is ended: its connection does not read, {unsent} bytes "
            "wait for it",
            realm=router.realm,
            session=session._session_id,
            authid=session._authid,
            unsent=unsent,
        )
        router._factory._reactor.callLater(0, _abort, session)  # this is called from within a write

    transport = session._transport
    guard_backlog(getattr(transport, "transport", None), LINK_BYTES if is_link else CLIENT_BYTES, too_far_behind)


def _abort(session: Any) -> None:
    if session._transport is not None:
        session._transport.abort()


def bound_link_backlog(session: Any, reactor: Any) -> None:
    """The same at the other end of a link. :param session: `node.backend_session.BackendSession`, joined."""

    def too_far_behind(unsent: int) -> None:
        METRICS.count(UNREAD_ENDED, "link")
        reactor.callLater(0, session.lose, f"the other router does not read: {unsent} bytes wait for it")

    guard_backlog(getattr(session.transport, "transport", None), LINK_BYTES, too_far_behind)
