"""How much one client may have and do: the limits of a web service, their defaults, and how they are read. Pure.

One place for all of them. An operator sets them for each web service in `cluster.yaml`; the proxy applies those that
concern the client's connection, and tells the router, in the HELLO of the client's session there, those that concern
what the client has on the realm. The defaults are such that no honest client meets them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any


class InvalidLimit(ValueError):
    """A limit that is unknown, or holds no positive number. The message names it, and what it can hold."""


@dataclass(frozen=True)
class SessionLimits:
    """What one client may have on its realm. Applied by the router that its session is on."""

    subscriptions: int = 10_000  #: patterns and exact topics together
    registrations: int = 10_000
    calls: int = 10_000  #: in flight: made by the client, and not answered yet

    def to_wire(self) -> dict[str, int]:
        """As a proxy sends them in a HELLO."""
        return asdict(self)

    @classmethod
    def from_wire(cls, sent: Any) -> SessionLimits:
        """As a router reads them: what was not sent, as by a proxy of the version before, is the default.

        :raises InvalidLimit: a value is no positive number.
        """
        if sent is None:
            return cls()
        if not isinstance(sent, Mapping):
            raise InvalidLimit("the limits of a session are a dictionary")
        known = [field.name for field in fields(cls)]
        return cls(**{name: positive(name, sent[name]) for name in known if name in sent})


#: From a client's TCP connection to its WELCOME, each wait of ours for a router excluded. Of a port: which service a
#: connection is for is not known at first.
JOIN_WITHIN_S = 30.0


#: Waits for a client that reads, but more slowly than it is sent to.
MOST_UNSENT_BYTES = 32 * 2**20


@dataclass(frozen=True)
class ConnectionLimits:
    """What one client may do on its connection. Applied by the proxy."""

    #: waiting for a client that takes nothing; no less than the largest message (16 MiB), which always goes alone. Who
    #: goes on reading is closed beyond `MOST_UNSENT_BYTES`.
    unsent_bytes: int = 24 * 2**20
    messages_per_s: int = 20_000  #: sustained; more is read later, not refused
    leave_within_s: float = 2.0  #: to answer our closing of the connection


DEFAULTS = ConnectionLimits()
#: All that an operator can set.
NAMES = tuple(field.name for limits in (ConnectionLimits, SessionLimits) for field in fields(limits))


@dataclass(frozen=True)
class ClientLimits:
    """All of one web service."""

    connection: ConnectionLimits = DEFAULTS
    session: SessionLimits | None = None  #: None: nothing is said of them, and nothing is to be told to routers

    @classmethod
    def from_config(cls, said: Any) -> ClientLimits:
        """As an operator sets them: one dictionary for all, of which what is not set is the default.

        :raises InvalidLimit:
        """
        if said is None:
            return cls()
        if not isinstance(said, Mapping):
            raise InvalidLimit("limits: a dictionary is wanted, from a limit's name to a number")
        times = {field.name for field in fields(ConnectionLimits) if field.type == "float"}
        if unknown := sorted(str(name) for name in said if name not in NAMES):
            raise InvalidLimit(f"limits: there is no {unknown[0]!r}. There are {', '.join(NAMES)}.")
        connection, session = ({field.name for field in fields(of)} for of in (ConnectionLimits, SessionLimits))
        of_connection: dict[str, Any] = {}
        for name in connection & said.keys():
            of_connection[name] = _seconds(name, said[name]) if name in times else positive(name, said[name])
        of_session = {name: value for name, value in said.items() if name in session}
        return cls(ConnectionLimits(**of_connection), SessionLimits.from_wire(of_session) if of_session else None)


def _seconds(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise InvalidLimit(f"{name}: {value!r} is no limit. Use a number of seconds above 0.")
    return float(value)


def positive(name: str, value: Any) -> int:
    """A limit's value. :raises InvalidLimit: it is no positive whole number."""
    if isinstance(value, bool) or not isinstance(value, int) or value <= 0:
        raise InvalidLimit(f"{name}: {value!r} is no limit. Use a whole number above 0.")
    return value
