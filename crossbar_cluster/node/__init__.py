"""On every node: what it tells the master and its own workers."""
