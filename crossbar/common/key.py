"""Key files carry no address: a node says where it is when it authenticates."""

from crossbar_cluster.overlay import Record

ADDRESS_TAG = "node-cluster-ip"

WRITE = Record(
    target="crossbar.common.key:_write_node_key",
    kind="wrap",
    members=("_write_node_key",),
    why="The address in a key or activation file is the one the node had when its key was made.",
    retire="When the release writes no address into key and activation files.",
    reason="A module function; every key and activation file is written through it.",
    relies_on=("crossbar.common.key:_maybe_generate_node_key",),
)

PARSE = Record(
    target="crossbar.common.key:_parse_node_key",
    kind="wrap",
    members=("_parse_node_key",),
    why="Pairing puts the address of the key file on record: unproven, and older than the node's own word. Files that "
    "still carry one are read, without it.",
    retire="When the released master pairs nodes without an address.",
    reason="A module function; what pairs (a closure in DomainController.onJoin) and what re-creates key.pub read "
    "key files through it.",
    relies_on=("crossbar.master.node.controller:DomainController.onJoin",),
)


@WRITE
def write_node_key(wrapped, instance, args, kwargs):
    filepath, tags, *rest = args
    return wrapped(filepath, {tag: value for tag, value in tags.items() if tag != ADDRESS_TAG}, *rest, **kwargs)


@PARSE
def parse_node_key(wrapped, instance, args, kwargs):
    tags = wrapped(*args, **kwargs)
    tags.pop(ADDRESS_TAG, None)
    return tags
