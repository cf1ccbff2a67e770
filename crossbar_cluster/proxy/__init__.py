"""On proxy workers: the connections to router workers and where they point."""
