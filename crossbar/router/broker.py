"""A publication goes to the clients of this router, and once to each other router that has a use for it."""

from crossbar_cluster.overlay import Record

LINKED = Record(
    target="crossbar.router.broker:Broker",
    kind="subclass",
    members=("processPublish", "_filter_publish_receivers"),
    why=(
        "The release treats another router as one more subscriber: it applies to it whom a publication is for and not "
        "for, so that it gets too little, and forgets to tell it, so that its clients get too much; with several "
        "matching subscriptions the event arrives several times; a publisher that is not disclosed cannot be forwarded "
        "at all. And it believes any client that says, in forward_for, for whom it publishes."
    ),
    retire="When the released links carry whom a publication is from and for, once, and clients cannot forge it.",
    relies_on=(
        "crossbar.router.broker:Broker.processPublish",
        "crossbar.router.router:Router.send",
        "crossbar.router.router:Router.authorize",
    ),
)


SUBSCRIBE = Record(
    target="crossbar.router.broker:Broker",
    kind="subclass",
    members=("processSubscribe",),
    why="One client can subscribe without end: it takes the memory, and the time, of all others.",
    retire="When a released router has limits for what a client subscribes.",
    relies_on=("crossbar.router.broker:Broker.processSubscribe",),
)


@SUBSCRIBE
class LimitedSubscriptions:
    """The limits are in `crossbar_cluster.router.limits`."""

    def processSubscribe(self, session, subscribe):
        if self._router.limits.may_subscribe(session, subscribe):
            super().processSubscribe(session, subscribe)


@LINKED
class LinkedBroker:
    """What other routers are sent is in `crossbar_cluster.links.realm`."""

    def processPublish(self, session, publish):
        self._router.links.deny_forwarding(session, publish)
        publish._router_internal = (session._session_id, session._authid, session._authrole)
        super().processPublish(session, publish)

    def _filter_publish_receivers(self, receivers, publish):
        return super()._filter_publish_receivers(self._router.links.pass_on(receivers, publish), publish)
