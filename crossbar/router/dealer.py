"""A call is answered once and leaves nothing; one that has come over a link goes to a client of this router."""

from crossbar_cluster.overlay import Record

ENDINGS = Record(
    target="crossbar.router.dealer:Dealer",
    kind="subclass",
    members=("_add_invoke_request", "_remove_invoke_request", "processInvocationError"),
    why=(
        "The release keeps some calls, with their payloads, after their caller or callee has left, answers some twice "
        "and some never, and forgets that callees are free again and that calls wait for them. An error is taken from "
        "any session. What it cannot take apart as it expects to, it leaves half taken apart."
    ),
    retire="When the released dealer keeps nothing of a call that has ended, whichever way, and answers each once.",
    relies_on=(
        "crossbar.router.dealer:InvocationRequest.__init__",
        "crossbar.router.dealer:Dealer.__init__",
        "crossbar.router.dealer:Dealer.processCancel",
        "crossbar.router.dealer:Dealer.processYield",
        "crossbar.router.dealer:_can_cancel",
        "crossbar.router.realmstore:RealmStoreMemory.maybe_queue_call",
    ),
)


@ENDINGS
class EndingCalls:
    """How calls end is in `crossbar_cluster.router.calls`."""

    def _add_invoke_request(self, *args, timeout=None, **kwargs):
        invocation = super()._add_invoke_request(*args, **kwargs)
        if timeout:
            from crossbar_cluster.router.calls import time_is_over

            over = self._cancel_timers.call_later(timeout, lambda: time_is_over(self, invocation))
            invocation.timeout_call = over
        return invocation

    def _remove_invoke_request(self, invocation_request):
        self._ends.forget(self, invocation_request)

    def processInvocationError(self, session, error):
        from autobahn.wamp.exception import ProtocolError

        invocation = self._invocations.get(error.request)
        if invocation is not None and invocation.callee is not session:
            raise ProtocolError(f"ERROR for the invocation {error.request}, which is of another session")
        super().processInvocationError(session, error)


LINKED = Record(
    target="crossbar.router.dealer:Dealer",
    kind="subclass",
    members=("__init__", "processCall", "_call", "processCancel", "processYield", "processInvocationError"),
    why=(
        "In the release a call that has come over a link can be sent over the next one, where it is dropped: the "
        "caller gets a null for an answer. One that is more than the link, or any connection, takes is never answered. "
        "And the release believes any client that says, in forward_for, for whom it calls: a callee that asks is told "
        "whatever a client likes. A request id that is in flight is taken for a new one."
    ),
    retire="When the released dealer sends forwarded calls to its own clients only, clients cannot forge them, and a "
    "request id that is in flight is refused.",
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
        from crossbar_cluster.router import calls, requests

        super().__init__(*args, **kwargs)
        # once: an import statement for each call costs as much as what it is for
        self._callees, self._unsendable, self._ends, self._requests = callees, UNSENDABLE, calls, requests
        self._checked = None  #: the call that is being processed
        if self._call_store is not None:
            self._call_store = requests.queue_of(self)

    def processCall(self, session, call):
        self._router.links.deny_forwarding(session, call)
        self._router.links.asked(session)
        if self._requests.is_refused(self, session, call):
            return
        self._checked = call
        super().processCall(session, call)
        self._checked = None

    def _call(self, session, call, registration, authorization, is_queued_call=False):
        if call is not self._checked and not is_queued_call and self._requests.is_over(self, session, call):
            return False  # it was authorized late
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
        invocation = self._requests.to_be_canceled(self, session, cancel)
        if invocation is not None:
            super().processCancel(session, cancel)
            self._requests.answer_canceled(self, invocation, cancel)

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


REGISTER = Record(
    target="crossbar.router.dealer:Dealer",
    kind="subclass",
    members=("processRegister",),
    why="One client can register without end: it takes the memory, and the time, of all others.",
    retire="When a released router has limits for what a client registers.",
    relies_on=("crossbar.router.dealer:Dealer.processRegister",),
)


@REGISTER
class LimitedRegistrations:
    """The limits are in `crossbar_cluster.router.limits`."""

    def processRegister(self, session, register):
        if self._router.limits.may_register(session, register):
            super().processRegister(session, register)
