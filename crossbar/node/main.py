"""`crossbar version` names crossbar-cluster beside the versions of the release."""

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
