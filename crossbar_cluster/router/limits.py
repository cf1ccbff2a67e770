"""How much clients may have on a realm of this router: what one of them may have, and all of them together.

A client's own limits are those of its web service: its proxy sends them with the client's HELLO (`core.limits`). Nodes
have the default ones on a master. Links, and what runs within the router, have none: what they hold, they hold for
clients that have been counted. WAMP has no word for a limit, so a request beyond it is answered with an ERROR of our
own, which libraries take for the failure of that request and of nothing else.
"""

from __future__ import annotations

import os
from collections import Counter
from typing import Any

from autobahn.wamp.message import Call, Error, Register, Subscribe
from twisted.internet.defer import Deferred

from crossbar_cluster.core.limits import SessionLimits
from crossbar_cluster.core.metrics import LIMIT_REFUSALS, METRICS
from crossbar_cluster.core.mirror import Kind
from crossbar_cluster.core.news import Seldom
from crossbar_cluster.node.backend_auth import client_of, linked_worker_of
from crossbar_cluster.node.settings import REALM_REGISTRATIONS, REALM_SUBSCRIPTIONS
from crossbar_cluster.router.backlogs import bound_backlog

LIMIT_EXCEEDED = "crossbar.error.limit_exceeded"
TOLD_EACH_S = 60.0
OF_NODES = SessionLimits()


class RealmLimits:
    """:param router: the release's ``Router``."""

    def __init__(self, router: Any, reactor: Any) -> None:
        self._router = router
        self._reactor = reactor
        self._of_realm = {
            Kind.SUBSCRIPTION: REALM_SUBSCRIPTIONS.read(os.environ),
            Kind.REGISTRATION: REALM_REGISTRATIONS.read(os.environ),
        }
        self._undecided: Counter[Any] = Counter()  #: requests that are being authorized, by session
        self._told = Seldom(TOLD_EACH_S)

    def joined(self, session: Any) -> None:
        """A session is about to be attached."""
        claim = client_of(session)
        session._cluster_limits = claim.limits if claim is not None else self._of_node(session)
        if claim is not None or linked_worker_of(session) is not None:
            bound_backlog(self._router, session, is_link=claim is None)

    def _of_node(self, session: Any) -> SessionLimits | None:
        """The limits of a node on a management realm of a master; None: it is none."""
        role = self._router._roles.get(session._authrole)
        return OF_NODES if getattr(role, "_rights", None) is not None else None  # see `control.rights`

    def authorizing(self, session: Any, decision: Deferred[Any]) -> Deferred[Any]:
        """A request of a session is decided later (by a dynamic authorizer): it counts as what it asks for."""

        def decided(result: Any) -> Any:
            self._undecided[session] -= 1
            if not self._undecided[session]:
                del self._undecided[session]
            return result

        self._undecided[session] += 1
        return decision.addBoth(decided)

    # -- whether a request is taken; if not, the client has been told -----------------------------------------------

    def may_call(self, session: Any, call: Any, limits: SessionLimits) -> bool:
        """:param limits: of the session. (This is asked for each call.)"""
        dealer = self._router._dealer
        count = len(dealer._caller_to_invocations.get(session, ()))
        if dealer._call_store is not None:
            count += dealer._call_store.count_of(session)
        if self._undecided:
            count += self._undecided[session]
        if count < limits.calls:
            return True
        return self._refuse(session, Call, call.request, "calls", limits.calls, "calls in flight")

    def may_subscribe(self, session: Any, subscribe: Any) -> bool:
        limits = _limits_of(session)
        if limits is None:
            return True
        owned = self._router._broker._session_to_subscriptions.get(session, ())
        asked = subscribe.topic, subscribe.match
        most, number = limits.subscriptions, subscribe.request
        return self._may_have(Kind.SUBSCRIPTION, session, owned, most, asked, Subscribe, number)

    def may_register(self, session: Any, register: Any) -> bool:
        limits = _limits_of(session)
        if limits is None:
            return True
        owned = self._router._dealer._session_to_registrations.get(session, ())
        asked = register.procedure, register.match
        most, number = limits.registrations, register.request
        return self._may_have(Kind.REGISTRATION, session, owned, most, asked, Register, number)

    def _may_have(
        self, kind: Kind, session: Any, owned: Any, most: int, asked: tuple[str, str], request: Any, number: int
    ) -> bool:
        observations, of_realm = self._router.links.observations(kind), self._of_realm[kind]
        count = len(owned) + (self._undecided[session] if self._undecided else 0)
        if count < most and observations.members < of_realm:
            return True
        found = observations.get_observation(*asked)
        if found is not None and session in found.observers:  # it has it already
            return True
        name = f"{kind.value}s"
        if count >= most:
            return self._refuse(session, request, number, name, most, name)
        return self._refuse(session, request, number, f"realm_{name}", of_realm, f"{name} of all clients of the realm")

    def _refuse(self, session: Any, request: Any, number: int, limit: str, most: int, what: str) -> bool:
        METRICS.count(LIMIT_REFUSALS, limit)
        why = f"the limit of {most} {what} is reached"
        if self._told.due(limit, self._reactor.seconds()):
            self._router.log.warn(
                "Realm {realm}: a request of session {session} (authid {authid}) is refused, maybe not the only one: "
                "{why}",
                realm=self._router.realm,
                session=session._session_id,
                authid=session._authid,
                why=why,
            )
        self._router.send(session, Error(request.MESSAGE_TYPE, number, LIMIT_EXCEEDED, [why]))
        return False


def _limits_of(session: Any) -> SessionLimits | None:
    limits: SessionLimits | None = getattr(session, "_cluster_limits", None)
    return limits
