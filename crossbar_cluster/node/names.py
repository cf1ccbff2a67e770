"""Looks up host names for everything in this process: one look-up for each name at a time, each with an end.

A name server that fails or hangs is no reason to lose what is connected, nor to find nobody: what it has said last
holds until it says something else. Installed as the reactor's resolver when the process begins
(`crossbar_cluster.node.process`); every connection by name is looked up here, at each attempt.
"""

from __future__ import annotations

import socket
from collections import OrderedDict
from collections.abc import Sequence
from functools import partial
from threading import Thread
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IHostnameResolver, IHostResolution
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool
from zope.interface import implementer  # type: ignore[import-untyped]

from crossbar_cluster.core.metrics import METRICS, OWN_TROUBLES
from crossbar_cluster.core.news import Seldom
from crossbar_cluster.node.trouble import NAMES

#: A name server that knows its answer gives it within milliseconds; after that time what it has said last is used.
PATIENCE_S = 1.0
#: Who asks for a name that was never known is not let wait for longer.
ANSWER_WITHIN_S = 2.0
#: Names whose last addresses are remembered.
REMEMBER = 256
#: Of this many names the name server may hang; there is one look-up of each.
THREADS = 16
TELL_EACH_S = 60.0

_FAMILIES = {frozenset([IPv4Address]): socket.AF_INET, frozenset([IPv6Address]): socket.AF_INET6}
_Key = tuple[str, int]
_Found = list[tuple[int, str]]  #: families and addresses


@implementer(IHostResolution)
class _Question:
    """Somebody who waits for a name's addresses."""

    def __init__(self, name: str, port: int, receiver: Any) -> None:
        self.name = name
        self._port = port
        self._receiver = receiver
        self.timer: Any = None
        receiver.resolutionBegan(self)

    @property
    def is_over(self) -> bool:
        return self._receiver is None

    def cancel(self) -> None:
        self._receiver = None
        self._stop()

    def answer(self, found: _Found) -> None:
        """:param found: none: the name is not known."""
        receiver, self._receiver = self._receiver, None
        self._stop()
        if receiver is None:
            return
        for family, address in found:
            kind = IPv4Address if family == socket.AF_INET else IPv6Address
            receiver.addressResolved(kind("TCP", address, self._port))
        receiver.resolutionComplete()

    def _stop(self) -> None:
        if self.timer is not None and self.timer.active():
            self.timer.cancel()


@implementer(IHostnameResolver)
class Names:
    """The resolver.

    :param pool: threads for look-ups, of its own: whoever else needs the reactor's is not held up by a name server.
    """

    def __init__(self, reactor: Any, pool: Any, log: Any) -> None:
        self._reactor = reactor
        self._pool = pool
        self._log = log
        self._known: OrderedDict[_Key, _Found] = OrderedDict()
        self._asking: dict[_Key, list[_Question]] = {}
        self._hanging: set[_Key] = set()  #: those that have been waited for in vain
        self._told = Seldom(TELL_EACH_S, at_most=REMEMBER)

    def resolveHostName(
        self,
        resolutionReceiver: Any,
        hostName: str,
        portNumber: int = 0,
        addressTypes: Sequence[type] | None = None,
        transportSemantics: str = "TCP",
    ) -> Any:
        """As of `IHostnameResolver`."""
        key = hostName, int(_FAMILIES.get(frozenset(addressTypes or ()), socket.AF_UNSPEC))
        question = _Question(hostName, portNumber, resolutionReceiver)
        if key in self._hanging and key in self._known:
            question.answer(self._known[key])
            return question
        within_s = PATIENCE_S if key in self._known else ANSWER_WITHIN_S
        question.timer = self._reactor.callLater(within_s, self._too_late, key, question)
        asking = self._asking.get(key)
        if asking is not None:
            asking.append(question)
            return question
        self._asking[key] = [question]
        looking = deferToThreadPool(self._reactor, self._pool, self._look_up, *key)
        looking.addErrback(self._failed, key)
        looking.addCallback(self._found, key)
        return question

    @staticmethod
    def _look_up(name: str, family: int) -> _Found:
        """Runs in a thread."""
        answers = socket.getaddrinfo(name, 0, family, socket.SOCK_STREAM)
        return [(int(found[0]), str(found[4][0])) for found in answers]

    def _found(self, found: _Found, key: _Key) -> None:
        if found:
            self._known[key] = found
            self._known.move_to_end(key)
            if len(self._known) > REMEMBER:
                self._known.popitem(last=False)
        self._hanging.discard(key)
        for question in self._asking.pop(key):
            question.answer(found or self._known.get(key, []))

    def _failed(self, failure: Any, key: _Key) -> _Found:
        if any(not question.is_over for question in self._asking[key]):
            self._tell(key, failure.getErrorMessage())
        return []

    def _too_late(self, key: _Key, question: _Question) -> None:
        asking = self._asking.get(key)
        if asking is not None and question in asking:
            self._hanging.add(key)
            asking.remove(question)  # the look-up goes on: what it finds is for those who ask later
        self._tell(key, "no answer in time")
        question.answer(self._known.get(key, []))

    def _tell(self, key: _Key, why: str) -> None:
        METRICS.count(OWN_TROUBLES, NAMES)
        if not self._told.due(key, self._reactor.seconds()):
            return
        known = ", ".join(address for _, address in self._known.get(key, []))
        self._log.warn(
            "The name {name} cannot be looked up ({why}): {then}. Have a look at the name server that this host uses",
            name=key[0],
            why=why,
            then=f"its last known address is used ({known})" if known else "it was never known here",
        )


def install_names(reactor: Any, log: Any) -> Names:
    """Have a reactor look up names in this way."""
    pool: Any = ThreadPool(0, THREADS, name="names")
    pool.threadFactory = partial(Thread, daemon=True)  # one that hangs in a look-up is not waited for at the end
    reactor.callWhenRunning(pool.start)
    names = Names(reactor, pool, log)
    reactor.installNameResolver(names)
    return names
