"""A proxy worker's connections can be pointed elsewhere, and what was stopped is never used again."""

from autobahn import wamp
from autobahn.wamp.message import Abort, Authenticate, Goodbye, Hello

from crossbar_cluster.overlay import Record

CONTROLLER = "crossbar.worker.proxy:ProxyController"
_OF_SESSIONS = (Hello, Authenticate, Abort, Goodbye)

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

BACKENDS = Record(
    target=CONTROLLER,
    kind="add",
    members=("get_proxy_backends",),
    why="Nobody can see how the router workers are that a proxy worker sends clients to.",
    retire="When a released proxy worker tells how its backends are.",
)

FRONTEND = Record(
    target="crossbar.worker.proxy:ProxyFrontendSession",
    kind="subclass",
    members=("_process_Hello", "frontend_accepted", "onMessage", "onClose"),
    why=(
        "A client is sent to one backend only: if that does not answer, it hangs or is turned away for good, and what "
        "answers is taken for the router that is meant. A client whose router is lost is told that all has ended as "
        "it should, so that it does not come back; its calls in flight vanish. A client of a new proxy is told that "
        "there is no such realm. Each client has the node's key read from disk twice and a picture drawn of it."
    ),
    retire="When a released proxy tries all backends, makes sure whom it reaches, and tells a loss as a loss.",
    relies_on=(
        "crossbar.worker.proxy:ProxyFrontendSession._process_Authenticate",
        f"{CONTROLLER}.unmap_backend",
        "crossbar.router.auth.cryptosign:PendingAuthCryptosignProxy.hello",
    ),
)

SERVICE = Record(
    target=f"{CONTROLLER}.get_service_session",
    kind="wrap",
    members=("get_service_session",),
    why="A session that the proxy holds for itself is kept for ever: also one that has ended, and that there was none.",
    retire="When the released proxy worker makes a service session anew that has ended.",
    reason="Worker classes are named in maps that other modules have imported; the method is called as it is.",
    relies_on=("crossbar.router.auth.pending:PendingAuth._init_dynamic_authenticator",),
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


CONNECTIONS = Record(
    target="crossbar.worker.proxy:_create_transport_factory",
    kind="wrap",
    members=("_create_transport_factory",),
    why="All that a router has sent for one client is handled in one go: a few that subscribe to much take a proxy "
    "from all others.",
    retire="When Autobahn's RawSocket handles what it has received in turns with other work.",
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


@BACKENDS
@wamp.register(None)
def get_proxy_backends(self, details=None):
    """How each of this worker's backends is.

    :returns: connection id -> ``state`` (connecting, up, suspect, draining), ``problem`` (text), ``clients`` (number).
    """
    from crossbar_cluster.proxy.pool import pool_of

    return pool_of(self).describe()


@FRONTEND
class AttachingFrontend:
    """Gets its client onto a backend that is up, and tells it when that is lost."""

    _client = None

    def _process_Hello(self, msg):
        from crossbar_cluster.proxy.attach import when_routed

        hello = super()._process_Hello
        return when_routed(self, msg.realm).addCallback(lambda there: hello(msg) if there else None)

    def frontend_accepted(self, accept):
        from crossbar_cluster.proxy.attach import attach_client

        return attach_client(self, accept) or super().frontend_accepted(accept)

    def onMessage(self, msg):
        if self._client is None or self._session_id is None or isinstance(msg, _OF_SESSIONS):
            if isinstance(msg, Goodbye):
                return super().onMessage(msg).addCallback(self._left_by_itself)
            return super().onMessage(msg)
        return self._client.send(msg)

    def _left_by_itself(self, _):
        from crossbar_cluster.proxy.attach import left_by_itself

        left_by_itself(self)

    def onClose(self, wasClean):
        client, self._client = self._client, None
        super().onClose(wasClean)
        if client is not None:
            client.left()


@SERVICE
def get_service_session(wrapped, instance, args, kwargs):
    from crossbar_cluster.proxy.service import service_session

    return service_session(instance, *args, **kwargs) or wrapped(*args, **kwargs)


@START_CONNECTION
@STOP_CONNECTION
@START_ROUTE
@STOP_ROUTE
def derive_connections_anew(wrapped, instance, args, kwargs):
    from crossbar_cluster.proxy.connections import derive_anew

    return wrapped(*args, **kwargs).addBoth(derive_anew, instance)


@ENDPOINT
def create_transport_endpoint(wrapped, instance, args, kwargs):
    from crossbar_cluster.node.connecting import resolving_endpoint

    return resolving_endpoint(*args, **kwargs) or wrapped(*args, **kwargs)


@CONNECTIONS
def create_transport_factory(wrapped, instance, args, kwargs):
    from crossbar_cluster.node.pacing import paced

    return paced(wrapped(*args, **kwargs))
