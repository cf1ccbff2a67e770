"""A call is answered once, also when its callee ends; one that has come over a link goes to a client of this router."""

from crossbar_cluster.overlay import Record

ANSWERS = Record(
    target="crossbar.router.dealer:Dealer",
    kind="subclass",
    members=("detach",),
    why=(
        "When a session ends, the release tells every caller of a call to it that it is cancelled, those included that "
        "have cancelled it themselves and have been told so. Autobahn takes an answer to nothing for a violation of "
        "the protocol and drops its session: one call that is given up to a node that hangs, and the node's end costs "
        "the management controller its session."
    ),
    retire="When the released dealer answers a cancelled call once.",
    relies_on=(
        "crossbar.router.dealer:Dealer.detach",
        "crossbar.router.dealer:Dealer.processCancel",
        "crossbar.router.dealer:Dealer._remove_invoke_request",
        "crossbar.router.dealer:_can_cancel",
    ),
)


@ANSWERS
class AnsweringOnce:
    """Forgets the calls that have had their answer before the session that they went to is detached."""

    def detach(self, session):
        from crossbar.router.dealer import _can_cancel

        # Not answered yet, and left to the release: calls to a session that cannot be told of a cancellation, and those
        # whose caller waits to hear of it. A caller that has left meanwhile is tracked no more, and is sent nothing.
        if _can_cancel(session, "callee"):
            for invocation in list(self._callee_to_invocations.get(session, ())):
                answered = invocation.canceled and invocation.error_msg is None
                if answered and invocation.caller in self._caller_to_invocations:
                    self._remove_invoke_request(invocation)
        return super().detach(session)


LINKED = Record(
    target="crossbar.router.dealer:Dealer",
    kind="subclass",
    members=("__init__", "processCall", "_call", "processCancel", "processYield", "processInvocationError"),
    why=(
        "In the release a call that has come over a link can be sent over the next one, where it is dropped: the "
        "caller gets a null for an answer. One that is more than the link, or any connection, takes is never answered. "
        "And the release believes any client that says, in forward_for, for whom it calls: a callee that asks is told "
        "whatever a client likes."
    ),
    retire="When the released dealer sends forwarded calls to its own clients only, and clients cannot forge them.",
    relies_on=(
        "crossbar.router.dealer:Dealer.processCall",
        "crossbar.router.dealer:Dealer._call",
        "crossbar.router.dealer:Dealer._add_invoke_request",
        "crossbar.router.dealer:Dealer.processYield",
        "crossbar.router.dealer:Dealer.processInvocationError",
        "crossbar.router.dealer:Dealer._remove_invoke_request",
        "crossbar.router.dealer:Dealer.processCancel",
    ),
)


@LINKED
class LinkedDealer:
    """Who may be called for a client of another router is in `crossbar_cluster.links.callees`."""

    def __init__(self, *args, **kwargs):
        from crossbar_cluster.links import callees
        from crossbar_cluster.links.realm import UNSENDABLE

        super().__init__(*args, **kwargs)
        # once: an import statement for each call costs as much as what it is for
        self._callees, self._unsendable = callees, UNSENDABLE

    def processCall(self, session, call):
        self._router.links.deny_forwarding(session, call)
        self._router.links.asked(session)
        super().processCall(session, call)

    def _call(self, session, call, registration, authorization, is_queued_call=False):
        registration = self._callees.for_call(self, session, call, registration)
        if registration is None:
            return False
        try:
            return super()._call(session, call, registration, authorization, is_queued_call)
        except self._unsendable as e:
            self._callees.fail(self, self._invocations_by_call.get((session._session_id, call.request)), e)
            return False

    def processCancel(self, session, cancel):
        self._router.links.deny_forwarding(session, cancel)
        super().processCancel(session, cancel)

    def processYield(self, session, yield_):
        self._router.links.deny_forwarding(session, yield_)
        try:
            super().processYield(session, yield_)
        except self._unsendable as e:
            self._callees.fail(self, self._invocations.get(yield_.request), e)

    def processInvocationError(self, session, error):
        try:
            super().processInvocationError(session, error)
        except self._unsendable as e:
            self._callees.fail(self, self._invocations.get(error.request), e, counted=False)
