"""The switches of a node, from its environment: read where they are needed, checked when the node starts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address


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


@dataclass(frozen=True)
class PortNumber:
    """A variable with a TCP port; not set or empty: there is none."""

    variable: str

    def read(self, environ: Mapping[str, str]) -> int | None:
        """:raises InvalidSetting: it holds something else."""
        value = environ.get(self.variable, "").strip()
        if not value:
            return None
        if not (value.isascii() and value.isdecimal() and len(value) <= 5 and 0 < int(value) < 65536):
            raise InvalidSetting(f"{self.variable}: {_shown(value)} is no TCP port. Use a number from 1 to 65535.")
        return int(value)


@dataclass(frozen=True)
class BindAddress:
    """A variable with an IP address to listen at; not set or empty: all interfaces, which is None."""

    variable: str

    def read(self, environ: Mapping[str, str]) -> str | None:
        """:raises InvalidSetting: it holds something else."""
        value = environ.get(self.variable, "").strip()
        if not value:
            return None
        try:
            return str(ip_address(value))
        except ValueError:
            raise InvalidSetting(
                f"{self.variable}: {_shown(value)} is no IP address. Use one of this host's, such as 127.0.0.1 or ::1, "
                "or leave it unset for all interfaces."
            ) from None


@dataclass(frozen=True)
class Count:
    """A variable with a number of things; not set or empty: the default."""

    variable: str
    default: int

    def read(self, environ: Mapping[str, str]) -> int:
        """:raises InvalidSetting: it holds something else, or 0."""
        value = environ.get(self.variable, "").strip()
        if not value:
            return self.default
        if not (value.isascii() and value.isdecimal() and len(value) <= 12 and int(value) > 0):
            raise InvalidSetting(f"{self.variable}: {_shown(value)} is no number. Use a whole number above 0.")
        return int(value)


@dataclass(frozen=True)
class Seconds:
    """A variable with a time; not set or empty: the default."""

    variable: str
    default_s: float
    most_s: float

    def read(self, environ: Mapping[str, str]) -> float:
        """:raises InvalidSetting: it holds something else, or more."""
        value = environ.get(self.variable, "").strip()
        try:
            seconds = float(value) if value else self.default_s
        except ValueError:
            seconds = -1.0
        if not 0.0 <= seconds <= self.most_s:
            raise InvalidSetting(f"{self.variable}: {value!r} is no time from 0 to {self.most_s:g} s.")
        return seconds


def _shown(value: str) -> str:
    return repr(value if len(value) <= 80 else f"{value[:80]}...")


#: Router nodes: where their workers listen for proxies. Only at the node's address, if that is one of this host's.
LISTEN = Switch("CROSSBAR_CLUSTER_LISTEN", ("address", "all"))
#: Router nodes: what becomes of proxies that cannot prove a node's key. (Those of the plain release cannot.)
UNPROVEN_PROXIES = Switch("CROSSBAR_CLUSTER_UNPROVEN_PROXIES", ("refuse", "accept"))
#: Proxy nodes: what becomes of routers that cannot prove theirs, when the master says that they run the plain release.
UNPROVEN_ROUTERS = Switch("CROSSBAR_CLUSTER_UNPROVEN_ROUTERS", ("accept", "refuse"))
#: Every node but the master: what becomes of masters that cannot prove their key. (Those of the plain release cannot.)
#: unknown: they are accepted as long as the node knows no key of its master.
UNPROVEN_MASTERS = Switch("CROSSBAR_CLUSTER_UNPROVEN_MASTERS", ("unknown", "accept", "refuse"))
#: Router and proxy nodes: how long clients may take to finish when a worker ends (`node.draining`). The release kills a
#: worker that takes longer than 20 s to end.
DRAIN = Seconds("CROSSBAR_CLUSTER_DRAIN_SECONDS", default_s=5.0, most_s=15.0)
#: Router nodes: what all clients of a realm may have on one router together (`router.limits`).
REALM_SUBSCRIPTIONS = Count("CROSSBAR_CLUSTER_REALM_SUBSCRIPTIONS", default=1_000_000)
REALM_REGISTRATIONS = Count("CROSSBAR_CLUSTER_REALM_REGISTRATIONS", default=1_000_000)

#: Every node: where its health is to be asked for (`crossbar_cluster.health`).
HEALTH_PORT = PortNumber("CROSSBAR_HEALTH_PORT")
HEALTH_ADDRESS = BindAddress("CROSSBAR_HEALTH_ADDRESS")

#: What workers read, too.
OF_WORKERS = (LISTEN, UNPROVEN_PROXIES, UNPROVEN_ROUTERS, DRAIN, REALM_SUBSCRIPTIONS, REALM_REGISTRATIONS)


def check(environ: Mapping[str, str]) -> None:
    """:raises InvalidSetting: one of the variables holds something that means nothing."""
    for setting in (*OF_WORKERS, UNPROVEN_MASTERS, HEALTH_PORT, HEALTH_ADDRESS):
        setting.read(environ)
