"""``crossbar-cluster clients``: standard clients that stay joined, for operators to see that a cluster heals.

`command` has the options and prints; `staying` runs the clients, and `member` is one of them.
"""
