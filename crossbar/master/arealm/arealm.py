"""An application realm is kept as configured by a reconciler instead of a polling loop that ends at the first error."""

from crossbar_cluster.overlay import Record

MONITOR = Record(
    target="crossbar.master.arealm.arealm:ApplicationRealmMonitor",
    kind="subclass",
    members=("__init__", "is_started", "start", "stop", "_check_and_apply"),
    why="The released monitor never compares the address or the port of a proxy's connection, looks every 10 s only, "
    "and ends for good at the first unexpected error.",
    retire="When a released master re-points proxies to a router that has moved, and survives errors while it does.",
    relies_on=(
        "crossbar.master.arealm.arealm:ApplicationRealmManager.start",
        "crossbar.master.arealm.arealm:ApplicationRealmManager.start_arealm",
        "crossbar.master.arealm.arealm:ApplicationRealmMonitor._apply_routercluster_placements",
        "crossbar.master.arealm.arealm:ApplicationRealmMonitor._apply_webcluster_connections",
        "crossbar.master.cluster.webcluster:WebClusterMonitor._check_and_apply",
        "crossbar.worker.router:RouterController.start_router_transport",
        "crossbar.worker.router:RouterController.start_router_realm",
    ),
)


@MONITOR
class ReconcilingMonitor:
    """Stands where the released monitor stood: started and stopped by the realm's manager."""

    def __init__(self, manager, arealm_oid, interval=10.0):
        from crossbar_cluster.control.realm import RealmReconciler

        super().__init__(manager, arealm_oid, interval)
        self.reconciler = RealmReconciler(manager, arealm_oid, self.log)

    @property
    def is_started(self):
        return self.reconciler.loop.running

    def start(self):
        self.reconciler.loop.start()

    def stop(self):
        self.reconciler.loop.stop()

    def _check_and_apply(self):
        self.reconciler.loop.mark()
