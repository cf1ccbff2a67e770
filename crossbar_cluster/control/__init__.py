"""On the master: node records, arrivals of nodes, and what the application realms need."""
