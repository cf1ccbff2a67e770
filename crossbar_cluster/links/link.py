"""The end of a link at the router that links itself: dialled, joined, and kept in step with what this router has.

A `Link` is to one other router worker, for one realm. It never gives up; where it leads never changes: for another
address there is another link. A `LinkEnd` is one joined session of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from random import uniform
from typing import Any

from autobahn.wamp.exception import TransportLost
from autobahn.wamp.message import (
    Call,
    Error,
    Interrupt,
    Invocation,
    Publish,
    Register,
    Registered,
    Result,
    Subscribe,
    Subscribed,
    Unregister,
    Unregistered,
    Unsubscribe,
    Unsubscribed,
)
from twisted.application.internet import backoffPolicy
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater

from crossbar_cluster.core.metrics import LINK_LOSSES, METRICS
from crossbar_cluster.core.mirror import Key, Kind, Mirror, Offer, Withdraw
from crossbar_cluster.core.proof import RouterIdentity
from crossbar_cluster.core.proxy import Endpoint, RouterLife, at
from crossbar_cluster.core.router import RLINK_ROLE
from crossbar_cluster.links.agreement import COMPARE_EACH_S, Comparison, PeerFailed
from crossbar_cluster.links.remote import RemoteClients
from crossbar_cluster.node.backend_auth import LIFE_EXTRA
from crossbar_cluster.node.backend_session import BackendSession
from crossbar_cluster.node.connecting import connect
from crossbar_cluster.node.handshake import Handshake, NotJoined, Principal, ProxyNode
from crossbar_cluster.node.watchdog import loop_of
from crossbar_cluster.router.backlogs import bound_link_backlog

CONNECT_WITHIN_S = 2.0
JOIN_WITHIN_S = 5.0
_BACKOFF = backoffPolicy(initialDelay=0.1, maxDelay=1.5, factor=1.6, jitter=lambda: 0.0)
#: How often the other router is asked whether it is there.
PING_EACH_S = 1.0
#: One that is not heard of for so long is taken for gone, on either end. That is sooner than proxies give a router up
#: (`core.backends.LOST_AFTER` looks of `proxy.watch.WITHIN_S`): what its clients have registered has to be gone here
#: when they are sent here and register it anew.
SILENT_S = 4.0
#: What was refused because somebody else had the name is asked for anew: soon, for whoever takes a name over is heard
#: of on another link than the former owner; and ever more seldom, for it may stay like that.
REFUSED_FIRST_S = 0.2
REFUSED_AT_MOST_S = 4.5
#: How many names at a time.
REFUSED_AT_ONCE = 1000
#: One that does not come up is worth a line in the log after that time: the other router may be starting.
TELL_AFTER_S = 5.0
_PING = "wamp.registration.lookup"


@dataclass(frozen=True)
class Target:
    """Another router worker of the group, and where it is."""

    link_id: str
    endpoint: Endpoint
    router: RouterLife

    @property
    def name(self) -> str:
        return f"{self.router.node} {self.router.worker}"


@dataclass(frozen=True)
class Dialler:
    """This router worker, as it shows itself to others."""

    node: ProxyNode
    worker: str
    reactor: Any
    log: Any
    changed: Callable[[], None]  #: told when a link has been down for long, and when it is up again


class LinkEnd:
    """A joined session of a link. As the session's client (`node.backend_session`) it is given what comes over it.

    :param links: of the realm: what there is to show, and the router.
    :param settled: told once, when the other router has answered to all that this one had to show.
    :param agreed: told after each comparison what the two routers do not agree on; "": nothing.
    """

    def __init__(
        self,
        links: Any,
        reactor: Any,
        settled: Callable[[], None],
        agreed: Callable[[str], None] = lambda problem: None,
    ) -> None:
        self.over: Deferred[str] = Deferred()  #: fires when it has ended, with the reason
        self.mirror = Mirror(self._request)
        self._links = links
        self._reactor = reactor
        self._settled = settled
        self._was_settled = self._has_shown = False
        self._comparison = Comparison(self, agreed)
        self._session: BackendSession | None = None
        self._remote = RemoteClients(links.router, self._send)
        self._requests = 0
        self._calls: dict[int, Deferred[Any]] = {}
        self._timers: list[Any] = []
        self._insisted: set[Key] = set()  #: refused although it was asked for anew
        self._insist_s = REFUSED_FIRST_S
        self._insisting: Any = None

    def begin(self, session: BackendSession) -> None:
        """The session has been joined: show everything."""
        self._session = session
        self._links.router.leaving.slices.run(self._show())
        self._repeat(PING_EACH_S, self._ping)
        self._repeat(COMPARE_EACH_S, self._comparison.begin)

    def _show(self) -> Iterator[None]:
        for shown in self._links.shown():
            if shown is not None:
                self.mirror.want(*shown)
            if self.over.called:
                return
            yield
        self._has_shown = True
        self._check_settled()

    # -- what is sent -------------------------------------------------------------------------------------------

    def _send(self, message: Any) -> None:
        if self._session is not None and self._session.transport is not None:
            with suppress(TransportLost):
                self._session.transport.send(message)

    def _next(self) -> int:
        self._requests += 1
        return self._requests

    def _request(self, action: Offer | Withdraw) -> int:
        request = self._next()
        match action:
            case Offer(Key(Kind.SUBSCRIPTION, uri, match_)):
                self._send(Subscribe(request, uri, match_))
            case Offer(Key(Kind.REGISTRATION, uri, match_), invoke):
                self._send(Register(request, uri, match_, invoke))
            case Withdraw(Key(Kind.SUBSCRIPTION), held_id):
                self._send(Unsubscribe(request, held_id))
            case Withdraw(_, held_id):
                self._send(Unregister(request, held_id))
        return request

    def call(self, procedure: str, args: list[Any], kwargs: dict[str, Any]) -> Deferred[Any]:
        """Ask the other router. :returns: fires with its answer, or fails with `PeerFailed`."""
        request = self._next()

        def given_up(_: Any) -> None:
            self._calls.pop(request, None)

        answer: Deferred[Any] = Deferred(given_up)
        self._calls[request] = answer
        self._send(Call(request, procedure, args=args, kwargs=kwargs))
        return answer

    def _ping(self) -> None:
        unheard_s = self._reactor.seconds() - self._session.backend.heard_s if self._session else 0.0
        if self._session is not None and unheard_s > SILENT_S + loop_of(self._reactor).late_s(unheard_s):
            self._session.lose(f"nothing was heard for {unheard_s:.0f} s")
        elif self._was_settled:  # until then, the answers to what it is shown are enough
            self.call(_PING, [_PING], {}).addErrback(lambda _: None)  # any answer is an answer

    def _repeat(self, each_s: float, do: Callable[[], None]) -> None:
        def due() -> None:
            self._timers.remove(timer)
            do()
            if not self.over.called:
                self._repeat(each_s, do)

        timer = self._reactor.callLater(each_s, due)
        self._timers.append(timer)

    def lose(self, why: str) -> None:
        """End it: it is to be made anew."""
        if self._session is not None:
            self._session.lose(why)

    @property
    def is_settled(self) -> bool:
        """Whether the other router has answered to all that there was to be shown, and what has changed since."""
        return self._was_settled and self.mirror.is_settled

    @property
    def is_busy(self) -> bool:
        """Whether this router waits for answers to its own questions."""
        return bool(self._calls)

    # -- what is received (`node.backend_session.Client`) -------------------------------------------------------

    def forward(self, message: Any) -> None:
        match message:
            case Publish():
                self._remote.publish(message)
            case Invocation():
                self._remote.call(message, self.mirror.key_of(Kind.REGISTRATION, message.registration))
            case Interrupt():
                self._remote.interrupt(message.request, message.mode)
            case Result():
                self._answered(message.request, message)
            case Error() if message.request_type == Call.MESSAGE_TYPE:
                self._answered(message.request, PeerFailed(message.error))
            case Subscribed():
                self.mirror.accepted(message.request, message.subscription)
            case Registered():
                self.mirror.accepted(message.request, message.registration)
            case Unregistered() if message.request == 0:
                self._expelled(Kind.REGISTRATION, message.registration)
            case Unsubscribed() if message.request == 0:
                self._expelled(Kind.SUBSCRIPTION, message.subscription)
            case Unregistered() | Unsubscribed() | Error():
                if (refused := self.mirror.ended(message.request)) is not None:
                    self._refused(refused)
        self._check_settled()

    def ended(self, session: BackendSession, why: str | None) -> None:
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
        if self._insisting is not None:
            self._insisting.cancel()
        calls, self._calls = self._calls, {}
        try:
            for answer in calls.values():
                answer.errback(PeerFailed("the link is down"))
            self._remote.end()
        finally:  # whatever goes wrong here, the link is to be made anew
            self.over.callback(why or "it was closed")

    def _answered(self, request: int, answer: Any) -> None:
        waiting = self._calls.pop(request, None)
        if waiting is not None:
            if isinstance(answer, PeerFailed):
                waiting.errback(answer)
            else:
                waiting.callback(answer.args[0] if answer.args else None)

    def _refused(self, key: Key) -> None:
        is_new = key not in self._insisted
        if is_new:
            self._insist_s = REFUSED_FIRST_S
        if self._insisting is not None and is_new:
            self._insisting.reset(self._insist_s)
        elif self._insisting is None:
            self._insisting = self._reactor.callLater(self._insist_s, self._insist)

    def _insist(self) -> None:
        self._insisting = None
        self._insist_s = min(2 * self._insist_s, REFUSED_AT_MOST_S)
        self._insisted = set(self.mirror.retry(REFUSED_AT_ONCE))

    def _expelled(self, kind: Kind, held_id: int) -> None:
        key = self.mirror.expelled(kind, held_id)
        if key is not None and kind is Kind.REGISTRATION:
            self._links.expel(key)

    def _check_settled(self) -> None:
        if not self._was_settled and self._has_shown and self.mirror.is_settled:
            self._was_settled = True
            self._settled()
            self._ping()  # the first one says so to the other router


class Link:
    """Links this router worker with another one, for one realm.

    :param links: of the realm.
    """

    def __init__(self, links: Any, target: Target, dialler: Dialler) -> None:
        self.target = target
        self.heard_s = 0.0
        self.end: LinkEnd | None = None  #: while it is joined
        self.is_up = False
        self.problem = ""  #: why it is not up, once it has been tried
        self._links = links
        self._dialler = dialler
        self._running: Deferred[None] | None = None
        self._life: str | None = None  #: of the router worker that it was joined to last
        self._down_since_s = dialler.reactor.seconds()
        self.told = ""  #: the problem, once it has lasted long enough to be one
        self.disagreement = ""  #: what the two routers do not agree on, or have not until the link was made anew

    def start(self) -> None:
        self._running = Deferred.fromCoroutine(self._run())
        self._running.addErrback(lambda _: None)  # it has been stopped: nothing else ends it

    def stop(self) -> None:
        """End it for good. The other router lets go of what it held at once."""
        if self._running is not None:
            self._running.cancel()

    async def _run(self) -> None:
        failures = 0
        while True:
            began_s = self._dialler.reactor.seconds()
            try:
                why = await self._once()
            except CancelledError:
                raise
            except NotJoined as e:
                why = str(e)
            except Exception as e:  # a bug, or a key that cannot be read: tried again all the same
                if repr(e) != self.problem:
                    self._dialler.log.failure("The link with {name} cannot be made", name=self.target.name)
                why = repr(e)
            if self._dialler.reactor.seconds() - began_s > SILENT_S:
                failures = 0
            self._lost(why)
            await deferLater(self._dialler.reactor, _BACKOFF(failures) * uniform(0.7, 1.0))
            failures += 1

    async def _once(self) -> str:
        """One session. :returns: why it has ended. :raises NotJoined:"""
        dialler, router = self._dialler, self.target.router
        meant = RouterIdentity(router.node, router.worker, str(router.pubkey))
        who = Principal(self._links.router.realm, f"{dialler.node.authid}.{dialler.worker}", RLINK_ROLE)
        handshake = Handshake(dialler.node, who, meant, (router.node, router.worker), linked_worker=dialler.worker)
        end = LinkEnd(self._links, dialler.reactor, self._came_up, self._agreed)
        session = BackendSession(self, handshake, end, dialler.reactor)
        connect(session, dialler.reactor, *self.target.endpoint, CONNECT_WITHIN_S)
        timer = dialler.reactor.callLater(JOIN_WITHIN_S, session.give_up)
        try:
            welcome = await session.joined
            self._life = (welcome.authextra or {}).get(LIFE_EXTRA)
            self.end, self.heard_s = end, dialler.reactor.seconds()
            bound_link_backlog(session, dialler.reactor)
            end.begin(session)
            return await end.over
        except BaseException:  # it is stopped, or something is wrong: whatever there is of the session is to end
            session.lose("this router does not want it any more")
            session.disconnect()
            raise
        finally:
            self.end = None
            if timer.active():
                timer.cancel()

    def leads_to(self, target: Target) -> bool:
        """Whether it is joined to just that: it may have found a router that was started anew before the master."""
        return self.end is not None and self.target.endpoint == target.endpoint and self._life == target.router.life

    def changed(self, key: Key, invoke: str | None) -> None:
        """This router's own clients have something new, or have it no more (`core.mirror.Mirror.want`)."""
        if self.end is not None:
            self.end.mirror.want(key, invoke)

    def _agreed(self, problem: str) -> None:
        was, self.disagreement = self.disagreement, problem
        if problem == was:
            return
        if problem:
            self._dialler.log.warn(
                "Realm {realm} is linked with {name} at {endpoint}, but {problem}",
                realm=self._links.router.realm,
                name=self.target.name,
                endpoint=at(self.target.endpoint),
                problem=problem,
            )
        self._dialler.changed()

    def _came_up(self) -> None:
        was_told, self.is_up, self.problem, self.told = self.told, True, "", ""
        self._dialler.log.info(
            "Realm {realm} is linked with {name} at {endpoint}",
            realm=self._links.router.realm,
            name=self.target.name,
            endpoint=at(self.target.endpoint),
        )
        if was_told:
            self._dialler.changed()

    def _lost(self, why: str) -> None:
        now_s = self._dialler.reactor.seconds()
        was_up, self.is_up, self.problem = self.is_up, False, why
        if was_up:
            self._down_since_s = now_s
            METRICS.count(LINK_LOSSES)
            self._dialler.log.info(
                "Realm {realm} is not linked with {name} any more: {why}",
                realm=self._links.router.realm,
                name=self.target.name,
                why=why,
            )
        elif why != self.told and now_s - self._down_since_s >= TELL_AFTER_S:  # else it may be on its way up
            self.told = why
            self._dialler.log.warn(
                "Realm {realm} is not linked with {name} at {endpoint}: {why} (will try again)",
                realm=self._links.router.realm,
                name=self.target.name,
                endpoint=at(self.target.endpoint),
                why=why,
            )
            self._dialler.changed()
