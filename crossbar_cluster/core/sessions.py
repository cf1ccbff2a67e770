"""Which nodes are there: a node is online as long as one of its management sessions lives.

Told by the router's session events and, since events can be missed, by its list of sessions now and then. An old
session that ends late says nothing about a newer one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping


class NodeSessions:
    """The living sessions of nodes. Times are nanoseconds since the epoch."""

    def __init__(self) -> None:
        self._authid_of: dict[int, str] = {}
        self._count: Counter[str] = Counter()  #: living sessions of each node
        self._since: dict[str, int] = {}
        self._listing: set[int] | None = None  #: sessions known when the list under way was asked for
        self._ended: set[int] = set()  #: sessions that ended since then

    def authid_of(self, session: int) -> str | None:
        """The node (authid) that has this session."""
        return self._authid_of.get(session)

    def online(self) -> frozenset[str]:
        """The authids of all nodes that are there."""
        return frozenset(self._authid_of.values())

    def is_online(self, authid: str) -> bool:
        return self._count[authid] > 0

    def since(self, authid: str) -> int | None:
        """Since when the node is online, or offline. None: it has not been seen."""
        return self._since.get(authid)

    def joined(self, session: int, authid: str, now_ns: int) -> bool:
        """A node's session has begun. :returns: whether the node was offline until now."""
        if session in self._authid_of:
            return False
        came = not self.is_online(authid)
        self._authid_of[session] = authid
        self._count[authid] += 1
        if came:
            self._since[authid] = now_ns
        return came

    def left(self, session: int, now_ns: int) -> str | None:
        """A session has ended. :returns: the node that is offline now, if it was its last one."""
        if self._listing is not None:
            self._ended.add(session)
        authid = self._authid_of.pop(session, None)
        if authid is None:
            return None
        self._count[authid] -= 1
        if self.is_online(authid):
            return None
        del self._count[authid]
        self._since[authid] = now_ns
        return authid

    def keep(self, authids: Collection[str]) -> None:
        """Forget those that are offline, and none of these."""
        for authid in [a for a in self._since if a not in authids and not self.is_online(a)]:
            del self._since[authid]

    def begin_listing(self) -> None:
        """The list of sessions is about to be asked for."""
        self._listing, self._ended = set(self._authid_of), set()

    def unknown(self, listed: Iterable[int]) -> list[int]:
        """Those of the listed sessions that no event has told of."""
        return [session for session in listed if session not in self._authid_of and session not in self._ended]

    def end_listing(self, listed: Mapping[int, str | None], now_ns: int) -> tuple[list[str], list[str]]:
        """Bring the sessions in line with the list.

        Race: sessions may have begun and ended while the list was on its way. What events have told since
        `begin_listing` is newer than the list and wins.

        :param listed: session -> authid of its node, for those that were `unknown`; None for those known already.
        :returns: the nodes that turned out to be online, and those that turned out to be offline.
        """
        before, self._listing = self._listing or set(), None
        fresh = {session: authid for session, authid in listed.items() if authid and session not in self._ended}
        came = [authid for session, authid in fresh.items() if self.joined(session, authid, now_ns)]
        gone = [self.left(session, now_ns) for session in before - set(listed)]
        self._ended = set()
        return came, [authid for authid in gone if authid]
