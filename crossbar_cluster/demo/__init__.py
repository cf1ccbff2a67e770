"""``crossbar-cluster demo``: a router dies and comes back under another address, and a client is there to see it.

`command` is what people type, `runner` keeps the run inside its directory and its processes, `rounds` is what
happens, told as `events`; `view` shows it while it happens, `report` sums it up. The cluster is the lab's
(`crossbar_cluster.lab`).
"""
