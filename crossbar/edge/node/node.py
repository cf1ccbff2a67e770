"""A node's uplink is made by crossbar-cluster; a node that is to restart does; its health can be asked for."""

from crossbar_cluster.overlay import Record

UPLINK = Record(
    target="crossbar.edge.node.node:FabricNode",
    kind="add",
    members=("_manager_runner",),
    why=(
        "The release waits up to 60 s before it connects to the master again, does not find a master that has moved "
        "while an activation file names its former address, and notices a silent loss late."
    ),
    retire="When the settings of the released uplink can be configured and it turns to CROSSBAR_FABRIC_URL by itself.",
    relies_on=(
        "crossbar.edge.node.node:FabricNode.boot",
        "crossbar.edge.node.node:FabricNodeControllerSession._shutdown",
        "crossbar.edge.node.node:compute_mgmt_uplink_config",
    ),
)

RESTART = Record(
    target="crossbar.edge.node.node:FabricNode",
    kind="subclass",
    members=("stop",),
    why="`stop(restart=True)`, as when an activation file appears, ends the node; nothing starts it again.",
    retire="When a released node that is told to restart does.",
    relies_on=("crossbar.node.node:Node.stop", "crossbar.node.controller:NodeController.shutdown"),
)

HEALTH = Record(
    target="crossbar.edge.node.node:FabricNode",
    kind="subclass",
    members=("start",),
    why="Orchestrators and monitoring cannot ask a node how it is.",
    retire="When a released node has probes and metrics.",
    relies_on=(
        "crossbar.node.node:Node.start",
        "crossbar.master.node.node:FabricCenterNode.start",
        "crossbar.master.node.node:FabricCenterNode.boot",
    ),
)


class UplinkInPlace:
    """A data descriptor, in front of the attribute that every released node has.

    `boot` makes the release's runner, puts it here, and uses what it finds here. The runner's class is known to other
    modules under the same name, so that replacing the name would change those as well.
    """

    def __get__(self, node, owner=None):
        return self if node is None else vars(node).get("_manager_runner")

    def __set__(self, node, runner):
        from autobahn.twisted.wamp import ApplicationRunner

        from crossbar_cluster.node.uplink import uplink_in_place_of

        replaced = isinstance(runner, ApplicationRunner)
        vars(node)["_manager_runner"] = uplink_in_place_of(runner, node) if replaced else runner


RUNNER = UPLINK(UplinkInPlace())


SIGNALS = Record(
    target="crossbar.edge.node.node:FabricNode",
    kind="subclass",
    members=("boot",),
    why="A node that is ending, which may take up to 20 s, cannot be told to end at once, but by killing each process. "
    "SIGTERM, with which orchestrators end it, makes its exit code 1, as for a failure.",
    retire="When a released node ends at once at the second signal, and with exit code 0 at the first one.",
    relies_on=(
        "crossbar.node.controller:NodeController._cleanup_worker",
        "crossbar.node.controller:NodeController.shutdown",
        "crossbar.node.main:_run_command_start",
    ),
)


@SIGNALS
class ImpatientNode:
    """Ends in order at the first signal, and at once at the second."""

    def boot(self, *args, **kwargs):
        from crossbar_cluster.node.draining import end_at_second_signal

        end_at_second_signal(self)
        return super().boot(*args, **kwargs)


@RESTART
class RestartingNode:
    """Begins anew in its own process."""

    def stop(self, restart=False):
        from crossbar_cluster.node.restart import restart_after_shutdown

        if restart:
            restart_after_shutdown(self)
        return super().stop(restart=restart)


@HEALTH
class AskableNode:
    """Serves its health from the moment it begins to start."""

    def start(self, node_id=None):
        from crossbar_cluster.health.node import serve_health

        serve_health(self)
        return super().start(node_id)
