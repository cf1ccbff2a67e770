"""How a session is taken off its router: wholly, whatever goes wrong with a part of it, and in slices.

From the first moment on it is not there any more for anybody: no id leads to it, nothing is sent to it, and what it has
subscribed and registered is looked up without it (`Leaving.purge`). What it leaves behind goes soon after.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from autobahn.wamp.message import Unregistered

from crossbar_cluster.core.mirror import Kind
from crossbar_cluster.core.news import Seldom
from crossbar_cluster.core.router import RLINK_ROLE
from crossbar_cluster.router import calls
from crossbar_cluster.router.slices import Job, Slices

TOLD_EACH_S = 60.0


@dataclass
class _Left:
    """A session that is being taken off."""

    session: Any
    session_id: int
    authrole: str | None
    job: Job | None = None


class Leaving:
    """:param router: the release's ``Router``."""

    def __init__(self, router: Any, reactor: Any) -> None:
        self.sessions: set[Any] = set()  #: that are being taken off
        self.slices = Slices(reactor, self.failed)
        self._router = router
        self._reactor = reactor
        self._left: dict[Any, _Left] = {}
        self._closing: dict[Any, Any] = {}  #: session that was expelled -> what closes its connection by force
        self._told = Seldom(TOLD_EACH_S)
        broker, dealer = router._broker, router._dealer
        broker._reactor = dealer._reactor = self.slices  # what they put off are meta events
        for kind, owners in (
            (Kind.REGISTRATION, dealer._session_to_registrations),
            (Kind.SUBSCRIPTION, broker._session_to_subscriptions),
        ):
            observations = router.links.observations(kind)
            observations.owners, observations.leaving = owners, self.sessions
            observations.purge = partial(self.purge, kind)
        if dealer._call_store is not None:
            dealer._registration_map.ended = partial(calls.registration_ended, dealer)

    def begin(self, session: Any) -> bool:
        """A session has ended. :returns: whether it was there."""
        router, dealer, broker = self._router, self._router._dealer, self._router._broker
        session_id = session._session_id
        was_there = router._session_id_to_session.get(session_id) is session
        if not was_there and session not in dealer._session_to_registrations:
            return False
        if was_there:
            del router._session_id_to_session[session_id]
            router._attached -= 1
        registrations = dealer._session_to_registrations.pop(session, ())
        subscriptions = broker._session_to_subscriptions.pop(session, ())
        left = self._left[session] = _Left(session, session_id, session._authrole)
        self.sessions.add(session)
        self.try_to(router.links.peer_left, session)
        self.try_to(forget_names, router, session)
        left.job = self._take_off(left, list(registrations), list(subscriptions))
        self.slices.run(left.job)
        return True

    def finish(self, session: Any) -> None:
        """Take a session off now, if that is under way: it is about to join again."""
        if (left := self._left.get(session)) is not None and left.job is not None:
            self.slices.finish(left.job)

    def _take_off(self, left: _Left, registrations: list[Any], subscriptions: list[Any]) -> Job:
        dealer, session = self._router._dealer, left.session
        yield from self.end_calls(session)
        for invocation in _drain(dealer._callee_to_invocations, session):
            self.try_to(calls.end_as_callee, dealer, invocation)
            yield
        for kind, observations in ((Kind.REGISTRATION, registrations), (Kind.SUBSCRIPTION, subscriptions)):
            while observations:  # each is freed in its turn
                self.try_to(self._drop, kind, left, observations.pop())
                yield
        del self._left[session]
        self.sessions.discard(session)

    def end_calls(self, caller: Any) -> Job:
        """Give up all calls of a session, or of what stands for one (`crossbar_cluster.links.remote`)."""
        dealer = self._router._dealer
        if dealer._call_store is not None:
            for _ in dealer._call_store.of_caller(caller):
                yield
        for invocation in _drain(dealer._caller_to_invocations, caller):
            self.try_to(calls.end_as_caller, dealer, invocation)
            yield

    # -- what it has subscribed and registered ------------------------------------------------------------------

    def purge(self, kind: Kind, observation: Any) -> None:
        """Whoever is being taken off has that no more, from now on: it is being looked up."""
        for session in self.sessions & observation.observers:
            self.try_to(self._drop, kind, self._left[session], observation)

    def _drop(self, kind: Kind, left: _Left, observation: Any) -> None:
        observations = self._router.links.observations(kind)
        was_there, was_last = observations.drop_observer(left.session, observation)
        if was_there:
            retained = kind is Kind.SUBSCRIPTION and getattr(observation.extra, "retained_events", None)
            is_deleted = was_last and not retained
            if is_deleted:
                observations.delete_observation(observation)
            tell(self._router, kind, left.session_id, left.authrole, observation, is_deleted)

    def evict(self, registration: Any, callee: Any) -> None:
        """Take a registration from a callee, which is told, because somebody has taken the name over."""
        left = _Left(callee, callee._session_id, callee._authrole)
        self.try_to(self._drop, Kind.REGISTRATION, left, registration)
        gone = Unregistered(0, registration=registration.id, reason="wamp.error.unregistered")
        self.try_to(self._router.send, callee, gone)

    # -- what else is to be seen to -----------------------------------------------------------------------------

    def left(self, session: Any, details: Any, closed: Any) -> None:
        """A session is nobody any more of its authid and role. :param details: of it, if there still are."""
        authid, authrole = (details.authid, details.authrole) if details is not None else (None, None)
        self.try_to(forget_names, self._router, session, authid, authrole)
        if self._router._store:
            self.try_to(self._router._store.store_session_left, session, closed)

    def close_by_force(self, session: Any, within_s: float) -> None:
        """Abort the connection of a session, unless it has ended by then."""

        def due() -> None:
            del self._closing[session]
            if session._transport is not None:
                self.try_to(session._transport.abort)

        if session._transport is not None:
            self._closing[session] = self._reactor.callLater(within_s, due)

    def connection_closed(self, session: Any) -> None:
        """A connection has ended: nothing is to be done by force any more."""
        if (due := self._closing.pop(session, None)) is not None:
            due.cancel()

    def undelivered(self, session: Any, problem: Exception) -> None:
        """An event could not be sent to one of its receivers."""
        if self._told.due("undelivered", self._reactor.seconds()):
            self._router.log.warn(
                "Realm {realm}: an event for session {session} could not be sent, maybe not the only one: {problem}",
                realm=self._router.realm,
                session=session._session_id,
                problem=problem,
            )

    # -- what goes wrong ----------------------------------------------------------------------------------------

    def try_to(self, do: Callable[..., Any], *args: Any) -> None:
        """Do a part of it, which may fail: the others are to be done all the same."""
        try:
            do(*args)
        except Exception as e:
            self.failed(e)

    def failed(self, problem: Exception) -> None:
        """Tell of what has gone wrong, once in a while of each kind."""
        if self._told.due(type(problem).__name__, self._reactor.seconds()):
            self._router.log.failure(
                "Realm {realm}: a part of what a session has left behind could not be seen to: {problem!r}. "
                "The rest is done. Please report this",
                realm=self._router.realm,
                problem=problem,
            )


