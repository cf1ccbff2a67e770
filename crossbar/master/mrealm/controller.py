"""The management controller counts nodes' sessions, survives its own event handlers, and runs the control plane."""

from autobahn import wamp

from crossbar_cluster.overlay import Record

CONTROLLER = Record(
    target="crossbar.master.mrealm.controller:MrealmController",
    kind="subclass",
    members=(
        "onJoin",
        "onLeave",
        "subscribe",
        "publish",
        "check_and_apply",
        "_on_node_ready",
        "_on_node_shutdown",
        "_on_node_heartbeat",
        "_on_worker_heartbeat",
        "_on_session_startup",
        "_on_session_shutdown",
    ),
    why="The release takes a node that returns for offline until its next heartbeat, takes it for gone when an old "
    "session of it ends after the new one began, misses nodes that join while it starts, believes what a heartbeat "
    "says of its sender, restarts as a whole on an error in one event handler, warns of each heartbeat of a "
    "node, writes each of a worker to the disk by itself, and asks all nodes for their status each 10 s.",
    retire="When the released master acts on the sessions of nodes, and an error in an event handler stays there.",
    relies_on=(
        "crossbar.master.mrealm.controller:MrealmController._initialize",
        "crossbar.master.mrealm.controller:MrealmController._publish_on_node_ready",
        "crossbar.master.mrealm.controller:MrealmController._publish_on_node_shutdown",
        "crossbar.master.mrealm.controller:MrealmController.get_node",
        "crossbar.master.mrealm.controller:Node",
    ),
)

CONFIGURATION = "crossbarfabriccenter.mrealm."


@CONTROLLER
class HealingController:
    """Tells the control plane what happens, and keeps the release's own map of nodes in line with it."""

    plane = None  # there is none before the session has joined
    _pairings = None  # the subscription to news of them

    def onJoin(self, details):
        from twisted.internet import reactor
        from twisted.internet.defer import ensureDeferred

        from crossbar_cluster.control.plane import ControlPlane

        self.plane = ControlPlane(self, reactor, self.log)
        return super().onJoin(details).addCallback(lambda _: ensureDeferred(self._start_plane()))

    async def _start_plane(self):
        from crossbar_cluster.control.pairing import hear_of_pairings

        if not self.is_attached():  # the release could not start, has said why, and will be started anew
            return
        await self.subscribe(self._on_registration, "wamp.registration.on_register")
        of_nodes = wamp.types.SubscribeOptions(match="wildcard", details=True)
        await self.subscribe(self._on_something_ended, "crossbarfabriccenter.node..on_worker_gone", of_nodes)
        unreachable = "crossbarfabriccenter.node..worker..on_backend_unreachable"
        await self.subscribe(self._on_backend_unreachable, unreachable, of_nodes)
        links = "crossbarfabriccenter.node..worker..on_router_link_changed"
        await self.subscribe(self._on_router_link_changed, links, of_nodes)
        self._pairings = await hear_of_pairings(self, self.plane.look_for_pairings)
        self.plane.start()

    def onLeave(self, details):
        from crossbar_cluster.control.pairing import hear_no_more

        if self.plane:
            self.plane.stop()
        hear_no_more(self._pairings)
        return super().onLeave(details)

    def subscribe(self, handler, topic=None, options=None, **kwargs):
        from crossbar_cluster.control.guard import guarded

        handler = guarded(handler, self.log, topic) if callable(handler) else handler
        return super().subscribe(handler, topic, options, **kwargs)

    def publish(self, topic, *args, **kwargs):
        # each management call that changes configuration publishes an event of it
        if self.plane and topic.startswith(CONFIGURATION) and ".on_" in topic[len(CONFIGURATION) :]:
            self.plane.configuration_changed()
        from crossbar_cluster.control.records import plain_times

        plain_times(args)  # in place: the release returns the same objects to its caller
        return super().publish(topic, *args, **kwargs)

    async def check_and_apply(self):
        """All that is left to do for the release's 10 s loop: find pairings that nobody has told of."""
        if self.plane:
            self.plane.look_for_pairings()

    async def _on_session_startup(self, session, details=None):
        if session.get("authrole") == "node":
            oid = self.plane.presence.joined(session["session"], session["authid"], session.get("authextra"))
            if oid:
                self.tell_node_came(oid, session["authid"])

    async def _on_session_shutdown(self, session_id, details=None):
        authid = self.plane.presence.authid_of(session_id)
        oid = self.plane.presence.left(session_id)
        if oid:
            self.tell_node_went(oid, authid)

    def tell_node_came(self, oid, authid):
        """A node that was offline has a management session now. Nothing waits for those who are told."""
        from crossbar.master.mrealm.controller import Node
        from crossbar_cluster.control.guard import detached

        self._nodes[str(oid)] = node = Node(str(oid), node_authid=authid)
        self.log.info("Node {authid} is online now", authid=authid)
        detached(self._publish_on_node_ready(node), self.log)

    def tell_node_went(self, oid, authid):
        """A node has no management session any more. Nothing waits for those who are told."""
        from crossbar_cluster.control.guard import detached

        node = self._nodes.pop(str(oid), None)
        self.log.warn("Node {authid} is offline now: its last management session has ended", authid=authid)
        if node:
            node.status = "offline"
            detached(self._publish_on_node_shutdown(node), self.log)

    def unit_stopped(self, kind, oid):
        """A realm or cluster has come to a stop: its monitor makes room for the one of the next start."""
        managers = {
            "arealm": self._arealm_manager,
            "routercluster": self._routercluster_manager,
            "webcluster": self._webcluster_manager,
        }
        managers[kind]._monitors.pop(oid, None)

    async def _on_registration(self, session_id, registration_id):
        self.plane.inbox.registered(session_id)

    async def _on_something_ended(self, details=None):
        self.plane.inbox.something_ended(details.publisher_authid)

    async def _on_backend_unreachable(self, connection_id, details=None):
        self.plane.inbox.backend_unreachable(details.publisher_authid, connection_id)

    async def _on_router_link_changed(self, worker, details=None):
        self.plane.inbox.link_changed(details.publisher_authid, worker)

    async def _on_node_ready(self, *args, details=None, **kwargs):
        """A node says that it has booted. That it is there is told by its session."""

    async def _on_node_shutdown(self, *args, details=None, **kwargs):
        """A node says that it is about to end. That it is gone is told by its session."""

    async def _on_node_heartbeat(self, node_authid, heartbeat, details=None):
        if self._is_from(node_authid, details):
            self.plane.inbox.heartbeat(node_authid, heartbeat)

    async def _on_worker_heartbeat(self, node_authid, worker_id, heartbeat, details=None):
        if self._is_from(node_authid, details):
            self.plane.inbox.heartbeat(node_authid, heartbeat, worker_id)

    def _is_from(self, node_authid, details):
        """Whether an event was published by the node that it says it is of."""
        publisher = details.publisher_authid if details else None
        if publisher == node_authid:
            return True
        if publisher and self.plane.inbox.takes(publisher, "heartbeats"):
            self.log.info("A heartbeat of node {node} from {other} is ignored", node=node_authid, other=publisher)
        return False

    @wamp.register(None)
    def get_cluster_status(self, details=None):
        """The management realm as it is: nodes, workers, placements, connections, and what is not converged and why.

        :returns: see `crossbar_cluster.control.status.status_of`.
        """
        from crossbar_cluster.control.status import status_of
        from crossbar_cluster.node.key import public_key

        return status_of(self.plane, self._realm, public_key(self.config.controller))
