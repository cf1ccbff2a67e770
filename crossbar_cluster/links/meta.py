"""The WAMP meta API over all routers of a realm, as far as it is about sessions and about who has what.

A router answers a client for itself and asks the others; asked by one of them, it answers for itself only. Ids of
registrations and subscriptions are a router's own, so those are looked up at each one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from autobahn.wamp.exception import ApplicationError
from twisted.internet.defer import Deferred

from crossbar_cluster.core.mirror import Kind
from crossbar_cluster.links.agreement import picture_of
from crossbar_cluster.links.realm import RealmLinks, is_linked, is_local

#: What routers ask of each other: who has subscribed or registered something.
OBSERVERS = "wamp.cluster.list_observers"


def realm_wide(service: Any, details: Any) -> RealmLinks | None:
    """The links over which a meta procedure asks others; None: it answers for this router only.

    :param service: the release's ``RouterServiceAgent``.
    :param details: of the call; the caller is a client, another router, or the management of this node.
    """
    links: RealmLinks = service._router.links
    caller = _caller(service, details)
    return links if links.links and caller is not None and not is_linked(caller) else None


def _caller(service: Any, details: Any) -> Any:
    """The session that has called; None: it is not known, or has left."""
    return service._router._session_id_to_session.get(details.caller) if details is not None else None


def gathered(links: RealmLinks | None, mine: Any, combine: Callable[[list[Any]], Any], *asked: Any) -> Any:
    """The answer of this router combined with those of all others.

    :param asked: the procedure and its arguments.
    """
    if links is None:
        return mine
    return links.ask(*asked).addCallback(lambda theirs: combine([mine, *theirs]))


def of_one(links: RealmLinks | None, local: Callable[[], Any], *asked: Any) -> Any:
    """The answer of whichever router a session is on.

    :raises ApplicationError: as `local`, when it is on none.
    """
    try:
        return local()
    except ApplicationError as e:
        if e.error != ApplicationError.NO_SUCH_SESSION or links is None:
            raise
        unknown = e

    def answered(theirs: list[Any]) -> Any:
        if not theirs:  # each of them has answered with an error
            raise unknown
        return theirs[0]

    return links.ask(*asked).addCallback(answered)


def observers(service: Any, links: RealmLinks | None, kind: str, observation_id: int, found: list[int]) -> Any:
    """Session ids of all that have a registration or subscription, on whichever router they are.

    :param kind: "registration" or "subscription".
    :param found: those on this router, links to others included.
    """
    observation = service._router.links.observations(Kind(kind)).get_observation_by_id(observation_id)
    mine = _without_links(observation, found)
    return gathered(links, mine, concatenated, OBSERVERS, kind, observation.uri, observation.match)


def observers_here(service: Any, kind: str, uri: str, match: str, details: Any) -> list[int]:
    """Asked by another router: session ids of those on this one.

    :raises ApplicationError: somebody else asks.
    """
    caller = _caller(service, details)
    if caller is None or not is_linked(caller):
        raise ApplicationError(ApplicationError.NOT_AUTHORIZED, "only routers of the realm ask this of each other")
    observation = service._router.links.observations(Kind(kind)).get_observation(uri, match)
    return [o._session_id for o in observation.observers if is_local(o)] if observation else []


def picture_here(service: Any, details: Any) -> Deferred[list[int]]:
    """Asked by another router: what its link holds here. :raises ApplicationError: somebody else asks."""
    caller = _caller(service, details)
    if caller is None or not is_linked(caller):
        raise ApplicationError(ApplicationError.NOT_AUTHORIZED, "only routers of the realm ask this of each other")
    return picture_of(service._router, caller)


def _without_links(observation: Any, found: list[int]) -> list[int]:
    linked = {observer._session_id for observer in observation.observers if is_linked(observer)}
    return [session_id for session_id in found if session_id not in linked]


def counted(found: Any) -> Any:
    """How many there are. :param found: a list, or what fires with one."""
    return found.addCallback(len) if isinstance(found, Deferred) else len(found)


def concatenated(lists: Iterable[Any]) -> list[Any]:
    return [item for each in lists for item in each or ()]
