"""Whether two linked routers agree on what one holds for the other: compared now and then, and what follows from it.

Each has a picture of its own: this one from the answers that it has got (`core.mirror.Picture`), the other one from
what the link's session has there now. If they differ, something has gone wrong that nobody has noticed: the link is
made anew, and operators are told. A name that the other router goes on refusing, since somebody else has it there, is
told as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from autobahn.wamp.exception import ApplicationError
from twisted.internet.defer import Deferred

from crossbar_cluster.core.metrics import LINK_DISAGREEMENTS, METRICS
from crossbar_cluster.core.mirror import Key, Kind, Picture

COMPARE_EACH_S = 10.0
#: How often in a row something has to be found: what is on its way is no difference.
TWICE = 2
#: What routers ask of each other: a picture of what the link of the one that asks holds.
PICTURE = "wamp.cluster.link_picture"
_NAMED = 3  #: names that people are told


class PeerFailed(Exception):
    """Another router has not answered, or with an error. The message says which."""


class Comparison:
    """Of one end of a link. :param end: `links.link.LinkEnd`. :param agreed: as there."""

    def __init__(self, end: Any, agreed: Callable[[str], None]) -> None:
        self._end = end
        self._agreed = agreed
        self._asking = False
        self._is_answered = True  #: by the other router; that of the version before does not know the question
        self._differing = 0
        self._refused: set[Key] = set()  #: of the last time

    def begin(self) -> None:
        """Compare, if nothing is on its way and the other router can tell."""
        if self._asking or not self._is_answered or not self._end.is_settled:
            return
        self._asking = True
        version, mine = self._end.mirror.version, self._end.mirror.picture.to_wire()
        answer: Deferred[Any] = self._end.call(PICTURE, [], {})
        answer.addCallbacks(lambda theirs: self._compare(version, mine, theirs), self._not_told)

    def _not_told(self, failure: Any) -> None:
        self._asking = False
        self._is_answered = failure.getErrorMessage() != ApplicationError.NO_SUCH_PROCEDURE

    def _compare(self, version: int, mine: list[int], theirs: Any) -> None:
        """:param version: of what this router believes, when it asked."""
        self._asking = False
        mirror = self._end.mirror
        if mirror.version != version or not self._end.is_settled:
            return
        self._differing = self._differing + 1 if theirs != mine else 0
        if self._differing >= TWICE:
            METRICS.count(LINK_DISAGREEMENTS)
            held = theirs[0] if isinstance(theirs, list) and theirs else theirs
            self._agreed(f"they did not agree: {mine[0]} names were shown, {held} are held there; it was made anew")
            self._end.lose("the two routers do not agree on what is shown")
        elif not self._differing:
            refused, before = set(mirror.refused), self._refused
            self._refused = refused
            self._agreed(_of_refused(refused & before))


def _of_refused(keys: set[Key]) -> str:
    if not keys:
        return ""
    names = ", ".join(sorted(key.uri for key in keys)[:_NAMED])
    return f"others there have {len(keys)} of the names that are registered here: {names}"


def picture_of(router: Any, session: Any) -> Deferred[list[int]]:
    """What the session of a link really holds. :param router: the release's ``Router``. :returns: as it is sent."""
    told: Deferred[list[int]] = Deferred()
    router.leaving.slices.run(_look(router, session, told))
    return told


def _look(router: Any, session: Any, told: Deferred[list[int]]) -> Iterator[None]:
    picture = Picture()
    for kind, owners in (
        (Kind.REGISTRATION, router._dealer._session_to_registrations),
        (Kind.SUBSCRIPTION, router._broker._session_to_subscriptions),
    ):
        observations = router.links.observations(kind)
        for observation in list(owners.get(session, ())):
            found = observations.get_observation(observation.uri, observation.match)
            if found is observation and session in found.observers:
                picture.add(Key(kind, observation.uri, observation.match))
            yield
    told.callback(picture.to_wire())
