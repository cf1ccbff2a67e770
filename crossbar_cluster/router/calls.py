"""How calls end: by an answer, by their caller or callee, by their time; and how nothing is left of them.

Functions on the release's ``Dealer`` and its ``InvocationRequest``. Whoever waits for an answer gets one, once; a
callee that can be interrupted is, once; its place is free for the next call (`go_on`).
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from autobahn.wamp.exception import ApplicationError
from autobahn.wamp.message import Call, Cancel, Error, Interrupt, Register
from twisted.internet.error import AlreadyCalled, AlreadyCancelled

from crossbar_cluster.links.realm import is_linked, is_local
from crossbar_cluster.links.remote import ForwardedCall, can_cancel

CALLEE_LEFT = "callee disconnected from in-flight request"
TIME_IS_OVER = "timeout reached"


def forget(dealer: Any, invocation: Any) -> None:
    """Keep nothing of a call, whatever there is of it, and let the next one go on that waits for its callee."""
    if invocation.timeout_call is not None:
        timer, invocation.timeout_call = invocation.timeout_call, None
        with suppress(AlreadyCalled, AlreadyCancelled):
            timer.cancel()
    dealer._invocations.pop(invocation.id, None)
    _take(dealer._callee_to_invocations, invocation.callee, invocation)
    _take(dealer._caller_to_invocations, invocation.caller, invocation)
    key = invocation.caller_session_id, invocation.call.request
    if dealer._invocations_by_call.get(key) is invocation:
        del dealer._invocations_by_call[key]
    if dealer._call_store is not None:
        go_on(dealer, invocation.registration.id)


def _take(invocations: dict[Any, list[Any]], session: Any, invocation: Any) -> None:
    found = invocations.get(session)
    if found is not None:
        try:  # noqa: SIM105 - `suppress` takes as long as all the rest
            found.remove(invocation)
        except ValueError:
            pass
        if not found:
            del invocations[session]


def is_awaited(invocation: Any) -> bool:
    """Whether its caller waits for an answer. One that has given it up has had one, or waits for the callee's."""
    return not invocation.canceled or invocation.error_msg is not None


def answer(dealer: Any, session: Any, request: int, why: str, error: str = ApplicationError.CANCELED) -> None:
    """Tell a caller that its call has failed."""
    dealer._router.send(session, Error(Call.MESSAGE_TYPE, request, error, [why]))


def end_as_caller(dealer: Any, invocation: Any) -> None:
    """Its caller has left, or waits no more."""
    callee = invocation.callee
    was_interrupted = invocation.canceled and not is_linked(callee)
    _free(invocation)
    forget(dealer, invocation)
    if callee is not invocation.caller and not was_interrupted and can_cancel(callee):
        dealer._router.send(callee, Interrupt(invocation.id, Cancel.KILLNOWAIT))


def end_as_callee(dealer: Any, invocation: Any) -> None:
    """Its callee has left."""
    awaited = is_awaited(invocation)
    forget(dealer, invocation)
    if awaited:
        answer(dealer, invocation.caller, invocation.call.request, CALLEE_LEFT)


def time_is_over(dealer: Any, invocation: Any) -> None:
    """Its caller has said for how long it waits."""
    invocation.timeout_call = None
    awaited = is_awaited(invocation)
    try:
        end_as_caller(dealer, invocation)
    finally:
        if awaited:
            answer(dealer, invocation.caller, invocation.call.request, TIME_IS_OVER)


def _free(invocation: Any) -> None:
    """The callee is not busy with it any more."""
    extra = invocation.registration.observers_extra.get(invocation.callee)
    if extra is not None and extra.concurrency_current > 0:
        extra.concurrency_current -= 1


# -- calls that wait for a callee that is busy ------------------------------------------------------------------------


def go_on(dealer: Any, registration_id: int) -> None:
    """Make the calls that wait for a registration, as far as callees are free for them."""
    queue = dealer._call_store
    while (waiting := queue.first_of(registration_id)) is not None:
        registration = dealer._registration_map.get_observation_by_id(registration_id)
        if registration is None:
            registration_ended(dealer, registration_id)
        elif not _is_free(registration, waiting.call):
            return
        else:
            queue.remove(waiting)  # first: an embedded callee answers while it is being called
            dealer._call(waiting.session, waiting.call, registration, waiting.authorization, True)


def _is_free(registration: Any, call: Any) -> bool:
    """Whether the released dealer would find a callee that takes a call now."""
    callees = [callee for callee in registration.observers if not isinstance(call, ForwardedCall) or is_local(callee)]
    match registration.extra.invoke:
        case Register.INVOKE_SINGLE | Register.INVOKE_FIRST:
            callees = callees[:1]
        case Register.INVOKE_LAST:
            callees = callees[-1:]
        case Register.INVOKE_RANDOM:
            return True
    extras = [registration.observers_extra.get(callee) for callee in callees]
    return not callees or any(not e or not e.concurrency or e.concurrency_current < e.concurrency for e in extras)


def registration_ended(dealer: Any, registration_id: int) -> None:
    """Answer the calls that wait for it."""
    for waiting in dealer._call_store.of_registration(registration_id):
        why = f"no callee registered for procedure <{waiting.call.procedure}> any more"
        answer(dealer, waiting.session, waiting.call.request, why, ApplicationError.NO_SUCH_PROCEDURE)