def _drain(invocations: dict[Any, list[Any]], session: Any) -> Iterator[Any]:
    """The calls of a session, each of which is not among them any more when the next one is given."""
    while found := invocations.get(session):
        invocation = found[0]
        yield invocation
        if found and found[0] is invocation:
            del found[0]
    invocations.pop(session, None)


def forget_names(router: Any, session: Any, authid: str | None = None, authrole: str | None = None) -> None:
    """Nobody is found under the authid and role of a session any more that has left."""
    for sessions, name in (
        (router._authid_to_sessions, authid or session._authid),
        (router._authrole_to_sessions, authrole or session._authrole),
    ):
        if (of_name := sessions.get(name)) is not None:
            of_name.discard(session)
            if not of_name:
                del sessions[name]


_ENDED = {
    Kind.REGISTRATION: ("wamp.registration.on_unregister", "wamp.registration.on_delete"),
    Kind.SUBSCRIPTION: ("wamp.subscription.on_unsubscribe", "wamp.subscription.on_delete"),
}


def tell(router: Any, kind: Kind, session_id: int, authrole: str | None, observation: Any, is_deleted: bool) -> None:
    """Publish, soon, that a session has a subscription or registration no more. :param is_deleted: nobody has it."""
    service = router._realm.session if router._realm else None
    if service is None or observation.uri.startswith("wamp."):
        return
    ended, deleted = _ENDED[kind]
    router.leaving.slices.callLater(0, service.publish, ended, session_id, observation.id)
    if is_deleted and not (kind is Kind.REGISTRATION and authrole == RLINK_ROLE):  # as the release has it
        router.leaving.slices.callLater(0, service.publish, deleted, session_id, observation.id)
