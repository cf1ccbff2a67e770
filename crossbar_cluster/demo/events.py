"""What happens in a demo, as facts. Times are in seconds."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from crossbar_cluster.lab.client import Caller


class Milestone(StrEnum):
    """A step of the router's recovery, in the order in which they come."""

    AUTHENTICATED = "authenticated"
    RECORD_REFRESHED = "record_refreshed"
    WORKER_LISTENING = "worker_listening"
    PROXY_REPOINTED = "proxy_repointed"
    CLIENT_SERVED = "client_served"


@dataclass(frozen=True)
class SettingUp:
    """A step of the set-up has begun."""

    step: str
    at_s: float  #: since the demo started


@dataclass(frozen=True)
class Ready:
    """The cluster runs, and a client calls through the proxy without pause."""

    addresses: dict[str, str]  #: node name -> address
    url: str  #: where clients connect to
    realm: str
    took_s: float
    client: Caller


@dataclass(frozen=True)
class RoundBegan:
    number: int
    of: int
    old_address: str
    new_address: str


@dataclass(frozen=True)
class Killed:
    """The router has got SIGKILL, its workers as well."""

    address: str


@dataclass(frozen=True)
class Back:
    """The router's new process has been started: the seconds of a round count from here."""

    address: str


@dataclass(frozen=True)
class Reached:
    milestone: Milestone
    seconds: float  #: since the router is back


@dataclass(frozen=True)
class Missed:
    """A milestone did not come while it was watched for."""

    milestone: Milestone
    watched_s: float
    remark: str = ""


@dataclass(frozen=True)
class RoundResult:
    """A round, in figures."""

    number: int
    old_address: str
    new_address: str
    killed_s: float  #: when the router was killed, since it is back: a negative number
    seconds: dict[Milestone, float | None]  #: since the router is back; None: it never came
    watched_s: float  #: how long was watched, at least, for what never came
    outage_s: float | None  #: last answered call before, first one after; None: there was none after
    calls_answered: int
    attempts_failed: int  #: attempts to join, and calls, that were not answered

    @property
    def recovered(self) -> bool:
        """Whether the client was served again."""
        return self.seconds[Milestone.CLIENT_SERVED] is not None


@dataclass(frozen=True)
class RoundEnded:
    result: RoundResult


Event = SettingUp | Ready | RoundBegan | Killed | Back | Reached | Missed | RoundEnded


def spread(values: list[float | None]) -> tuple[float | None, float | None]:
    """Median and maximum. Both are None if any value is: what never came has no median that would be honest."""
    known = [value for value in values if value is not None]
    if not known or len(known) < len(values):
        return None, None
    return statistics.median(known), max(known)
