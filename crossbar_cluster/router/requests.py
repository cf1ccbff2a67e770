"""Which calls, and cancellations of calls, a dealer takes.

**A request id that is in flight.** WAMP counts the requests of a session up from 1: one that is used again breaks the
protocol, whose word for that is ABORT, with `wamp.error.protocol_violation`. An ERROR would carry the id, so it would
end the first call in the eyes of the client, and the answer to that would be one to nothing: libraries take that for a
breach of the protocol by the router. No library uses an id again: whoever does has lost count of what it has asked.
"""

from __future__ import annotations

from typing import Any

from autobahn.wamp.message import Abort, Cancel, Goodbye

from crossbar_cluster.core.metrics import METRICS, PROTOCOL_VIOLATIONS
from crossbar_cluster.links.remote import RemoteSession, can_cancel
from crossbar_cluster.router import calls
from crossbar_cluster.router.call_queue import CallQueue, WaitingCall

PROTOCOL_VIOLATION = "wamp.error.protocol_violation"
#: How long the connection of somebody who is thrown out may take to end.
GONE_WITHIN_S = 5.0


def queue_of(dealer: Any) -> CallQueue:
    """What a dealer keeps calls in that wait for a callee which is busy."""

    def expired(waiting: WaitingCall) -> None:
        calls.answer(dealer, waiting.session, waiting.call.request, calls.TIME_IS_OVER)

    return CallQueue(lambda after_s, do: dealer._cancel_timers.call_later(after_s, do), expired)


def is_refused(dealer: Any, session: Any, call: Any) -> bool:
    """Whether a call is not taken; then its caller has been told."""
    key = (session._session_id, call.request)
    if key in dealer._invocations_by_call or (dealer._call_store is not None and key in dealer._call_store):
        _refuse_again(dealer, session, call)
        return True
    limits = getattr(session, "_cluster_limits", None)
    return limits is not None and not dealer._router.limits.may_call(session, call, limits)


def is_over(dealer: Any, session: Any, call: Any) -> bool:
    """Whether a call that has been authorized, which may take its time, is not to be made any more."""
    if session not in dealer._session_to_registrations and not isinstance(session, RemoteSession):
        return True  # its caller has left
    key = (session._session_id, call.request)
    if key in dealer._invocations_by_call or (dealer._call_store is not None and key in dealer._call_store):
        _refuse_again(dealer, session, call)
        return True
    return False


def _refuse_again(dealer: Any, session: Any, call: Any) -> None:
    from crossbar.router.session import RouterSession

    why = f"the request id {call.request} is in flight: it cannot be used again before it has been answered"
    if isinstance(session, RouterSession):
        expel(dealer._router, session, PROTOCOL_VIOLATION, why)
    else:  # a component, or the client of another router, which has let it pass
        calls.answer(dealer, session, call.request, why, PROTOCOL_VIOLATION)


def expel(router: Any, session: Any, reason: str, why: str) -> None:
    """End a client's session, which breaks the protocol, and its connection, whether it answers or not.

    :param session: the release's ``RouterSession``.
    """
    METRICS.count(PROTOCOL_VIOLATIONS)
    transport = session._transport
    router.log.warn(
        "Realm {realm}: session {session} (authid {authid}) is ended: {why}",
        realm=router.realm,
        session=session._session_id,
        authid=session._authid,
        why=why,
    )
    router.leaving.try_to(transport.send, Abort(reason, why))
    session._goodbye_sent = True  # nothing is to follow an ABORT
    session.onMessage(Goodbye())  # as if it had answered: it is taken off
    router.leaving.try_to(transport.close)
    router.leaving.close_by_force(session, GONE_WITHIN_S)


def to_be_canceled(dealer: Any, session: Any, cancel: Any) -> Any:
    """The call that is to be canceled; None: there is nothing to do (any more)."""
    key = (session._session_id, cancel.request)
    if dealer._call_store is not None and dealer._call_store.take(key) is not None:
        calls.answer(dealer, session, cancel.request, "the call has not been made yet")
        return None
    invocation = dealer._invocations_by_call.get(key)
    if invocation is None or invocation.canceled:
        return None
    if invocation.callee in dealer._router.leaving.sessions:  # it is about to be answered for
        calls.end_as_callee(dealer, invocation)
        return None
    return invocation


def answer_canceled(dealer: Any, invocation: Any, cancel: Any) -> None:
    """Answer a call that its callee cannot be told to end: the release does not. Who skips one asks for no answer."""
    if cancel.mode != Cancel.SKIP and not can_cancel(invocation.callee):
        calls.answer(dealer, invocation.caller, cancel.request, "the callee goes on: it cannot be interrupted")
