"""Web clusters are kept as configured by the control plane, not by a loop that loses workers at the first error."""

from autobahn import wamp

from crossbar_cluster.control.monitor import IdleMonitor
from crossbar_cluster.overlay import Record

MONITOR = Record(
    target="crossbar.master.cluster.webcluster:WebClusterMonitor",
    kind="subclass",
    members=("start", "stop", "is_started", "get_cluster_workers", "_check_and_apply"),
    why="The released monitor looks every 10 s only, one node after the other, takes in members of other clusters, and "
    "publishes a list of workers that an error has cut short.",
    retire="When a released master starts proxy workers as soon as their node is there, whatever other nodes do.",
    relies_on=(
        "crossbar.master.cluster.webcluster:WebClusterManager.start",
        "crossbar.master.cluster.webcluster:WebClusterManager.start_webcluster",
        "crossbar.master.cluster.webcluster:WebClusterManager.stop_webcluster",
        "crossbar.master.cluster.webcluster:WebClusterManager.get_webcluster_workers",
        "crossbar.worker.proxy:ProxyController.start_proxy_transport",
    ),
)

MANAGER = Record(
    target="crossbar.master.cluster.webcluster:WebClusterManager",
    kind="subclass",
    members=("list_webcluster_nodes", "list_webcluster_services", "add_webcluster_service"),
    why="The release lists nodes and web services of other web clusters, too, and adds a web service only to a web "
    "cluster that is stopped, with all its clients.",
    retire="When the released manager ends its selections at the last key of the cluster, and takes web services at "
    "any time.",
    relies_on=("crossbar.master.cluster.webcluster:WebClusterManager._WEB_SERVICE_CHECKERS",),
)


@MANAGER
class ServingManager:
    """Lists what belongs to the web cluster and nothing else, adds web services to one that runs, expects nodes."""

    def list_webcluster_nodes(self, webcluster_oid: str, return_names=None, filter_by_status=None, details=None):
        from crossbar_cluster.control.routerclusters import members_only, node_names

        listed = super().list_webcluster_nodes(webcluster_oid, None, filter_by_status, details)
        oids = members_only(self, self.schema.webcluster_node_memberships, webcluster_oid, listed)
        return node_names(self, oids) if return_names else [str(oid) for oid in oids]

    def list_webcluster_services(self, webcluster_oid: str, prefix=None, details=None):
        from crossbar_cluster.control.reader import services_of

        super().list_webcluster_services(webcluster_oid, prefix, details)  # for its errors
        return services_of(self.db, self.schema, webcluster_oid)

    async def add_webcluster_service(self, webcluster_oid: str, path: str, webservice: dict, details=None):
        from crossbar_cluster.control.webservices import add_service, runs

        if runs(self, webcluster_oid):
            return await add_service(self, webcluster_oid, path, webservice, details)
        return await super().add_webcluster_service(webcluster_oid, path, webservice, details)

    @wamp.register(None, check_types=True)
    async def expect_nodes(self, webcluster_oid: str, nodes: dict, details=None):
        """Let nodes join the web cluster as soon as they are paired; those that are its members stay.

        :param nodes: names and patterns (``*``, ``?``) of nodes, each with its ``parallel``: proxy workers, or None
            for one. They replace those that were expected before.
        :returns: cluster_oid, nodes.
        :raises ApplicationError: ``crossbar.error.no_such_object``, ``wamp.error.invalid_argument``,
            ``wamp.error.not_authorized``; nothing has changed then.
        """
        from crossbar_cluster.control.memberships import expect_nodes

        return await expect_nodes(self, "webcluster", webcluster_oid, nodes, details)

    @wamp.register(None, check_types=True)
    def get_expected_nodes(self, webcluster_oid: str, details=None):
        """The nodes that join the web cluster as soon as they are paired, as ``expect_nodes`` was given them."""
        from crossbar_cluster.control.memberships import expected_nodes

        return expected_nodes(self, "webcluster", webcluster_oid)


@MONITOR
class IdleWebClusterMonitor(IdleMonitor):
    """The control plane does the work, and knows the workers."""

    def get_cluster_workers(self, filter_online=False):
        """Node (object id) and name of each proxy worker of the cluster.

        :param filter_online: only those that run.
        """
        plane = self._manager._session.plane
        return plane.proxy_workers(self._webcluster_oid, filter_online) if plane else []
