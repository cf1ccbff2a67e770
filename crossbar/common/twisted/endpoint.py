"""A router worker of a node with an IPv6 address listens on IPv6."""

from crossbar_cluster.overlay import Record

LISTEN = Record(
    target="crossbar.common.twisted.endpoint:create_listening_port_from_config",
    kind="wrap",
    members=("create_listening_port_from_config",),
    why="The master tells router workers to listen on a port of a range, on all IPv4 interfaces: a node whose cluster "
    "address is an IPv6 address cannot be reached.",
    retire="When released router workers listen where their node's cluster address is.",
    reason="A module function; the interface is known on the node, the configuration comes from the master.",
    relies_on=("crossbar.common.twisted.endpoint:create_listening_endpoint_from_config",),
)


@LISTEN
def create_listening_port_from_config(wrapped, instance, args, kwargs):
    config = args[0]
    if config["type"] == "tcp" and "portrange" in config and "interface" not in config:
        from crossbar_cluster.node.address import listening_interface

        if interface := listening_interface():
            config["interface"] = interface
    return wrapped(*args, **kwargs)
