"""What nodes may do on a master's management realms: enforced by the role that they have there.

In the master's router worker; triggered by each call, registration, publication and subscription of a node. What is
allowed is `crossbar_cluster.core.rights`'s to say.
"""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

from crossbar_cluster.control.authentication import NODE_ROLE
from crossbar_cluster.control.intake import BYTES, ROUTED, Intake
from crossbar_cluster.core.rights import kind_of, node_may

MASTER = "master"
REFUSALS_TOLD = 20  #: of each node: whoever holds its key can think of any number of names
NODES_REMEMBERED = 1000  #: that have been refused something; the first ones are forgotten for the next

PAUSE_S = 0.5  #: in which nothing is read from who sends too much; it is some hundred messages each time


class NodeRights:
    """The rights of all nodes of a management realm. A refusal is logged once for each node and name.

    What a node may do at all, it may not do without end: what is too much is refused as well, and is told as that.
    """

    def __init__(self, realm: str, log: Any, reactor: Any) -> None:
        self._realm = realm
        self._reactor = reactor
        self._paused: set[Any] = set()  #: connections that are not read from for a moment
        self._charged: WeakKeyDictionary[Any, int] = WeakKeyDictionary()  #: connection -> its last message that counts
        self._log = log
        self._intake = Intake(ROUTED, log)
        self._told: dict[str, set[tuple[str, str]]] = {}

    def restrict(self, authorization: dict[str, Any], session: Any, uri: str, action: Any) -> dict[str, Any]:
        """What becomes of what the role's permissions allow.

        Never to be kept by the router: it would keep it for all sessions of the role.
        """
        authid = str(session._authid)
        allow = authorization["allow"] and node_may(session._authid, action, uri)
        within = self._takes_bytes(authid, getattr(session, "_transport", None))
        if not allow:
            self._tell(authid, action, uri)
        elif within:
            within = self._intake.takes(authid, kind_of(action, uri), self._reactor.seconds())
        if not within:
            self._slow_down(session)
        return {**authorization, "allow": allow and within, "cache": False}

    def _takes_bytes(self, authid: str, transport: Any) -> bool:
        """Whether the message that is being handled is within the node's budget. All of a batch are asked about."""
        size = getattr(transport, "message_bytes", 0)  # as it has come: nothing is serialized to know it
        if not size:
            return True
        number = transport.count()
        if self._charged.get(transport) == number:
            return True
        if not self._intake.takes(authid, BYTES, self._reactor.seconds(), size):
            return False
        self._charged[transport] = number
        return True

    def _slow_down(self, session: Any) -> None:
        """Read nothing from a session for a moment: to look at what is dropped takes its time as well."""
        connection = getattr(getattr(session, "_transport", None), "transport", None)
        if connection is not None and connection not in self._paused:
            self._paused.add(connection)
            connection.pauseProducing()
            self._reactor.callLater(PAUSE_S, self._go_on, connection)

    def _go_on(self, connection: Any) -> None:
        self._paused.discard(connection)
        if connection.connected and not connection.disconnecting:
            connection.resumeProducing()

    def _tell(self, authid: str, action: str, uri: str) -> None:
        if authid not in self._told and len(self._told) >= NODES_REMEMBERED:
            del self._told[next(iter(self._told))]
        told = self._told.setdefault(authid, set())
        if (action, uri) in told or len(told) >= REFUSALS_TOLD:
            return
        told.add((action, uri))
        self._log.warn(
            "Node {authid} may not {action} {uri} on management realm {realm}: refused. Nodes do no such thing by "
            "themselves: somebody else may have its key.{last}",
            authid=authid,
            action=action,
            uri=uri,
            realm=self._realm,
            last=" No more of this node's refusals are logged." if len(told) == REFUSALS_TOLD else "",
        )


def rights_of_role(router: Any, role: str, log: Any) -> NodeRights | None:
    """The rights that go with a role; None: its permissions are all there is to it.

    :param router: the release's ``Router``, of the realm that the role is for.
    """
    worker = router._factory._worker
    if role != NODE_ROLE or worker is None or worker.personality.NAME != MASTER:
        return None  # "node" may well be a role of somebody's application realm, elsewhere
    return NodeRights(router.realm, log, router._factory._reactor)
