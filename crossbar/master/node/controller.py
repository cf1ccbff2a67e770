"""Nodes are paired by the keys that they show, one name for one key; the control planes hear of it at once."""

from crossbar_cluster.overlay import Record

DOMAIN = Record(
    target="crossbar.master.node.controller:DomainController",
    kind="subclass",
    members=("publish",),
    why="Nodes are paired and unpaired in another worker than the one that keeps the cluster as it is configured. "
    "The release tells users of it, on a realm that the management controller is not on.",
    retire="When released management controllers are told of pairings.",
    relies_on=(
        "crossbar.master.mrealm.mrealm:MrealmManager.pair_node",
        "crossbar.master.mrealm.mrealm:MrealmManager.unpair_node",
        "crossbar.master.node.controller:DomainController.onJoin",
        "crossbar.master.node.node:FabricCenterNode._add_worker_role",
    ),
)

WATCH = Record(
    target="crossbar.master.node.controller:DomainController",
    kind="subclass",
    members=("_initialize", "onJoin", "onLeave"),
    why="A key file under a name that another node has takes that node's place, without a word. One file that is "
    "malformed keeps all other nodes from being paired.",
    retire="When the released master refuses names that are taken, and passes over files that it cannot read.",
    reason="What watches is a closure in `onJoin`: it is configured away, and another one started.",
    relies_on=(
        "crossbar.master.node.controller:DomainController._initialize",
        "crossbar.master.node.controller:DomainController.onJoin",
        "crossbar.common.key:_write_node_key",
        "crossbar.common.checkconfig:maybe_from_env",
    ),
)


@DOMAIN
class TellingDomainController:
    """Tells the master's other workers what it tells users."""

    def publish(self, topic, *args, **kwargs):
        from crossbar_cluster.control.pairing import tell_if_pairing

        published = super().publish(topic, *args, **kwargs)
        tell_if_pairing(self, topic)
        return published


@WATCH
class WatchingDomainController:
    """Watches for keys in the release's stead."""

    _looking = None  # the loop that does

    def _initialize(self):
        super()._initialize()
        self._watch_configured = dict(self._auto_default_mrealm or {})
        self._auto_default_mrealm = {**self._watch_configured, "watch_to_pair": None}

    async def onJoin(self, details):
        from crossbar_cluster.control.watching import watch

        await super().onJoin(details)
        self._looking = watch(self, self._watch_configured)

    def onLeave(self, details):
        if self._looking is not None and self._looking.running:
            self._looking.stop()
        return super().onLeave(details)
