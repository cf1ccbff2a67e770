"""A real Crossbar.io cluster on one machine: what the demo, the tests and the benchmarks run on.

Every node is a real ``crossbar`` process at an address of its own. `host` says where a node lives, `process` runs it,
`cluster` puts a master, routers and proxies together and configures them, `client` talks WAMP to them.
"""
