"""A call to a component that runs within a router can be given up."""

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
