"""On a master, the role of nodes lets each do what nodes do, and in its own name only."""

from crossbar_cluster.overlay import Record

NODE_ROLE = Record(
    target="crossbar.router.role:RouterRoleStaticAuth",
    kind="subclass",
    members=("__init__", "authorize"),
    why="On its management realm a node may do everything: whoever holds the key of one can start workers on all "
    "others, speak for them, and configure the cluster anew.",
    retire="When the released master restricts nodes to their own names.",
    relies_on=(
        "crossbar.router.role:RouterRoleStaticAuth.authorize",
        "crossbar.router.router:Router.authorize",
        "crossbar.router.router:RouterFactory.add_role",
        "crossbar.master.node.node:FabricServiceNodeManager._initialize_mrealm",
        "crossbar.edge.node.management:NodeManagementBridgeSession._send_heartbeat",
        "crossbar.edge.node.management:NodeManagementBridgeSession._translate_uri",
        "crossbar.edge.node.node:FabricNode.boot",
    ),
)


@NODE_ROLE
class OwnNameRole:
    """Asks, for nodes, who it is that wants to do something. A role of static permissions cannot tell them apart."""

    def __init__(self, router, uri, *args, **kwargs):
        from crossbar_cluster.control.rights import rights_of_role

        super().__init__(router, uri, *args, **kwargs)
        self._rights = rights_of_role(router, uri, self.log)

    def authorize(self, session, uri, action, options):
        authorization = super().authorize(session, uri, action, options)
        return authorization if self._rights is None else self._rights.restrict(authorization, session, uri, action)
