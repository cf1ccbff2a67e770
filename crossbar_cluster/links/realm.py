"""What a router has to do with the other routers of its realm: the links that lead to them, and those that lead here.

One `RealmLinks` belongs to each released ``Router``, and is idle while there is but one. Triggered by its broker and
dealer (what clients subscribe, register, publish and call), by peers that join and leave, and by `links.worker`.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from autobahn.exception import PayloadExceededError
from autobahn.wamp.exception import SerializationError, TransportLost
from cbor2 import CBOREncodeError
from twisted.internet.defer import Deferred, DeferredList

from crossbar_cluster.core.mirror import Key, Kind
from crossbar_cluster.core.news import Seldom
from crossbar_cluster.core.router import RLINK_ROLE
from crossbar_cluster.links.agreement import PeerFailed
from crossbar_cluster.links.link import SILENT_S, Dialler, Link, Target
from crossbar_cluster.links.peer import NamingTransport, Peer, identity
from crossbar_cluster.links.remote import ForwardedPublish, publish_for_link
from crossbar_cluster.node.router_worker import end_or_tell
from crossbar_cluster.node.watchdog import loop_of

#: Meta events that are of the realm and not of one router: they go over links.
REALM_WIDE = ("wamp.session.on_join", "wamp.session.on_leave")
#: A router that has just started a realm lets clients in once it is linked, but does not wait for longer than that.
HOLD_S = 3.0
ASK_WITHIN_S = 2.0
WATCH_EACH_S = 0.5
TOLD_EACH_S = 60.0
#: What is raised for a message that is more than a connection takes, or that cannot be written down.
UNSENDABLE = (PayloadExceededError, SerializationError, CBOREncodeError, TypeError, ValueError)
#: Roles whose sessions may say that they speak for others: routers may, and what runs within this one.
_FORWARDING = (RLINK_ROLE, "trusted")


def is_linked(session: Any) -> bool:
    """Whether a session is that of another router of the group. No client has its role."""
    return getattr(session, "_authrole", None) == RLINK_ROLE


class RealmLinks:
    """:param router: the release's ``Router``. :param reactor: of its process."""

    def __init__(self, router: Any, reactor: Any) -> None:
        self.router = router
        self.links: dict[str, Link] = {}  #: by id: those that lead to others
        self.peers: dict[tuple[str, str], Peer] = {}  #: by node and worker: those that lead here
        self._sessions: dict[Any, Peer] = {}  #: of the peers
        self._peer_ids: set[int] = set()  #: of all sessions of peers whose leaving has not been told
        self._reactor = reactor
        self._began_s = reactor.seconds()
        self._holding = True
        self._watching: Any = None
        self._publication: Any = None  #: that is being sent over links, and
        self._sent: set[Any] = set()  #: over which it has been: it may match several subscriptions
        self._told = Seldom(TOLD_EACH_S)
        for kind in Kind:
            self.observations(kind).watcher = partial(self.observed, kind)

    # -- what clients of this router have -----------------------------------------------------------------------

    def observations(self, kind: Kind) -> Any:
        """The release's ``UriObservationMap`` of what is subscribed or registered on this router."""
        if kind is Kind.SUBSCRIPTION:
            return self.router._broker._subscription_map
        return self.router._dealer._registration_map

    def shown(self) -> Iterator[tuple[Key, str] | None]:
        """Everything that is to be shown to other routers, as in `core.mirror.Mirror.want`. None: it is not.

        What comes and goes meanwhile is told by `observed`.
        """
        for kind in sorted(Kind, key=lambda kind: kind.value):  # registrations first
            for observation in list(self.observations(kind)._observation_id_to_observation.values()):
                invoke = _shown_as(kind, observation)
                yield None if invoke is None else (Key(kind, observation.uri, observation.match), invoke)

    def observed(self, kind: Kind, observation: Any) -> None:
        """Somebody has subscribed or registered something, or has ended that."""
        if self.links:
            key, invoke = Key(kind, observation.uri, observation.match), _shown_as(kind, observation)
            for link in self.links.values():
                link.changed(key, invoke)

    def expel(self, key: Key) -> None:
        """A client of another router has taken a name over (``force_reregister``): nobody here has it any more."""
        dealer = self.router._dealer
        registration = dealer._registration_map.get_observation(key.uri, key.match)
        if registration is None:
            return
        for callee in [callee for callee in registration.observers if is_local(callee)]:
            self.router.leaving.evict(registration, callee)

    # -- whom a message is from ---------------------------------------------------------------------------------

    def deny_forwarding(self, session: Any, message: Any) -> None:
        """See that a client speaks for itself only, whatever its message says in ``forward_for``."""
        if session._authrole not in _FORWARDING:
            message.forward_for = None

    # -- publications -------------------------------------------------------------------------------------------

    def pass_on(self, receivers: set[Any], publish: Any) -> set[Any]:
        """Send a publication to those of its receivers that are other routers. :returns: the receivers that are not.

        Called for each subscription that it matches. Who of the clients there is to get it, is seen to there.
        """
        if not self._sessions:
            return receivers
        linked = self._sessions.keys() & receivers
        if not linked:
            return receivers
        if not isinstance(publish, ForwardedPublish):
            self._send(linked, publish)
        return receivers - linked

    def _send(self, linked: set[Any], publish: Any) -> None:
        if publish.topic.startswith("wamp.") and publish.topic not in REALM_WIDE:
            return
        if self._publication is None or self._publication[0] is not publish:
            who = identity(*publish._router_internal)
            self._publication, self._sent = (publish, who and publish_for_link(publish, who)), set()
        message = self._publication[1]
        if message is None:
            return
        for session in linked - self._sent:
            self._sent.add(session)
            try:
                self.router.send(session, message)
            except TransportLost:  # its connection is about to be closed
                continue
            except UNSENDABLE as e:
                self._tell(f"a publication to {publish.topic} could not be sent to another router: {e}")

    def _tell(self, problem: str) -> None:
        if self._told.due("unsendable", self._reactor.seconds()):  # one key: topics are without number
            self.router.log.warn("Realm {realm}: {problem}", realm=self.router.realm, problem=problem)

    # -- links that lead here -----------------------------------------------------------------------------------

    def peer_joined(self, session: Any, node: str, worker: str) -> None:
        """Another router has linked itself: what a former link of the same one has left behind goes at once.

        That is what its successor takes over, and nothing of anybody else.
        """
        former = self.peers.pop((node, worker), None)
        if former is not None:
            self._sessions.pop(former.session, None)
            self._end(former, "the router has linked itself anew")
        peer = self.peers[node, worker] = Peer(node, worker, session, self._reactor.seconds())
        self._sessions[session] = peer
        self._peer_ids.add(session._session_id)
        session._transport = NamingTransport(session._transport)
        if self._watching is None:
            self._watching = self._reactor.callLater(WATCH_EACH_S, self._watch)

    def peer_left(self, session: Any) -> None:
        peer = self._sessions.pop(session, None)
        if peer is not None and self.peers.get((peer.node, peer.worker)) is peer:
            del self.peers[peer.node, peer.worker]

    def heard(self, session: Any) -> None:
        """A session has sent something: called for each message, and of interest if it is that of a peer."""
        if (peer := self._sessions.get(session)) is not None:
            peer.heard_s = self._reactor.seconds()

    def asked(self, session: Any) -> None:
        """A peer has made a call."""
        if (peer := self._sessions.get(session)) is not None:
            peer.in_sync = True

    def is_about_links(self, topic: str, args: Any) -> bool:
        """Whether a meta event tells of another router that joins or leaves: for clients there is one realm."""
        if topic == "wamp.session.on_join":
            return bool(args) and args[0].get("authrole") == RLINK_ROLE
        if topic == "wamp.session.on_leave" and args and args[0] in self._peer_ids:
            self._peer_ids.discard(args[0])
            return True
        return False

    def is_unheard(self, topic: str) -> bool:
        """Whether a meta event of what somebody has is for nobody: there are as many as there are subscriptions."""
        if not topic.startswith(("wamp.subscription.on_", "wamp.registration.on_")):
            return False
        return not self.router._broker._subscription_map.match_observations(topic)

    def _watch(self) -> None:
        """End the sessions of peers that are silent: what they have registered here leads nowhere."""
        self._watching = None
        for peer in list(self.peers.values()):
            unheard_s = self._reactor.seconds() - peer.heard_s
            if unheard_s > SILENT_S + loop_of(self._reactor).late_s(unheard_s):
                self.router.log.warn(
                    "Realm {realm}: nothing is heard of {node} {worker}, its link is ended",
                    realm=self.router.realm,
                    node=peer.node,
                    worker=peer.worker,
                )
                self._end(peer, "nothing is heard")
        if self.peers:
            self._watching = self._reactor.callLater(WATCH_EACH_S, self._watch)

    def _end(self, peer: Peer, why: str) -> None:
        end_or_tell(self.router.log, peer.session, why, f"The link of {peer.node}")

    # -- links that lead to others ------------------------------------------------------------------------------

    def set(self, target: Target, dialler: Dialler) -> None:
        """Link the realm with another router, or with where it is now.

        A link that leads there already stays: without one for a moment, what is on the other router cannot be called.
        """
        link = self.links.get(target.link_id)
        if link is not None and link.leads_to(target):
            link.target = target
            return
        self.drop(target.link_id)
        link = self.links[target.link_id] = Link(self, target, dialler)
        link.start()

    def drop(self, link_id: str) -> None:
        if (link := self.links.pop(link_id, None)) is not None:
            link.stop()

    def stop(self) -> None:
        """The realm is stopped."""
        for link_id in list(self.links):
            self.drop(link_id)
        if self._watching is not None:
            self._watching.cancel()
            self._watching = None

    def awaited(self) -> str | None:
        """Which router clients have to wait for: one that was started anew and is not linked yet has none of what is
        registered elsewhere. None: they can come.
        """
        if self._holding:
            late = self._reactor.seconds() - self._began_s > HOLD_S
            waiting = None if late else next(filter(self._is_on_its_way, self.links.values()), None)
            if waiting is not None:
                return waiting.target.name
            self._holding = False
        return None

    def _is_on_its_way(self, link: Link) -> bool:
        """Whether a router that can be reached has not shown yet what it has, or this one to it."""
        if link.problem:
            return False
        peer = self.peers.get((link.target.router.node, link.target.router.worker))
        return not (link.is_up and peer is not None and peer.in_sync)

    def ask(self, procedure: str, *args: Any, **kwargs: Any) -> Deferred[list[Any]]:
        """Ask all other routers that are linked. :returns: fires with the answers of those that have one, in time."""
        ends = [link.end for link in self.links.values() if link.end is not None and link.is_up]
        answers = [end.call(procedure, list(args), kwargs).addTimeout(ASK_WITHIN_S, self._reactor) for end in ends]
        for answer in answers:
            answer.addErrback(lambda failure: PeerFailed(failure.getErrorMessage()))
        gathered: Deferred[list[Any]] = DeferredList(answers).addCallback(
            lambda results: [answer for _, answer in results if not isinstance(answer, PeerFailed)]
        )
        return gathered


def is_local(observer: Any) -> bool:
    """Whether an observer is a client of this router. (The store of event history is one as well, and no session.)"""
    return getattr(observer, "_authrole", None) not in (None, RLINK_ROLE)


def _shown_as(kind: Kind, observation: Any) -> str | None:
    """How an observation is shown to other routers (`core.mirror.Offer.invoke`); None: it is not."""
    if observation.uri.startswith("wamp.") and not (kind is Kind.SUBSCRIPTION and _may_be_realm_wide(observation)):
        return None
    if not any(map(is_local, observation.observers)):
        return None
    return str(observation.extra.invoke) if kind is Kind.REGISTRATION else ""


def _may_be_realm_wide(subscription: Any) -> bool:
    return subscription.match != "exact" or subscription.uri in REALM_WIDE
