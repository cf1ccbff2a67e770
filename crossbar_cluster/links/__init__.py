"""On router workers: the links to the other routers of a group, which make several routers one realm."""
