"""On router workers: how sessions and calls end, what is done in slices, and how much a client may have."""
