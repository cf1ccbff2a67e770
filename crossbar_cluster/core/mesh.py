"""The links of a router worker to the others of its group, and the steps that make them so. Pure.

Every worker of a group has a link to every other one: over it, it shows the other what its own clients have subscribed
and registered, and is sent what is for them. So each pair has two links, one for each direction; one link serves all
realms of the group.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from crossbar_cluster.core.proxy import CONNECTION_PREFIX, Backend, Endpoint, RouterLife, at

#: What a problem of a link begins with that is up all the same.
IN_PART = "in part: "


@dataclass(frozen=True)
class ObservedLink:
    """A link as its router worker describes it."""

    endpoint: Endpoint
    router: RouterLife | None  #: who is to be found there
    problems: Mapping[str, str] = field(default_factory=dict)  #: realm -> why the link is not up for it, or not wholly


@dataclass(frozen=True)
class SetLink:
    """Link the router worker with another one, or tell it where that is to be found now."""

    link_id: str
    endpoint: Endpoint
    router: RouterLife
    was: Endpoint | None = None

    def __str__(self) -> str:
        if self.was is None:
            return f"link {self.link_id} started to {at(self.endpoint)}"
        if self.was == self.endpoint:
            return f"link {self.link_id} renewed: its router has been started anew at {at(self.endpoint)}"
        return f"link {self.link_id} re-pointed from {at(self.was)} to {at(self.endpoint)}"


@dataclass(frozen=True)
class DropLink:
    """End a link to a worker that has left the group.

    :ivar at_once: its node is not paired any more: it is not to speak for anybody.
    """

    link_id: str
    at_once: bool = False

    def __str__(self) -> str:
        return f"link {self.link_id} stopped"


def plan_links(wanted: Iterable[Backend], observed: Mapping[str, ObservedLink]) -> list[list[Any]]:
    """A strand for each link that is missing, or leads elsewhere than to where its router is known to listen."""
    return [_link_strand(other, observed.get(other.connection_id)) for other in wanted]


def _link_strand(other: Backend, link: ObservedLink | None) -> list[Any]:
    """A router that is not known to listen now is looked for when it is; one that proves nothing is not linked."""
    if not other.confirmed or other.endpoint is None or not can_link(other.identity):
        return []
    assert other.identity is not None
    if link is None:
        return [SetLink(other.connection_id, other.endpoint, other.identity)]
    if (link.endpoint, link.router) != (other.endpoint, other.identity):
        return [SetLink(other.connection_id, other.endpoint, other.identity, link.endpoint)]
    return []


def can_link(router: RouterLife | None) -> bool:
    """Whether a router worker can be linked: it has to prove who it is, which the plain release cannot."""
    return router is not None and router.pubkey is not None and router.life is not None


def links_to_drop(
    wanted: Iterable[Backend], observed: Mapping[str, ObservedLink], expelled: Collection[str] = ()
) -> list[Any]:
    """Those that lead to workers which are not of the group any more.

    :param expelled: of them, those to routers that have been unpaired.
    """
    ids = {other.connection_id for other in wanted}
    gone = (link_id for link_id in sorted(observed) if link_id.startswith(CONNECTION_PREFIX) and link_id not in ids)
    return [DropLink(link_id, link_id in expelled) for link_id in gone]


def missing_links(wanted: Iterable[Backend], observed: Mapping[str, ObservedLink] | None) -> list[str]:
    """For people: which links are not up, or not wholly, although both ends are there."""
    told: list[str] = []
    for other in wanted:
        if not other.confirmed or other.identity is None:
            continue
        name = f"{other.identity.node} {other.identity.worker}"
        if not can_link(other.identity):
            told.append(
                f"not linked with {name}, which runs without crossbar-cluster: clients on the two cannot reach each "
                "other. Install it there"
            )
        elif observed is not None and (link := observed.get(other.connection_id)) is not None:
            for realm, problem in sorted(link.problems.items()):
                where = f"with {name} at {at(link.endpoint)}"
                if problem.startswith(IN_PART):
                    told.append(f"realm {realm} is linked {where}, but {problem.removeprefix(IN_PART)}")
                else:
                    told.append(f"realm {realm} is not linked {where}: {problem}")
    return told
