"""Workers learn from their node what they need to know: its address, and whether they are to be patched."""

from crossbar_cluster.overlay import Record

WORKER_ENVIRONMENT = Record(
    target="crossbar.node.controller:create_process_env",
    kind="wrap",
    members=("create_process_env",),
    why="A router worker that the master starts inherits PYTHONPATH and nothing more of its node's environment.",
    retire="When released masters let router workers inherit the node's environment.",
    reason="A module function; the configuration that restricts the environment comes from the master.",
)


@WORKER_ENVIRONMENT
def create_process_env(wrapped, instance, args, kwargs):
    from crossbar_cluster.node.address import pass_to_worker

    environment = wrapped(*args, **kwargs)
    pass_to_worker(environment)
    return environment
