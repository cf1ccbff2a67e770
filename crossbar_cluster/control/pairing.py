"""Pairing and unpairing of nodes, as the master acts on them at once: sessions are closed, the control planes are told.

Nodes are paired and unpaired in the domain controller, which is a component of its own worker; the sessions are in the
master's router worker, and the control planes in a third one. They reach each other over the master's own node router,
where no node and no user of the master has a session. The end of this: a control plane looks at the database, where
everything stands. Should it not hear of it, it looks by itself within 10 s.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from autobahn.wamp.types import Deny, PublishOptions
from twisted.internet.defer import Deferred

from crossbar_cluster.core.rights import AUTH_CHANGED, UNPAIRED

#: What the domain controller publishes on its own realm, for users.
_EVENTS = frozenset(f"crossbarfabriccenter.mrealm.on_node_{what}" for what in ("paired", "unpaired"))
#: On the master's own node router, without a payload. Each worker of a master may publish below this prefix there.
_TOPIC = "crossbarfabriccenter.on_pairings_changed"
ROUTER_WORKER = "cfrouter1"
ANSWER_WITHIN_S = 10.0


# -- news of pairings -----------------------------------------------------------------------------------------------


def tell_if_pairing(session: Any, event: str) -> None:
    """The domain controller publishes this event: tell the control planes, if it is of a pairing."""
    if event in _EVENTS:
        tell_of_pairing(session)


def tell_of_pairing(session: Any) -> None:
    """Nodes have been paired or unpaired: tell the control planes.

    :param session: of a component of the master.
    """
    controller = session.config.controller
    if controller is None:
        return
    telling: Deferred[Any] = controller.publish(_TOPIC, options=PublishOptions(acknowledge=True))
    telling.addErrback(
        lambda failure: session.log.warn(
            "The control planes could not be told of a pairing, and look for it within 10 s: {why}",
            why=failure.getErrorMessage(),
        )
    )


async def hear_of_pairings(session: Any, look: Any) -> Any:
    """Have ``look`` called at once when nodes are paired or unpaired.

    :param session: the management controller.
    :returns: the subscription, to be given up by `hear_no_more`; None: there is none, and the reason is logged.
    """
    controller = session.config.controller
    try:
        return await controller.subscribe(lambda: look(), _TOPIC)
    except Exception as e:
        session.log.warn("Pairings of nodes are noticed within 10 s only: {error!r}", error=e)
        return None


def hear_no_more(subscription: Any) -> None:
    """The management controller ends; the worker that it was a component of, and its subscriptions, may go on."""
    if subscription is not None and subscription.active:
        ending: Deferred[Any] = subscription.unsubscribe()
        ending.addErrback(lambda _: None)  # the worker ends as well


# -- unpairing ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pairing:
    """A node as it is paired with a management realm."""

    node_oid: UUID
    mrealm_oid: UUID
    authid: str
    realm: str  #: the management realm's name
    router: str  #: worker of the master that the realm runs on


class Pairings:
    """How nodes are paired, and what becomes of their sessions when they are not any more.

    :param session: of a component of the master.
    :param db: the global database (zlmdb), with its ``GlobalSchema``.
    """

    def __init__(self, session: Any, db: Any, schema: Any) -> None:
        self._session = session
        self._db, self._schema = db, schema

    def of(self, node_oid: Any) -> Pairing | None:
        """How a node is paired now; None: it is not, or there is no such node."""
        try:
            oid = UUID(node_oid)
        except (ValueError, TypeError, AttributeError):
            return None
        with self._db.begin() as txn:
            node = self._schema.nodes[txn, oid]
            mrealm = self._schema.mrealms[txn, node.mrealm_oid] if node and node.mrealm_oid else None
        if not mrealm or not node.authid:
            return None
        return Pairing(oid, mrealm.oid, node.authid, mrealm.name, mrealm.cf_router_worker or ROUTER_WORKER)

    async def close_sessions(self, paired: Pairing, reactor: Any) -> list[int] | None:
        """Close the management sessions of a node that was paired like that, and is not any more.

        Race: the record says so before the sessions are closed. Whoever is let in meanwhile has been looked up before
        that, so that its session is there by now; whoever proves the key later is refused (`refusal_of_unpaired`).

        :returns: the sessions that were closed; None: they could not be, and the reason is logged.
        """
        try:
            calling: Deferred[Any] = self._session.config.controller.call(
                f"crossbar.worker.{paired.router}.kill_by_authid",
                paired.realm,
                paired.authid,
                reason=AUTH_CHANGED,  # the node connects again, is refused, and waits
                message=f"node {paired.authid} is not paired any more",
            )
            closed: list[int] = await calling.addTimeout(ANSWER_WITHIN_S, reactor)
        except Exception as e:
            self._session.log.error(
                "Node {authid} is unpaired, but its management sessions could not be closed: {error!r}. "
                "Restart the master.",
                authid=paired.authid,
                error=e,
            )
            return None
        return closed


async def close_if_unpaired(session: Any, pairings: Pairings, paired: Pairing | None, reactor: Any) -> list[int]:
    """A user may have unpaired a node that was paired like that. :returns: its sessions that are closed for it."""
    if paired is None or pairings.of(str(paired.node_oid)) == paired:
        return []
    closed = await pairings.close_sessions(paired, reactor)
    if closed is None:
        return []
    session.log.info(
        "Node {authid} is unpaired from management realm {realm}: {count} of its sessions closed",
        authid=paired.authid,
        realm=paired.realm,
        count=len(closed),
    )
    return closed


def refusal_of_unpaired(records: Any, pubkey: str, realm: str, authid: str) -> Deny | None:
    """Why a node that has proven its key is not let in, although it was known when it said HELLO; None: it is.

    :param records: the ``NodeRecords`` of the global database.
    """
    if records.is_paired(pubkey, realm, authid):
        return None
    return Deny(UNPAIRED, "this node has been unpaired while it authenticated")
