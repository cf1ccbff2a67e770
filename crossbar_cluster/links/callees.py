"""Whom a call may be sent to: one that has come over a link to a client of this router, and over no other link.

And what becomes of one that cannot be sent, or whose answer cannot.
"""

from __future__ import annotations

from typing import Any

from autobahn.wamp.exception import ApplicationError
from autobahn.wamp.message import Call, Error

from crossbar_cluster.links.realm import is_local
from crossbar_cluster.links.remote import ForwardedCall, Nowhere


class LocalCallees:
    """A registration, as the released dealer reads it, with those of its callees that are clients of this router."""

    def __init__(self, registration: Any) -> None:
        self.id, self.uri, self.match = registration.id, registration.uri, registration.match
        self.extra, self.observers_extra = registration.extra, registration.observers_extra
        self.observers = [callee for callee in registration.observers if is_local(callee)]


def for_call(dealer: Any, session: Any, call: Any, registration: Any) -> Any:
    """The registration as it is to be used for a call.

    :param dealer: the release's ``Dealer``. :param session: of the caller. :param registration: that fits best here.
    :returns: None: there is nobody to be called; the caller has been told, if it can be.
    """
    if not isinstance(call, ForwardedCall):
        return registration
    if isinstance(session._transport, Nowhere):  # its link has ended while it was authorized
        return None
    # the one that the caller's router has chosen: here another may fit better, which is of a router not linked there
    chosen = dealer._registration_map.get_observation(call.registered.uri, call.registered.match)
    local = LocalCallees(chosen) if chosen is not None else None
    if local is not None and local.observers:
        return local
    why = f"no callee registered for procedure <{call.procedure}> any more"
    error = Error(Call.MESSAGE_TYPE, call.request, ApplicationError.NO_SUCH_PROCEDURE, [why])
    dealer._router.send(session, error)
    return None


def fail(dealer: Any, invocation: Any, problem: Exception, *, counted: bool = True) -> None:
    """Answer a call that could not be sent, or whose answer could not: the release leaves it as it is, for ever.

    :param invocation: the release's ``InvocationRequest``; None: nobody waits for it.
    :param counted: it still counts as one that its callee is busy with.
    :raises Exception: the problem, if nobody waits: it is another one, and is to be logged.
    """
    if invocation is None:
        raise problem
    extra = invocation.registration.observers_extra.get(invocation.callee)
    if counted and extra is not None:
        extra.concurrency_current -= 1
    dealer._remove_invoke_request(invocation)
    why = f"call of procedure <{invocation.call.procedure}> with a payload that cannot be passed on: {problem}"
    error = Error(Call.MESSAGE_TYPE, invocation.call.request, ApplicationError.INVALID_ARGUMENT, [why])
    dealer._router.send(invocation.caller, error)
