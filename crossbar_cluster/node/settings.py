"""The switches of a node, from its environment: read where they are needed, checked when the node starts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


class InvalidSetting(ValueError):
    """A variable holds something that means nothing. The message names both, and what it can hold."""


@dataclass(frozen=True)
class Switch:
    """A variable with a few possible values, of which the first is the default."""

    variable: str
    values: tuple[str, ...]

    def read(self, environ: Mapping[str, str]) -> str:
        """:raises InvalidSetting: it holds something else."""
        value = environ.get(self.variable, "").strip().lower() or self.values[0]
        if value not in self.values:
            known = " or ".join(repr(value) for value in self.values)
            raise InvalidSetting(f"{self.variable}: {environ[self.variable]!r} means nothing here. Use {known}.")
        return value


#: Router nodes: where their workers listen for proxies. Only at the node's address, if that is one of this host's.
LISTEN = Switch("CROSSBAR_CLUSTER_LISTEN", ("address", "all"))
#: Router nodes: what becomes of proxies that cannot prove a node's key. (Those of the plain release cannot.)
UNPROVEN_PROXIES = Switch("CROSSBAR_CLUSTER_UNPROVEN_PROXIES", ("refuse", "accept"))
#: Proxy nodes: what becomes of routers that cannot prove theirs, when the master says that they run the plain release.
UNPROVEN_ROUTERS = Switch("CROSSBAR_CLUSTER_UNPROVEN_ROUTERS", ("accept", "refuse"))

SWITCHES = (LISTEN, UNPROVEN_PROXIES, UNPROVEN_ROUTERS)


def check(environ: Mapping[str, str]) -> None:
    """:raises InvalidSetting: one of the switches holds something that means nothing."""
    for switch in SWITCHES:
        switch.read(environ)
