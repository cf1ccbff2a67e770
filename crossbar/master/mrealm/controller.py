"""A node that joins is online at once, and the realms that need it hear of it at once."""

from crossbar_cluster.overlay import Record

CONTROLLER = Record(
    target="crossbar.master.mrealm.controller:MrealmController",
    kind="subclass",
    members=("__init__", "_on_session_startup", "_on_session_shutdown", "onLeave"),
    why="The release takes a node that returns for offline until its next heartbeat (5 s), takes it for gone when an "
    "old session of it ends after the new one began, and lets application realms find out at their next 10 s tick.",
    retire="When the released master acts on the join of a node, and counts a node's sessions.",
    relies_on=(
        "crossbar.master.mrealm.controller:MrealmController._initialize",
        "crossbar.master.mrealm.controller:MrealmController._publish_on_node_ready",
        "crossbar.master.mrealm.controller:Node",
    ),
)


@CONTROLLER
class ArrivalNoticingController:
    """Keeps count of the nodes' sessions and tells the realms' reconcilers of arrivals."""

    def __init__(self, config=None):
        from crossbar_cluster.control.nodes import Arrivals

        super().__init__(config)
        self._arrivals = Arrivals()

    async def _on_session_startup(self, session, details=None):
        if session.get("authrole") == "node":
            self._arrivals.joined(session["session"], session["authid"])
        await super()._on_session_startup(session, details)
        if session["session"] not in self._arrivals:  # no node, or gone again meanwhile
            return
        from crossbar_cluster.control.nodes import tell_arrival

        node = self.node(session["authid"])
        if node is None or not tell_arrival(self._arealm_manager, node.node_id):
            return
        if node.status != "online":
            node.status = "online"
            await self._publish_on_node_ready(node)

    async def _on_session_shutdown(self, session_id, details=None):
        if self._arrivals.left(session_id):
            await super()._on_session_shutdown(session_id, details)

    def onLeave(self, details):
        from crossbar_cluster.control.nodes import stop_reconcilers

        stop_reconcilers(self._arealm_manager)
        return super().onLeave(details)
