"""A router worker listens where its node is, and notices proxies that are gone; no port is filled up, or kept busy."""

from crossbar_cluster.overlay import Record

LISTEN = Record(
    target="crossbar.common.twisted.endpoint:create_listening_port_from_config",
    kind="wrap",
    members=("create_listening_port_from_config",),
    why="The master tells router workers to listen on a port of a range, on all IPv4 interfaces: a node whose cluster "
    "address is an IPv6 address cannot be reached, and every network of the host leads there. A proxy that vanishes "
    "leaves the sessions of its clients behind, with all that they have registered. Of two workers of a node that "
    "start at once, one may fail, with a traceback: both have found the same port to be free. Whoever opens many "
    "connections uses up the descriptors that those who are joined need.",
    retire="When released router workers listen where their node's cluster address is, with keepalive.",
    reason="A module function; the interface is known on the node, the configuration comes from the master.",
    relies_on=("crossbar.common.twisted.endpoint:create_listening_endpoint_from_config",),
)

NEWCOMERS = Record(
    target="crossbar.common.twisted.endpoint:MaxConnectionsFactory",
    kind="subclass",
    members=("doStart", "registerProtocol", "unregisterProtocol"),
    why="A connection that says nothing, or never proves who it is, stays for ever.",
    retire="When released workers give a connection that has not joined a time limit, and keep so many of them only.",
    relies_on=(
        "crossbar.common.twisted.endpoint:_CountedConnection.makeConnection",
        "crossbar.common.twisted.endpoint:MaxConnectionsFactory.buildProtocol",
    ),
)


@NEWCOMERS
class GuardedConnections:
    """Tells the port's guard of connections. (The factory is the outermost one of each port of the release.)"""

    _guard = None

    def doStart(self):
        from crossbar_cluster.node.newcomers import guard_of

        self._guard = guard_of(self)
        super().doStart()

    def registerProtocol(self, p):
        super().registerProtocol(p)
        if self._guard is not None:
            self._guard.came(p)

    def unregisterProtocol(self, p):
        super().unregisterProtocol(p)
        if self._guard is not None:
            self._guard.left(p)


@LISTEN
def create_listening_port_from_config(wrapped, instance, args, kwargs):
    from txaio import make_logger

    from crossbar_cluster.node.address import listening_interface
    from crossbar_cluster.node.admission import while_there_is_room
    from crossbar_cluster.node.keepalive import CLIENTS, inherit_keep_alive
    from crossbar_cluster.node.listening import on_a_free_port

    config, reactor, log = args[0], args[3], make_logger()
    if config["type"] != "tcp":
        return wrapped(*args, **kwargs)
    if "portrange" in config:  # one that the master has made for proxies
        if "interface" not in config and (interface := listening_interface(log)):
            config["interface"] = interface
        listening = on_a_free_port(lambda: wrapped(*args, **kwargs)).addCallback(inherit_keep_alive)
    else:
        listening = wrapped(*args, **kwargs)
        if "user_timeout" not in config:  # who has said how long is to be waited has thought about it
            listening.addCallback(inherit_keep_alive, CLIENTS)
    return listening.addCallback(while_there_is_room, reactor, log)
