"""The control planes hear at once when a node is paired or unpaired."""

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


@DOMAIN
class TellingDomainController:
    """Tells the master's other workers what it tells users."""

    def publish(self, topic, *args, **kwargs):
        from crossbar_cluster.control.pairing import tell_if_pairing

        published = super().publish(topic, *args, **kwargs)
        tell_if_pairing(self, topic)
        return published
