"""A worker that is to be stopped ends by itself."""

from crossbar_cluster.overlay import Record

STOPPING = Record(
    target="crossbar.node.native:NativeWorkerClientFactory",
    kind="subclass",
    members=("stopFactory",),
    why="A worker that is stopped, because there is one too many or it has moved, loses the connection to its node "
    "before it is told to end: it ends on the spot, with all that is under way for its clients.",
    retire="When a released node only tells a worker that it is to stop, and leaves the rest to the worker.",
    relies_on=("crossbar.node.controller:NodeController._stop_native_worker",),
)


@STOPPING
class PatientFactory:
    """Leaves the connection to the worker alone, which the worker ends when it has been drained."""

    def stopFactory(self):
        worker, self.proto = self.proto, None  # what the release would close
        try:
            super().stopFactory()
        finally:
            self.proto = worker
