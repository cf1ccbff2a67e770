"""What this process, or its host, may lack itself when a connection to somebody else does not come about.

Asked before anybody else is blamed: whoever cannot open a socket learns nothing about the other end.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import Any

from twisted.internet.error import DNSLookupError

from crossbar_cluster.core.metrics import METRICS, OWN_TROUBLES
from crossbar_cluster.core.news import Seldom

NAMES = "names"
LOOP = "loop"
ALL_BACKENDS = "all_backends"
TELL_EACH_S = 60.0


@dataclass(frozen=True)
class Trouble:
    """Something that is lacking here."""

    cause: str  #: of the metric
    what: str  #: for people
    advice: str  #: what to do about it


_DESCRIPTORS = Trouble(
    "descriptors",
    "there are no file descriptors left",
    "Raise this process's limit (ulimit -n, LimitNOFILE=), or run more proxies",
)
_SYSTEM_DESCRIPTORS = Trouble(
    "descriptors", "this host has no file descriptors left", "Raise fs.file-max, or end what uses so many"
)
_PORTS = Trouble(
    "ports",
    "there is no source port left for connections to that address",
    "Widen net.ipv4.ip_local_port_range, or run more proxies",
)
_MEMORY = Trouble("memory", "the system has no memory for sockets", "Give this host more memory")
_FILTER = Trouble(
    "filter",
    "this host does not let connections out",
    "Look at its packet filter, and at its table of connections (net.netfilter.nf_conntrack_max)",
)
_NAMES = Trouble(NAMES, "its name cannot be looked up", "Have a look at the name server that this host uses")
_LOOP = Trouble(
    LOOP, "this process was too busy to notice an answer", "Give it more processor time, or run more proxies"
)
_ALL = Trouble(
    ALL_BACKENDS,
    "all routers on different hosts have stopped to answer at the same moment",
    "Have a look at the network of this host: new connections do not come about, while others stand",
)

_BY_NUMBER = {
    errno.EMFILE: _DESCRIPTORS,
    errno.ENFILE: _SYSTEM_DESCRIPTORS,
    errno.EADDRNOTAVAIL: _PORTS,
    errno.EADDRINUSE: _PORTS,
    errno.ENOBUFS: _MEMORY,
    errno.ENOMEM: _MEMORY,
    errno.EPERM: _FILTER,
}


def trouble_of(error: BaseException) -> Trouble | None:
    """What is lacking here, by an error of a connection that did not come about; None: it says nothing of that."""
    if isinstance(error, DNSLookupError):
        return _NAMES
    number = getattr(error, "osError", None) or getattr(error, "errno", None)
    return _BY_NUMBER.get(number) if isinstance(number, int) else None


def late_loop() -> Trouble:
    """This process's own loop was late."""
    return _LOOP


def all_at_once() -> Trouble:
    """All others fail at the same moment."""
    return _ALL


def no_descriptors() -> Trouble:
    """What is left is reserved."""
    return _DESCRIPTORS


class Troubles:
    """Those of this process now: counted, told now and then, and part of its health while they last.

    :param clock: an IReactorTime.
    """

    #: One that was not met for so long is over.
    LASTS_S = 5.0
    #: One that has been there for less is a moment's, and keeps no node from being ready.
    STANDS_AFTER_S = 2.0

    def __init__(self, clock: Any, log: Any) -> None:
        self._clock = clock
        self._log = log
        self._met_s: dict[Trouble, tuple[float, float]] = {}  #: first and last
        self._told = Seldom(TELL_EACH_S)

    def met(self, trouble: Trouble, about: str) -> None:
        """It has been met. :param about: whom nobody is to blame for it."""
        now_s = self._clock.seconds()
        METRICS.count(OWN_TROUBLES, trouble.cause)
        first_s, last_s = self._met_s.get(trouble, (now_s, now_s))
        self._met_s[trouble] = (first_s if now_s - last_s < self.LASTS_S else now_s), now_s
        if self._told.due(trouble.cause, now_s):
            self._log.warn(
                "Backend {about} could not be tried, and is not to blame: {what}. Whoever is joined stays. {advice}",
                about=about,
                what=trouble.what,
                advice=trouble.advice,
            )

    def now(self) -> list[str]:
        """What is lacking now, for people."""
        since_s = self._clock.seconds() - self.LASTS_S
        standing = (t for t, (first_s, last_s) in self._met_s.items() if last_s - first_s >= self.STANDS_AFTER_S)
        return sorted(trouble.what for trouble in standing if self._met_s[trouble][1] >= since_s)
