"""What one client sends is handled in turns with what others send; who is silently gone, or does not go, is dropped."""

# At once, and not when they are used: they are called for each read, and mixed into classes.
from crossbar_cluster.node.pacing import PacedRawSocket, PacedWebSocket
from crossbar_cluster.overlay import Record

_WEBSOCKET = "crossbar.router.protocol:WampWebSocketServerProtocol"
_RAWSOCKET = "crossbar.router.protocol:WampRawSocketServerProtocol"

WEBSOCKET = Record(
    target=_WEBSOCKET,
    kind="subclass",
    members=(
        "consumeData",
        "onMessage",
        "_sendAutoPing",
        "onAutoPingTimeout",
        "sendCloseFrame",
        "onCloseHandshakeTimeout",
        "connectionLost",
    ),
    why="All that a client has sent is handled in one go, while everybody else waits; a few that send in bulk take a "
    "proxy from all others. A client that is slow to read, or that is not read, is taken for one that is gone.",
    retire="When Autobahn's WebSocket handles what it has received in turns with other work.",
)

RAWSOCKET = Record(
    target=_RAWSOCKET,
    kind="subclass",
    members=("_on_handshake_complete", "dataReceived", "stringReceived", "connectionLost"),
    why="The same, at a router, of what a proxy passes on for a client.",
    retire="When Autobahn's RawSocket handles what it has received in turns with other work.",
)

OPTIONS = Record(
    target="crossbar.router.protocol:WampWebSocketServerFactory",
    kind="subclass",
    members=("__init__",),
    why="A client that vanishes is never noticed, and one that is told to go and does not answer is never dropped: the "
    "options that do both are off, unless a web service speaks of them.",
    retire="When the released defaults notice and end both.",
    relies_on=("crossbar.router.protocol:set_websocket_options",),
)


@OPTIONS
class LivelyFactory:
    """Fills in options that the configuration does not speak of, and has its clients' limits."""

    def __init__(self, factory, cbdir, config, templates):
        from crossbar_cluster.core.limits import ClientLimits
        from crossbar_cluster.node.keepalive import with_pings

        self.client_limits = ClientLimits.from_config(config.get("limits"))
        super().__init__(factory, cbdir, with_pings(config, self.client_limits.connection), templates)


WEBSOCKET(PacedWebSocket)
RAWSOCKET(PacedRawSocket)
