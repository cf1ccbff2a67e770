"""A proxy worker's connections can be pointed elsewhere, and what was stopped is never used again."""

from autobahn import wamp

from crossbar_cluster.overlay import Record

CONTROLLER = "crossbar.worker.proxy:ProxyController"

REPOINT = Record(
    target=CONTROLLER,
    kind="add",
    members=("repoint_proxy_connection",),
    why="A connection's address is fixed for ever: a router worker that moved is not found again.",
    retire="When a released proxy worker has a call that changes a connection's address.",
    relies_on=(f"{CONTROLLER}.get_backend_config", "crossbar.worker.proxy:ProxyConnection"),
)

SNAPSHOT = Record(
    target=CONTROLLER,
    kind="add",
    members=("get_proxy_snapshot",),
    why="To see what a proxy worker runs, the master has to ask for each connection, route and service by itself.",
    retire="When a released proxy worker describes itself in one call.",
    relies_on=(
        f"{CONTROLLER}.get_proxy_connections",
        f"{CONTROLLER}.get_proxy_routes",
        f"{CONTROLLER}.get_proxy_transports",
        "crossbar.webservice.base:RouterWebService",
    ),
)

BACKEND = Record(
    target=f"{CONTROLLER}.map_backend",
    kind="wrap",
    members=("map_backend",),
    why="Nobody hears of a router worker that a proxy does not get through to, except the client.",
    retire="When a released proxy worker reports backends that it cannot reach.",
    reason="The one place that every connection to a backend is made through; it is called as it is.",
    relies_on=(f"{CONTROLLER}.get_backend_config",),
)


def _forgetting(member):
    return Record(
        target=f"{CONTROLLER}.{member}",
        kind="wrap",
        members=(member,),
        why="A stopped connection stays among those that clients are sent to, and one started anew under the name that "
        "a route uses never gets there. The connections in use are derived anew after each of the four calls that "
        "change what they follow from; each of them suspends in the middle, so each has to do it at its end.",
        retire="When the released proxy worker derives the connections it uses from its routes.",
        reason="Worker classes are named in maps that other modules have imported; the method is called as it is.",
        relies_on=(f"{CONTROLLER}.__init__",),
    )


START_CONNECTION = _forgetting("start_proxy_connection")
STOP_CONNECTION = _forgetting("stop_proxy_connection")
START_ROUTE = _forgetting("start_proxy_realm_route")
STOP_ROUTE = _forgetting("stop_proxy_realm_route")

ENDPOINT = Record(
    target="crossbar.worker.proxy:_create_transport_endpoint",
    kind="wrap",
    members=("_create_transport_endpoint",),
    why="A router whose host name has IPv6 addresses only cannot be reached: the release looks up IPv4.",
    retire="When the endpoint that Autobahn makes of a host name looks up IPv6 as well.",
    reason="A module function.",
)


@REPOINT
@wamp.register(None)
def repoint_proxy_connection(self, connection_id, config, details=None):
    """Let a running connection lead to another address from now on.

    One call and one assignment: there is no moment in which a realm that uses the connection has no route.

    :param connection_id: run-time id of the connection.
    :param config: its new configuration, as for ``start_proxy_connection``.
    :returns: the connection's run-time information.
    :raises ApplicationError: ``crossbar.error.no_such_object``, ``crossbar.error.invalid_configuration``.
    """
    from crossbar_cluster.proxy.connections import repoint

    return repoint(self, connection_id, config)


@SNAPSHOT
@wamp.register(None)
def get_proxy_snapshot(self, details=None):
    """What this worker runs: transports with their services, connections, and routes.

    :returns: see `crossbar_cluster.proxy.snapshot.snapshot_of`.
    """
    from crossbar_cluster.proxy.snapshot import snapshot_of

    return snapshot_of(self)


@BACKEND
def map_backend(wrapped, instance, args, kwargs):
    from crossbar_cluster.proxy.unreachable import reporting

    return reporting(instance, wrapped, *args, **kwargs)


@START_CONNECTION
@STOP_CONNECTION
@START_ROUTE
@STOP_ROUTE
def derive_connections_anew(wrapped, instance, args, kwargs):
    from crossbar_cluster.proxy.connections import derive_anew

    return wrapped(*args, **kwargs).addBoth(derive_anew, instance)


@ENDPOINT
def create_transport_endpoint(wrapped, instance, args, kwargs):
    from crossbar_cluster.proxy.connections import resolving_endpoint

    return resolving_endpoint(*args, **kwargs) or wrapped(*args, **kwargs)
