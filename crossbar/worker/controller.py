"""A worker that is told to end has its clients come back elsewhere first; it tells how it is, and what it counts."""

from autobahn import wamp

from crossbar_cluster.overlay import Record

CONTROLLER = "crossbar.worker.controller:WorkerController"

SHUTDOWN = Record(
    target=f"{CONTROLLER}.shutdown",
    kind="wrap",
    members=("shutdown",),
    why="A worker that is told to end does so in the middle of what its clients do: calls in flight are lost, and new "
    "clients are sent to it until it is gone.",
    retire="When released workers finish what is in flight, and send their clients away, before they end.",
    reason="Worker classes are named in maps that other modules have imported; the method is called as it is.",
    relies_on=(
        f"{CONTROLLER}.onJoin",
        "crossbar.node.controller:NodeController._cleanup_worker",
        "crossbar.node.controller:NodeController._stop_native_worker",
        "crossbar.router.session:RouterSession.leave",
    ),
)

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


@SHUTDOWN
def shutdown(wrapped, instance, args, kwargs):
    from crossbar_cluster.node.draining import before_end

    return before_end(instance, _draining(instance), lambda: wrapped(*args, **kwargs))


def _draining(controller):
    if controller.WORKER_TYPE == "router":
        from crossbar_cluster.node.router_draining import RouterDraining

        return RouterDraining(controller)
    if controller.WORKER_TYPE == "proxy":
        from crossbar_cluster.proxy.draining import ProxyDraining
        from crossbar_cluster.proxy.pool import pool_of

        return ProxyDraining(controller, pool_of(controller))
    return None
