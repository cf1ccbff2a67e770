"""A router knows the other routers of its realm, and takes off wholly who leaves."""

from crossbar_cluster.overlay import Record

ROUTER = Record(
    target="crossbar.router.router:Router",
    kind="subclass",
    members=("__init__", "attach", "process"),
    why="The release has links between routers that nobody is told of: what they hold is kept when they are replaced.",
    retire="When the released router knows which of its sessions are links, and of whom.",
    relies_on=(
        "crossbar.router.router:Router.attach",
        "crossbar.router.router:Router.detach",
        "crossbar.router.router:Router.process",
        "crossbar.router.session:RouterSession.onMessage",
        "crossbar.router.session:RouterSession.onClose",
        "crossbar.router.session:RouterSession.leave",
    ),
)

REALM_STARTED = Record(
    target="crossbar.router.router:RouterFactory.start_realm",
    kind="wrap",
    members=("start_realm",),
    why="A realm that is started on a linked router worker is to be linked as well.",
    retire="When released links are of router workers and not of realms.",
    reason="The factory is made in one place among many other things; the method is called as it is.",
    relies_on=("crossbar.router.router:RouterFactory.start_realm",),
)

REALM_STOPPED = Record(
    target="crossbar.router.router:RouterFactory.stop_realm",
    kind="wrap",
    members=("stop_realm",),
    why="The links of a realm that is stopped have to end. And sessions stay on it that nobody is ever told of.",
    retire="When released links are of router workers and not of realms.",
    reason="The factory is made in one place among many other things; the method is called as it is.",
    relies_on=("crossbar.router.router:RouterFactory.stop_realm",),
)

LAST_DETACHED = Record(
    target="crossbar.router.router:RouterFactory.on_last_detach",
    kind="replace",
    members=("on_last_detach",),
    why="Stopping a realm always fails: the last session that is detached takes the router away, and what stops the "
    "realm then does not find it. It can neither be stopped nor started again for as long as its worker lives.",
    retire="When the released RouterFactory.stop_realm does not fail.",
    reason="The method takes the router away and does nothing else.",
    relies_on=(
        "crossbar.router.router:RouterFactory.stop_realm",
        "crossbar.router.router:Router.detach",
        "crossbar.worker.router:RouterController.stop_router_realm",
    ),
)


@ROUTER
class LinkedRouter:
    """What it has to do with other routers is in ``links``, a `crossbar_cluster.links.realm.RealmLinks`."""

    def __init__(self, factory, *args, **kwargs):
        from crossbar_cluster.links.realm import RealmLinks

        super().__init__(factory, *args, **kwargs)
        self.links = RealmLinks(self, factory._reactor)

    def attach(self, session):
        from crossbar_cluster.node.backend_auth import linked_worker_of

        linked = linked_worker_of(session)
        if linked is not None:
            self.links.peer_joined(session, *linked)
        return super().attach(session)

    def process(self, session, msg):
        self.links.heard(session)
        super().process(session, msg)


LEAVING = Record(
    target="crossbar.router.router:Router",
    kind="subclass",
    members=("__init__", "attach", "_detach", "_session_left", "send"),
    why="When anything fails while a session is taken off, the release leaves the rest undone: registrations of a "
    "session that is gone stay for ever. It takes off all that a session has in one go, in which nobody else is "
    "served. And one subscriber whose connection is about to close, or cannot carry an event, keeps it from others.",
    retire="When the released router takes sessions off wholly and in slices, and sends to each receiver by itself.",
    relies_on=(
        "crossbar.router.router:Router._detach",
        "crossbar.router.router:Router._session_left",
        "crossbar.router.broker:Broker.__init__",
        "crossbar.router.broker:Broker.detach",
        "crossbar.router.broker:Broker._unsubscribe",
        "crossbar.router.dealer:Dealer.detach",
        "crossbar.router.dealer:Dealer._unregister",
        "crossbar.router.session:RouterSession.onMessage",
    ),
)


@LEAVING
class LeavingRouter:
    """How sessions are taken off is in ``leaving``, a `crossbar_cluster.router.leaving.Leaving`."""

    def __init__(self, factory, *args, **kwargs):
        from autobahn.exception import Disconnected
        from autobahn.wamp.exception import TransportLost
        from autobahn.wamp.message import Event

        from crossbar_cluster.router.leaving import Leaving
        from crossbar_cluster.router.limits import RealmLimits

        super().__init__(factory, *args, **kwargs)
        self._closed, self._event = (Disconnected, TransportLost), Event
        self.leaving = Leaving(self, factory._reactor)
        self._leaving = self.leaving.sessions
        self.limits = RealmLimits(self, factory._reactor)

    def attach(self, session):
        self.leaving.finish(session)
        self.limits.joined(session)
        return super().attach(session)

    def _detach(self, session):
        from crossbar.router import NotAttached

        if not self.leaving.begin(session):
            raise NotAttached(f"session with ID {session._session_id} not attached")
        if not self._attached:
            self._factory.on_last_detach(self)
        return session._session_id

    def _session_left(self, session, session_details, close_details):
        self.leaving.left(session, session_details, close_details)

    def send(self, session, msg):
        if self._leaving and session in self._leaving:
            return
        try:
            super().send(session, msg)
        except self._closed:  # its end is about to be told
            pass
        except Exception as e:
            if type(msg) is not self._event:
                raise
            self.leaving.undelivered(session, e)


UNDECIDED = Record(
    target="crossbar.router.router:Router",
    kind="subclass",
    members=("authorize",),
    why="Requests that wait for a dynamic authorizer are counted nowhere: a client can have any number of them.",
    retire="When a released router limits what a client has in flight.",
    relies_on=("crossbar.router.router:Router.authorize",),
)


@UNDECIDED
class CountingRequests:
    """They count as what they ask for (`crossbar_cluster.router.limits`)."""

    def authorize(self, session, uri, action, options):
        decision = super().authorize(session, uri, action, options)
        return decision if decision.called else self.limits.authorizing(session, decision)


@REALM_STARTED
def start_realm(wrapped, instance, args, kwargs):
    from crossbar_cluster.links.worker import realm_started

    router = wrapped(*args, **kwargs)
    realm_started(instance.worker, router)
    return router


@REALM_STOPPED
def stop_realm(wrapped, instance, args, kwargs):
    from crossbar_cluster.links.worker import realm_stopped
    from crossbar_cluster.node.router_worker import end_realm

    realm_stopped(instance.worker, args[0])
    ended = end_realm(instance[args[0]]) if args[0] in instance else []
    return [*ended, *wrapped(*args, **kwargs)]


@LAST_DETACHED
def on_last_detach(self, router):
    """A realm ends when it is stopped."""
