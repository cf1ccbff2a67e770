"""Worker groups can be configured before their nodes, grow and shrink; their workers are spread by load, and moved."""

from autobahn import wamp

from crossbar_cluster.control.monitor import IdleMonitor
from crossbar_cluster.overlay import Record

MANAGER = Record(
    target="crossbar.master.cluster.routercluster:RouterClusterManager",
    kind="subclass",
    members=(
        "list_routercluster_nodes",
        "get_routercluster_node",
        "add_routercluster_node",
        "remove_routercluster_node",
        "add_routercluster_workergroup",
        "remove_routercluster_workergroup",
        "delete_routercluster",
    ),
    why="The release puts all router workers of a worker group on one node, cannot add a group to a cluster that has "
    "no node yet nor change the scale of one, nor remove one while another of the cluster is in use, leaves placements "
    "behind when a node, group or cluster is removed, has no way to move one, and lists nodes of other clusters.",
    retire="When the released manager places by load, keeps placements in line, and scales and moves on demand.",
    relies_on=(
        "crossbar.master.cluster.routercluster:RouterClusterManager.__init__",
        "crossbar.master.cluster.routercluster:RouterClusterManager.start",
    ),
)
MONITOR = Record(
    target="crossbar.master.cluster.routercluster:RouterClusterMonitor",
    kind="subclass",
    members=("is_started", "start", "stop", "_check_and_apply"),
    why="The released monitor looks at the status of nodes every 10 s, with several log lines each time; the control "
    "plane sees in the database that a cluster is starting, and does what is to be done.",
    retire="When the released monitor is silent while nothing changes.",
    relies_on=(
        "crossbar.master.cluster.routercluster:RouterClusterManager.start",
        "crossbar.master.cluster.routercluster:RouterClusterManager.stop",
        "crossbar.master.cluster.routercluster:RouterClusterManager.start_routercluster",
    ),
)


@MANAGER
class PlacingManager:
    """The released procedures, and six of our own: what they do is in `crossbar_cluster.control`."""

    def list_routercluster_nodes(self, routercluster_oid: str, return_names=None, filter_by_status=None, details=None):
        from crossbar_cluster.control.routerclusters import members_only, node_names

        listed = super().list_routercluster_nodes(routercluster_oid, None, filter_by_status, details)
        oids = members_only(self, self.schema.routercluster_node_memberships, routercluster_oid, listed)
        return node_names(self, oids) if return_names else [str(oid) for oid in oids]

    def get_routercluster_node(self, routercluster_oid: str, node_oid: str, details=None):
        from crossbar_cluster.control.routerclusters import told_membership

        return told_membership(super().get_routercluster_node(routercluster_oid, node_oid, details))

    async def add_routercluster_node(self, routercluster_oid: str, node_oid: str, config=None, details=None):
        from crossbar_cluster.control.routerclusters import node_config, settle, told_membership

        config = node_config(self, routercluster_oid, node_oid, config)
        added = await super().add_routercluster_node(routercluster_oid, node_oid, config, details)
        await settle(self)
        return told_membership(added)

    async def remove_routercluster_node(self, routercluster_oid: str, node_oid: str, details=None):
        from crossbar_cluster.control.routerclusters import forget_node, settle

        removed = await forget_node(self, routercluster_oid, node_oid)
        if removed is None:
            removed = await super().remove_routercluster_node(routercluster_oid, node_oid, details)
        await settle(self)
        return removed

    async def add_routercluster_workergroup(self, routercluster_oid: str, workergroup: dict, details=None):
        from crossbar_cluster.control.routerclusters import add_workergroup

        return await add_workergroup(self, routercluster_oid, workergroup)

    async def remove_routercluster_workergroup(self, routercluster_oid: str, workergroup_oid: str, details=None):
        from crossbar_cluster.control.routerclusters import remove_idle_group, settle

        removed = await remove_idle_group(self, routercluster_oid, workergroup_oid, details)
        if removed is None:
            removed = await super().remove_routercluster_workergroup(routercluster_oid, workergroup_oid, details)
        await settle(self)
        return removed

    async def delete_routercluster(self, routercluster_oid: str, details=None):
        from crossbar_cluster.control.routerclusters import refuse_to_delete_cluster, settle

        refuse_to_delete_cluster(self, routercluster_oid)
        deleted = await super().delete_routercluster(routercluster_oid, details)
        await settle(self)
        return deleted

    @wamp.register(None, check_types=True)
    async def scale_workergroup(self, routercluster_oid: str, workergroup_oid: str, scale: int, details=None):
        """Let a worker group have more or fewer router workers from now on.

        :param scale: how many, from 1 to 128.
        :returns: ``workergroup``: as of ``get_routercluster_workergroup``; ``changes``: what became of placements, as
            of ``move_placements``; ``missing``: how many workers no node may take yet.
        :raises ApplicationError: ``crossbar.error.no_such_object``, ``wamp.error.invalid_argument``,
            ``wamp.error.invalid_configuration``; nothing has changed then.
        """
        from crossbar_cluster.control.routerclusters import scale_workergroup

        return await scale_workergroup(self, routercluster_oid, workergroup_oid, scale)

    @wamp.register(None, check_types=True)
    async def expect_nodes(self, routercluster_oid: str, nodes: dict, details=None):
        """Let nodes join the router cluster as soon as they are paired; those that are its members stay.

        :param nodes: names and patterns (``*``, ``?``) of nodes, each with its ``softlimit`` and ``hardlimit``, which
            may be None. They replace those that were expected before.
        :returns: cluster_oid, nodes.
        :raises ApplicationError: ``crossbar.error.no_such_object``, ``wamp.error.invalid_argument``,
            ``wamp.error.not_authorized``; nothing has changed then.
        """
        from crossbar_cluster.control.memberships import expect_nodes

        return await expect_nodes(self, "routercluster", routercluster_oid, nodes, details)

    @wamp.register(None, check_types=True)
    def get_expected_nodes(self, routercluster_oid: str, details=None):
        """The nodes that join the router cluster as soon as they are paired, as ``expect_nodes`` was given them."""
        from crossbar_cluster.control.memberships import expected_nodes

        return expected_nodes(self, "routercluster", routercluster_oid)

    @wamp.register(None, check_types=True)
    async def move_placements(self, node: str, to=None, details=None):
        """Move all router workers that are placed on a node to other nodes of their clusters.

        :param node: name or object id of the node.
        :param to: name or object id of the node that gets them all; default: the best one for each.
        :returns: one dictionary a worker: group, worker, what ("moved"), from_node, to_node.
        :raises ApplicationError: ``crossbar.error.no_such_object``, ``crossbar.error.invalid_argument``,
            ``crossbar.error.no_capacity``; nothing has changed then.
        """
        from crossbar_cluster.control.routerclusters import move

        return await move(self, node, to)

    @wamp.register(None, check_types=True)
    async def drain_node(self, node: str, details=None):
        """Place nothing on a node any more, and move what is there; arguments and errors as for ``move_placements``."""
        from crossbar_cluster.control.routerclusters import drain

        return await drain(self, node)

    @wamp.register(None, check_types=True)
    async def undrain_node(self, node: str, details=None):
        """Let router workers be placed on a node again. Those that were moved away stay where they are."""
        from crossbar_cluster.control.routerclusters import undrain

        return await undrain(self, node)


@MONITOR
class IdleRouterClusterMonitor(IdleMonitor):
    """The control plane does the work."""
