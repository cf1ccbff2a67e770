"""A worker that is told to end has its clients come back elsewhere first."""

from crossbar_cluster.overlay import Record

SHUTDOWN = Record(
    target="crossbar.worker.controller:WorkerController.shutdown",
    kind="wrap",
    members=("shutdown",),
    why="A worker that is told to end does so in the middle of what its clients do: calls in flight are lost, and new "
    "clients are sent to it until it is gone.",
    retire="When released workers finish what is in flight, and send their clients away, before they end.",
    reason="Worker classes are named in maps that other modules have imported; the method is called as it is.",
    relies_on=(
        "crossbar.worker.controller:WorkerController.onJoin",
        "crossbar.node.controller:NodeController._cleanup_worker",
        "crossbar.node.controller:NodeController._stop_native_worker",
        "crossbar.router.session:RouterSession.leave",
    ),
)


@SHUTDOWN
def shutdown(wrapped, instance, args, kwargs):
    from crossbar_cluster.node.draining import before_end

    return before_end(instance, _draining(instance), lambda: wrapped(*args, **kwargs))


def _draining(controller):
    if hasattr(controller, "get_router_realms"):
        from crossbar_cluster.node.router_draining import RouterDraining

        return RouterDraining(controller)
    if hasattr(controller, "get_proxy_routes"):
        from crossbar_cluster.proxy.draining import ProxyDraining

        return ProxyDraining(controller)
    return None
