"""A call that was given up is answered once, also when its callee ends."""

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
