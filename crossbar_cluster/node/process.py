"""What every process of Crossbar.io begins with, node controllers and workers: its limits, and a watch over itself."""

from __future__ import annotations

from typing import Any

from crossbar_cluster.node.descriptors import raise_limit
from crossbar_cluster.node.names import install_names
from crossbar_cluster.node.watchdog import loop_of

_begun: set[int] = set()  #: reactors, of which a process has one


def begin(reactor: Any, log: Any) -> None:
    """Take as many descriptors as may be had, look up names without hanging, and watch the event loop. Once."""
    if id(reactor) in _begun:
        return
    _begun.add(id(reactor))
    raise_limit()
    install_names(reactor, log)
    loop_of(reactor).watch(log)
