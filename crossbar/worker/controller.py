"""A worker tells its node's controller how it is, in one call, and what it has counted, in another."""

from autobahn import wamp

from crossbar_cluster.overlay import Record

CONTROLLER = "crossbar.worker.controller:WorkerController"

HEALTH = Record(
    target=CONTROLLER,
    kind="add",
    members=("get_cluster_health",),
    why="Nobody can tell whether a node is ready to serve: each worker has to be asked for each of its parts.",
    retire="When released workers say what they serve in one call.",
    relies_on=(
        "crossbar.node.controller:NodeController._start_native_worker",
        "crossbar.common.process:NativeProcess.onJoin",
        "crossbar.worker.transport:RouterTransport.start",
        "crossbar.worker.container:ContainerComponent.__init__",
    ),
)

METRICS = Record(
    target=CONTROLLER,
    kind="add",
    members=("get_cluster_metrics",),
    why="Workers count nothing that can be collected.",
    retire="When released workers have metrics.",
    relies_on=("crossbar.router.router:Router.attach",),
)


@HEALTH
@wamp.register(None)
def get_cluster_health(self, details=None):
    """What this worker has that its health is judged by.

    :returns: see `crossbar_cluster.health.worker.facts_of`.
    """
    from crossbar_cluster.health.worker import facts_of

    return facts_of(self)


@METRICS
@wamp.register(None)
def get_cluster_metrics(self, details=None):
    """The numbers of this worker.

    :returns: see `crossbar_cluster.health.worker.metrics_of`.
    """
    from crossbar_cluster.health.worker import metrics_of

    return metrics_of(self)
