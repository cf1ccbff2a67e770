"""What operators type: the state of a cluster in one look, and where its router workers are placed.

Runs on the operator's machine, talks WAMP to the master, and needs no more of the release than Autobahn.
"""
