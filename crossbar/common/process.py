"""Every process of Crossbar.io begins with its own limits raised, and with a watch over its own event loop."""

from crossbar_cluster.overlay import Record

BEGIN = Record(
    target="crossbar.common.process:NativeProcess",
    kind="subclass",
    members=("onConnect",),
    why="A process out of file descriptors, held up by a name server or by itself takes that for a failure of others.",
    retire="When released processes raise their limits, bound their look-ups, and know when they were late.",
    relies_on=(
        "crossbar.node.controller:NodeController.onConnect",
        "crossbar.worker.controller:WorkerController.onConnect",
    ),
)


@BEGIN
class WatchedProcess:
    """Begins when the controller, or the worker, has its connection to the node's own router."""

    def onConnect(self, do_join=True):
        from crossbar_cluster.node.process import begin

        begin(self._reactor, self.log)
        return super().onConnect(do_join)
