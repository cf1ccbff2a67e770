"""A node has its master prove its key, tells it where it is, waits to be paired, and is callable once it has joined."""

from crossbar_cluster.overlay import Record

SESSION = Record(
    target="crossbar.edge.node.management:NodeManagementSession",
    kind="subclass",
    members=("join", "onJoin"),
    why="The release puts a node's address into its key file once and never tells the master of another one.",
    retire="When a released node sends its cluster address with every HELLO to the master.",
    relies_on=("crossbar.edge.node.management:NodeManagementSession.onConnect",),
)

PAIRING = Record(
    target="crossbar.edge.node.management:NodeManagementSession",
    kind="subclass",
    members=("onLeave",),
    why="A node that is started before it is paired exits.",
    retire="When a released node waits for its pairing.",
    relies_on=("crossbar.edge.node.management:NodeManagementSession.__init__",),
)

MASTER = Record(
    target="crossbar.edge.node.management:NodeManagementSession",
    kind="subclass",
    members=("join", "onChallenge", "onWelcome", "onJoin", "onLeave", "onUserError"),
    why="Whoever is at the master's address is taken for the master: it manages the node, and gets signatures of "
    "whatever it asks for.",
    retire="When a released node demands its master's proof, and signs nothing that the other end has chosen.",
    relies_on=(
        "crossbar.edge.node.management:NodeManagementSession.onConnect",
        "crossbar.edge.node.management:NodeManagementSession.__init__",
        "crossbar.edge.node.node:FabricNode.boot",
    ),
)

BRIDGE = Record(
    target="crossbar.edge.node.management:NodeManagementBridgeSession",
    kind="subclass",
    members=(
        "__init__",
        "attach_manager",
        "detach_manager",
        "_start_call_forwarding",
        "_stop_call_forwarding",
        "_start_event_forwarding",
        "_stop_event_forwarding",
        "_start_cfc_heartbeat",
        "call",
    ),
    why=(
        "A node that reconnects before the master has noticed the end of its former session is refused every "
        "registration and stays unmanageable. The master learns that a worker has ended only by asking. "
        "Each reconnect within 5 s leaves one more heartbeat loop running. A worker that is being started while its "
        "node joins is told the node's name before it can be called: an INTERNAL ERROR, with a traceback. A worker "
        "that hangs ends all heartbeats of its node, and each call to it waits for ever."
    ),
    retire="When a released node takes its registrations over, tells of ended workers, and keeps one heartbeat loop.",
    relies_on=(
        "crossbar.edge.node.management:NodeManagementBridgeSession._stop_cfc_heartbeat",
        "crossbar.edge.node.management:NodeManagementBridgeSession._translate_uri",
        "crossbar.edge.node.node:FabricNodeControllerSession.get_status",
        "crossbar.edge.node.node:FabricNode.boot",
        "crossbar.node.controller:NodeController._start_native_worker",
        "crossbar.router.dealer:Dealer.processRegister",
        "crossbar.router.dealer:Dealer.detach",
        "crossbar.router.observation:UriObservationMap.drop_observer",
    ),
)


@SESSION
class AddressTellingSession:
    """Adds the node's cluster address to the authextra of its HELLO, and what it offers to be paired."""

    def join(self, *args, authextra=None, **kwargs):
        from crossbar_cluster.node.address import claim_in_authextra
        from crossbar_cluster.node.pairing_offer import offer_in_authextra

        authextra = offer_in_authextra(claim_in_authextra(authextra), self.log)
        return super().join(*args, authextra=authextra, **kwargs)

    def onJoin(self, details):
        from crossbar_cluster.node.address import unheard_claim
        from crossbar_cluster.node.uplink import tell_joined

        if unheard := unheard_claim(details.authextra):
            self.log.warn("Node {node}: {unheard}", node=details.authid, unheard=unheard)
        tell_joined(self._runner)
        return super().onJoin(details)


@PAIRING
class PatientSession:
    """Leaves it to the uplink to try again when the master does not know the node."""

    def onLeave(self, details):
        from crossbar_cluster.node.uplink import can_wait

        waits = can_wait(self._runner, details.reason, details.message)
        return self.disconnect() if waits else super().onLeave(details)


