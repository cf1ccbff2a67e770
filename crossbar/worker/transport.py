"""Whoever connects to a worker and does not join is closed after a while, and is not kept in any number."""

from crossbar_cluster.overlay import Record

NEWCOMERS = Record(
    target="crossbar.worker.transport:RouterTransport",
    kind="subclass",
    members=("_create_factory",),
    why="A connection that says nothing, or never proves who it is, stays for ever. When such have used up the "
    "descriptors of a worker, its clients are dropped.",
    retire="When released workers give a connection that has not joined a time limit, and keep so many of them only.",
    relies_on=("crossbar.worker.transport:RouterTransport.start",),
)


@NEWCOMERS
class GuardedTransport:
    """Gives the factory of its port a guard, which `crossbar.common.twisted.endpoint` tells of connections."""

    def _create_factory(self, *args, **kwargs):
        from crossbar_cluster.node.newcomers import guard_transport

        return super()._create_factory(*args, **kwargs).addCallback(guard_transport, self)
