"""The links of a router worker: to which other workers of its group, as the master tells, for each realm it runs."""

from __future__ import annotations

from typing import Any

from autobahn.wamp.exception import ApplicationError

from crossbar_cluster.core.address import parse_address
from crossbar_cluster.core.mesh import IN_PART
from crossbar_cluster.core.proxy import RouterLife
from crossbar_cluster.links.link import Dialler, Target
from crossbar_cluster.links.realm import RealmLinks
from crossbar_cluster.node.handshake import ProxyNode
from crossbar_cluster.node.key import node_key
from crossbar_cluster.node.telling import tell_master


class WorkerLinks:
    """:param controller: the release's ``RouterController``."""

    def __init__(self, controller: Any) -> None:
        self._controller = controller
        self._targets: dict[str, Target] = {}
        self._realms: dict[str, RealmLinks] = {}  #: by name

    # -- what the master tells ----------------------------------------------------------------------------------

    def set(self, link_id: str, config: Any) -> None:
        """Link all realms with another router worker, or with where it is now.

        :raises ApplicationError: the configuration makes no sense; nothing is changed.
        """
        target = _target(link_id, config)
        if self._targets.get(link_id) == target:
            return
        self._targets[link_id] = target
        for realm in self._realms.values():
            realm.set(target, self._dialler)

    def drop(self, link_id: str) -> None:
        """End the link with another router worker. One that there is not is no error: it is as wanted."""
        if self._targets.pop(link_id, None) is not None:
            for realm in self._realms.values():
                realm.drop(link_id)

    def describe(self) -> dict[str, dict[str, Any]]:
        """Link id -> ``endpoint`` (host, port), ``router`` (who is to be found there) and, for each realm by name,
        ``realms``: "" when it is linked or about to be, or why it is not, or not wholly (`core.mesh.IN_PART`).
        """
        return {
            target.link_id: {
                "endpoint": list(target.endpoint),
                "router": vars(target.router),
                "realms": {name: _problem(realm, target.link_id) for name, realm in self._realms.items()},
            }
            for target in self._targets.values()
        }

    def count(self) -> dict[tuple[str, ...], float]:
        """How many links of each realm (by name) are up, and how many are down."""
        counts: dict[tuple[str, ...], float] = {(name, state): 0 for name in self._realms for state in ("up", "down")}
        for name, realm in self._realms.items():
            for link in realm.links.values():
                counts[name, "up" if link.is_up else "down"] += 1
        return counts

    # -- what becomes of realms ---------------------------------------------------------------------------------

    def realm_started(self, links: RealmLinks) -> None:
        self._realms[links.router.realm] = links
        for target in self._targets.values():
            links.set(target, self._dialler)

    def realm_stopped(self, name: str) -> None:
        if (links := self._realms.pop(name, None)) is not None:
            links.stop()

    @property
    def _dialler(self) -> Dialler:
        extra = self._controller.config.extra
        node = ProxyNode(extra.node, node_key(extra.cbdir))
        return Dialler(node, extra.worker, self._controller._reactor, self._controller.log, self._changed)

    def _changed(self) -> None:
        """Have the master look: it shows operators which links are not up."""
        tell_master(self._controller, "on_router_link_changed", self._controller.config.extra.worker)


def realm_started(worker: Any, router: Any) -> None:
    """:param worker: the release's controller of the process; None: it has none. :param router: its ``Router``."""
    if _is_router(worker):
        links_of(worker).realm_started(router.links)


def realm_stopped(worker: Any, name: str) -> None:
    """:param worker: as for `realm_started`."""
    if _is_router(worker):
        links_of(worker).realm_stopped(name)


def _is_router(worker: Any) -> bool:
    """Proxies and node controllers have realms, too, for themselves."""
    return getattr(worker, "WORKER_TYPE", None) == "router"


def _problem(realm: RealmLinks, link_id: str) -> str:
    link = realm.links.get(link_id)
    if link is None:
        return ""
    return link.told or (f"{IN_PART}{link.disagreement}" if link.disagreement else "")


def _target(link_id: str, config: Any) -> Target:
    try:
        host, port = parse_address(config["host"]), config["port"]
        router = RouterLife(**config["router"])
        if not isinstance(port, int) or not all(isinstance(value, str) for value in vars(router).values()):
            raise ValueError("port is a number, and router says node, worker, pubkey and life")
    except (KeyError, TypeError, ValueError) as e:
        raise ApplicationError("crossbar.error.invalid_configuration", f"link {link_id}: {e!r}") from e
    return Target(link_id, (host, port), router)


def links_of(controller: Any) -> WorkerLinks:
    """The links of a router worker. :param controller: the release's ``RouterController``."""
    links = vars(controller).get("_cluster_links")
    if links is None:
        links = vars(controller)["_cluster_links"] = WorkerLinks(controller)
    assert isinstance(links, WorkerLinks)
    return links
