"""Application realms are kept as configured by the control plane, not by a loop that ends at the first error."""

from crossbar_cluster.control.monitor import IdleMonitor
from crossbar_cluster.overlay import Record

MONITOR = Record(
    target="crossbar.master.arealm.arealm:ApplicationRealmMonitor",
    kind="subclass",
    members=("start", "stop", "is_started", "_check_and_apply"),
    why="The released monitor never compares the address or the port of a proxy's connection, looks every 10 s only, "
    "and ends for good at the first unexpected error.",
    retire="When a released master re-points proxies to a router that has moved, and survives errors while it does.",
    relies_on=(
        "crossbar.master.arealm.arealm:ApplicationRealmManager.start",
        "crossbar.master.arealm.arealm:ApplicationRealmManager.start_arealm",
        "crossbar.master.arealm.arealm:ApplicationRealmManager.stop_arealm",
        "crossbar.master.arealm.arealm:ApplicationRealmMonitor._apply_routercluster_placements",
        "crossbar.master.arealm.arealm:ApplicationRealmMonitor._apply_webcluster_connections",
        "crossbar.worker.router:RouterController.start_router_transport",
        "crossbar.worker.router:RouterController.start_router_realm",
    ),
)


@MONITOR
class IdleRealmMonitor(IdleMonitor):
    """The control plane does the work."""