@MASTER
class MasterKnowingSession:
    """Does nothing for whoever does not prove to be the node's master."""

    def join(self, *args, authextra=None, **kwargs):
        from crossbar_cluster.node.introduction import Introduction

        node = self.config.extra["node"]
        self._introduction = Introduction(node._cbdir, node.secmod[1].public_key(binary=False), self.log)
        return super().join(*args, authextra=self._introduction.in_authextra(authextra), **kwargs)

    def onChallenge(self, challenge):
        from crossbar_cluster.node.introduction import NotProven
        from crossbar_cluster.node.uplink import tell_distrusted

        try:
            self._introduction.check(challenge.method, challenge.extra)
        except NotProven as e:
            tell_distrusted(self._runner, self.log, e.why, impostor=not e.own_trouble)
            raise
        return super().onChallenge(challenge)

    def onWelcome(self, welcome):
        from twisted.internet import reactor

        from crossbar_cluster.node.introduction import REFUSAL
        from crossbar_cluster.node.uplink import tell_distrusted

        why = self._introduction.welcomed()
        if not why:
            return None
        tell_distrusted(self._runner, self.log, why)
        reactor.callLater(0, self.disconnect)  # after the ABORT; Autobahn leaves the connection open
        return REFUSAL

    def onJoin(self, details):
        self._introduction.joined()
        return super().onJoin(details)

    def onLeave(self, details):
        # refused: the rest of the node has never heard of this session
        return self.disconnect() if self._introduction.refused else super().onLeave(details)

    def onUserError(self, fail, msg):
        from crossbar_cluster.node.introduction import NotProven

        return None if fail.check(NotProven) else super().onUserError(fail, msg)  # that has been told


@BRIDGE
class TakingOverBridge:
    """Forwards calls through one registration, tells of ended workers, and attaches and detaches one at a time."""

    def __init__(self, config):
        from twisted.internet import reactor
        from twisted.internet.defer import DeferredLock

        from crossbar_cluster.node.bridge import CallsToWorkers

        super().__init__(config)
        self._to_workers = CallsToWorkers(reactor)
        self._changing = DeferredLock()  # an uplink that is lost while it is attached is detached afterwards
        self._forwarding = None
        self._sub_on_leave = None

    def attach_manager(self, manager, management_realm, node_id):
        return self._changing.run(super().attach_manager, manager, management_realm, node_id)

    def detach_manager(self):
        return self._changing.run(super().detach_manager)

    def call(self, procedure, *args, **kwargs):
        from crossbar_cluster.node.bridge import unless_starting

        call = super().call
        make, has_arguments = lambda: call(procedure, *args, **kwargs), bool(args or kwargs)
        called = self._to_workers.call(procedure, make, has_arguments=has_arguments)
        return unless_starting(procedure, called)

    def _start_call_forwarding(self):
        from twisted.internet import reactor

        from crossbar_cluster.node.bridge import CallForwarding

        self._forwarding = CallForwarding(self, self._manager, self._node_id, reactor)
        self._forwarding.start()

    def _stop_call_forwarding(self):
        if self._forwarding is not None:
            self._forwarding.stop()
            self._forwarding = None

    def _start_event_forwarding(self):
        from twisted.internet.defer import gatherResults

        from crossbar_cluster.node.bridge import tell_worker_gone

        def remember(subscription):
            self._sub_on_leave = subscription

        subscribing = self.subscribe(lambda *args: tell_worker_gone(self), "wamp.session.on_leave")
        return gatherResults([super()._start_event_forwarding(), subscribing.addCallback(remember)])

    def _stop_event_forwarding(self):
        subscription, self._sub_on_leave = self._sub_on_leave, None
        stopping = super()._stop_event_forwarding()
        return stopping if subscription is None else subscription.unsubscribe().addBoth(lambda _: stopping)

    def _start_cfc_heartbeat(self):
        # Each attach_manager has this called a few seconds later: a detach, or another attach, may have come since.
        if self._manager is not None and self._heartbeat_call is None:
            super()._start_cfc_heartbeat()
