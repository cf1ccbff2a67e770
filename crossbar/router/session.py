"""A call to a component that runs within a router can be given up; a session that ends is taken off its router."""

from crossbar_cluster.overlay import Record

INTERRUPTED = Record(
    target="crossbar.router.session:RouterApplicationSession",
    kind="subclass",
    members=("send",),
    why="The release has no INTERRUPT for embedded components, although they say that they take it, and raises: a call "
    "to one that is given up is never answered, and one that has come over a link ends the link.",
    retire="When the released RouterApplicationSession.send delivers INTERRUPT.",
    relies_on=(
        "crossbar.router.session:RouterApplicationSession.send",
        "crossbar.router.dealer:Dealer.processCancel",
    ),
)


@INTERRUPTED
class Interruptible:
    """Delivers it as soon as the dealer is done: the component answers at once, and the dealer expects that later."""

    def send(self, msg):
        from autobahn.wamp.message import Interrupt

        if isinstance(msg, Interrupt):
            self._router._factory._reactor.callLater(0, self._session.onMessage, msg)
        else:
            super().send(msg)


CLOSED = Record(
    target="crossbar.router.session:RouterSession",
    kind="subclass",
    members=("onClose",),
    why="When something fails while a connection ends, its session stays on the router, with all that it has.",
    retire="When the released RouterSession.onClose takes a session off its router in any case.",
    relies_on=(
        "crossbar.router.session:RouterSession.onClose",
        "crossbar.router.session:RouterSession.onLeave",
        "crossbar.router.router:Router.detach",
    ),
)


@CLOSED
class EndingSession:
    """What is done when the release has not done it is in `crossbar_cluster.router.closing`."""

    def onClose(self, wasClean):
        from crossbar_cluster.router.closing import closed

        router, session_id = self._router, self._session_id
        try:
            super().onClose(wasClean)
        finally:
            if router is not None:
                closed(router, self, session_id)
