"""The end of a connection, as its session on a router sees it: what the release may have left undone."""

from __future__ import annotations

from typing import Any

from autobahn.wamp.types import CloseDetails


def closed(router: Any, session: Any) -> None:
    """The connection of a session has ended, and the release has seen to it; or has failed half-way.

    :param router: the release's ``Router``. :param session: its ``RouterSession``.
    """
    router.leaving.connection_closed(session)
    if session._session_id is None:
        return
    session._transport = None
    router.leaving.try_to(session.onLeave, CloseDetails())
    router.leaving.begin(session)
    session._session_id = None
