"""The end of a connection, as its session on a router sees it: what the release may have left undone."""

from __future__ import annotations

from typing import Any

from autobahn.wamp.types import CloseDetails


def closed(router: Any, session: Any, session_id: int | None) -> None:
    """The connection of a session has ended, and the release has seen to it; or has failed half-way.

    :param router: the release's ``Router``. :param session: its ``RouterSession``.
    :param session_id: before that; None: it had taken leave already.
    """
    router.leaving.connection_closed(session)
    if session_id is None or session._session_id is None:
        return
    session._transport = None
    router.leaving.try_to(session.onLeave, CloseDetails())
    router.leaving.begin(session)
    session._session_id = None
