"""How the backends of this proxy worker are: looked at, found to be up, given up when they are lost.

Owns the watches, and what is to be made of what they find. A look that fails says something about a backend only if
nothing else explains it: this process asks itself first whether it was late, out of descriptors, or without a name
server (`node.trouble`), and what is heard on connections that stand counts for more. Work ends with the backend's
state, and with `lost` for those that are on it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError

from crossbar_cluster.core.backends import ENDING, UNAVAILABLE, Backend, Backends
from crossbar_cluster.core.news import Seldom
from crossbar_cluster.node.attempt import OwnFault, TurnedAway
from crossbar_cluster.node.backend_session import BackendSession
from crossbar_cluster.node.handshake import NotJoined, Principal, Refused, Unreachable, WrongRouter
from crossbar_cluster.node.trouble import Trouble, Troubles, all_at_once, late_loop
from crossbar_cluster.node.watchdog import loop_of
from crossbar_cluster.proxy.dialling import Dialling, Session
from crossbar_cluster.proxy.watch import EVERY_S, WITHIN_S, Watch

#: The master is told of a backend that cannot be reached at most once in this time: one that stays away is no news.
REPORT_EACH_S = 2.0
#: A look during which this process's own loop was later than that says nothing.
LATE_S = 0.5
#: But a loop that is late all the time is no excuse for ever.
LATE_LOOKS_AT_MOST = 4


class Looks:
    """:param lost: told of a backend whose clients are to be told so, again at each look until it is back.
    :param up: told when a backend is up that was not.
    :param unreachable: told now and then of one that cannot be reached where it is said to be.
    """

    def __init__(
        self,
        backends: Backends,
        dialling: Dialling,
        reactor: Any,
        log: Any,
        *,
        lost: Callable[[Backend], None],
        up: Callable[[Backend], None],
        unreachable: Callable[[Backend], None],
    ) -> None:
        self.troubles = Troubles(reactor, log)
        self._backends = backends
        self._dialling = dialling
        self._reactor = reactor
        self._log = log
        self._lost = lost
        self._up = up
        self._unreachable = unreachable
        self._watches: dict[str, Watch] = {}
        self._reports = Seldom(REPORT_EACH_S)
        self._forced = Seldom(EVERY_S)

    # -- who is looked at ---------------------------------------------------------------------------------------

    def follow(self) -> list[str]:
        """Backends have come or gone. :returns: those that are gone."""
        gone = list(set(self._watches) - set(self._backends.by_id))
        for connection_id in gone:
            self._watches.pop(connection_id).stop()
            self._dialling.forget(connection_id)
        for connection_id, backend in self._backends.by_id.items():
            if connection_id not in self._watches:
                self._watches[connection_id] = Watch(backend, self.look, self._reactor)
            if not backend.is_up:  # it is new, or a realm to ask for may have come
                self._watches[connection_id].now()
        return gone

    def soon(self, connection_id: str) -> None:
        """Look at it now, if it has not just been heard of."""
        if connection_id in self._watches:
            self._watches[connection_id].now()

    def again(self, connection_id: str) -> None:
        """A client could not get there: look at it, however lately it was heard of by those who are on it already."""
        if connection_id in self._watches:
            forced = self._forced.due(connection_id, self._reactor.seconds())  # not for each of many clients
            self._watches[connection_id].now(force=forced)

    # -- one look -----------------------------------------------------------------------------------------------

    async def look(self, backend: Backend) -> None:
        """Look at a backend, and draw conclusions. Never fails."""
        if not backend.routes:  # nothing to ask for; clients that are there are about to go
            return
        config, began_s = backend.config, self._reactor.seconds()
        try:
            await self._try(backend)
        except CancelledError:
            raise
        except Exception as e:
            if not isinstance(e, NotJoined):  # a bug, a key that cannot be read, or a configuration without sense
                if backend.problem != repr(e):
                    self._log.failure("Backend {backend} cannot be looked at", backend=backend.id)
                e = NotJoined(repr(e))
            if backend.config is config:  # it has not been pointed elsewhere meanwhile
                self.failed(backend, e, began_s)
        else:
            if backend.config is config and backend.reached(self._reactor.seconds()):
                self._log.info("Backend {backend} is up", backend=backend.id)
                self._up(backend)

    async def _try(self, backend: Backend) -> None:
        """:raises NotJoined:"""
        self._dialling.check_unproven(backend)
        refused: Refused | None = None
        for realm, role in sorted(backend.routes):
            principal = Principal(realm, f"proxy-{self._dialling.node.authid}", role)
            handshake = self._dialling.handshake(backend, principal)
            trial = BackendSession(backend, handshake, None, self._reactor)
            try:
                await self._joined(self._dialling.connect(backend, trial))
                return
            except Refused as e:
                refused = e
        if refused:
            raise refused

    async def _joined(self, session: Session) -> None:
        """:raises NotJoined:"""
        timer = self._reactor.callLater(WITHIN_S, session.give_up)
        try:
            await session.joined
        except CancelledError:  # it is looked at no more
            session.disconnect()
            raise
        finally:
            if timer.active():
                timer.cancel()

    # -- what is made of it -------------------------------------------------------------------------------------

    def failed(self, backend: Backend, error: NotJoined, began_s: float) -> None:
        """A look has failed. :param began_s: when it began."""
        trouble = self._own_trouble(backend, error, began_s)
        if trouble is not None:
            backend.void(trouble.what)
            self.troubles.met(trouble, backend.id)
            return
        self._report(backend, error)
        if self.is_ending(error):
            self.ending(backend, str(error))
            return
        was_up = backend.is_up
        # It is there: who is on it stays. Were it another one that answers, the connections that stand would be reset.
        is_there = isinstance(error, Refused | TurnedAway)
        news = backend.failed(str(error), began_s, self._reactor.seconds(), is_there=is_there)
        if is_there:
            if news:
                self._log.info("Backend {backend} takes no new clients: {problem}", backend=backend.id, problem=error)
            return
        if was_up and not news and backend.failures == 1:
            self._look_at_others(backend)
        if backend.is_lost:
            self._give_up(backend, error)

    def _own_trouble(self, backend: Backend, error: NotJoined, began_s: float) -> Trouble | None:
        if isinstance(error, OwnFault):
            return error.trouble
        if not isinstance(error, Unreachable) or backend.voids >= LATE_LOOKS_AT_MOST:
            return None
        return late_loop() if loop_of(self._reactor).late_s(self._reactor.seconds() - began_s) > LATE_S else None

    def _look_at_others(self, backend: Backend) -> None:
        """Whether others can still be reached anew tells whose fault it is; whoever has just been heard of, too."""
        for other in self._backends.by_id.values():
            if other.is_up and not other.is_failing and other.host != backend.host:
                self._watches[other.id].now(force=True)

    def _give_up(self, backend: Backend, error: NotJoined) -> None:
        if isinstance(error, Unreachable) and self._backends.fail_at_once(backend, self._reactor.seconds()):
            self.troubles.met(all_at_once(), backend.id)
            return
        if not backend.given_up:
            backend.given_up = True
            self._log.warn("Backend {backend} is lost: {problem}", backend=backend.id, problem=error)
        self._lost(backend)

    def _report(self, backend: Backend, error: NotJoined) -> None:
        if isinstance(error, WrongRouter) and str(error) != backend.problem:
            self._log.error("Backend {backend}: {problem}: no client is sent there", backend=backend.id, problem=error)
        if isinstance(error, WrongRouter | Unreachable) and self._reports.due(backend.id, self._reactor.seconds()):
            self._unreachable(backend)  # the router may be elsewhere by now

    @staticmethod
    def is_ending(error: NotJoined) -> bool:
        """Whether a router refuses because it is drained."""
        return isinstance(error, Refused) and error.reason == UNAVAILABLE and ENDING in (error.explanation or "")

    def ending(self, backend: Backend, problem: str) -> None:
        """A router says that it is drained: nobody new is sent there until its successor is found."""
        if backend.ending(problem):
            self._log.info("Backend {backend} takes no new clients: {problem}", backend=backend.id, problem=problem)
            self.soon(backend.id)
