"""`crossbar version` names crossbar-cluster beside the release; no node starts at an address that is none."""

from collections.abc import Callable
from typing import Any

from crossbar_cluster import __version__
from crossbar_cluster.overlay import Record

VERSION = Record(
    target="crossbar.node.main:_run_command_version",
    kind="wrap",
    members=("_run_command_version",),
    why="`crossbar version` does not say that the release runs patched, nor by what.",
    retire="When the release lets a distribution add lines to its version table.",
    reason="The table is printed by this one function, line by line; no method or setting adds a line.",
)

START = Record(
    target="crossbar.node.main:_run_command_start",
    kind="wrap",
    members=("_run_command_start",),
    why="A node would find out that its address is none when it connects to the master, long after it was started.",
    retire="When the release checks CROSSBAR_NODE_CLUSTER_IP at start.",
    reason="A module function that is the start command; nothing smaller runs before a process id file is written.",
)

LABEL_WIDTH = 30  # of the release's table


@VERSION
def run_command_version(wrapped: Callable[..., None], instance: None, args: tuple[Any, ...], kwargs: Any) -> None:
    from txaio import make_logger

    from crossbar_cluster.overlay.installer import status

    wrapped(*args, **kwargs)
    counts = status()
    loaded = [count for count in counts.values() if count]
    log = make_logger()
    log.info(
        "{label}: {version} ({applied} patches applied; {waiting} more modules are patched when they are loaded)",
        label=" crossbar-cluster".ljust(LABEL_WIDTH),
        version=__version__,
        applied=sum(loaded),
        waiting=len(counts) - len(loaded),
    )
    log.info("")


@START
def run_command_start(wrapped: Callable[..., None], instance: None, args: tuple[Any, ...], kwargs: Any) -> None:
    import os

    from crossbar_cluster.node.address import refuse_invalid_environment

    refuse_invalid_environment(os.environ)
    wrapped(*args, **kwargs)
