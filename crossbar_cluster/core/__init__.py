"""Plain Python: what an address is, what the cluster should look like, what to do about the difference.

No crossbar, no reactor, no clock in here; time is an argument. Everything in here is tested without a process.
"""
