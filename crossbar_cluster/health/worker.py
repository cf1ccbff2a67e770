"""A worker as it describes itself to its node's controller: what its health is judged by, and its numbers.

Runs in each worker, triggered by calls of the controller. What is to be made of the facts is `core.health`'s to say.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from crossbar_cluster.core import metrics
from crossbar_cluster.core.metrics import METRICS, Metric, Values

MASTER = "master"

_OF_ROUTER = (metrics.LINK_LOSSES,)
_OF_PROXY = (metrics.JOINS, metrics.JOIN_DURATION, metrics.SESSIONS_LOST)
_OF_AUTHENTICATOR = (metrics.ADDRESS_CHANGES, metrics.CLAIMS_REJECTED)
_OF_PLANE = (metrics.PASSES, metrics.PASS_DURATION, metrics.CALLS, metrics.CALLS_FAILED)


def facts_of(controller: Any) -> dict[str, Any]:
    """What the worker has.

    :param controller: the release's ``RouterController``, ``ProxyController`` or ``ContainerController``.
    :returns: of routers and proxies ``listeners``: TCP ports, or paths, that they listen on; of routers ``realms``:
        name -> number of roles; of proxies ``routes``: names of realms, and ``backends``: connection id -> state; of
        containers ``planes``: what becomes of management realms, and ``problems``: databases that cannot be read.
    """
    if controller.WORKER_TYPE == "router":
        realms = {realm.config["name"]: len(realm.roles) for realm in controller.realms.values()}
        return {"listeners": _listeners(controller), "realms": realms}
    if controller.WORKER_TYPE == "proxy":
        from crossbar_cluster.proxy.pool import pool_of

        backends = {name: backend["state"] for name, backend in pool_of(controller).describe().items()}
        routes = sorted(realm for realm, routes in controller._routes.items() if routes)
        return {"listeners": _listeners(controller), "routes": routes, "backends": backends}
    if controller.WORKER_TYPE == "container":
        return {"planes": list(_planes(controller)), "problems": list(_problems(controller))}
    return {}


def _listeners(controller: Any) -> list[int | str]:
    """A port of 0 stands for any: where the operating system has let the worker listen."""
    listening = (t.port for t in controller.transports.values() if t.port is not None)
    return [getattr(port.getHost(), "port", None) or str(getattr(port.getHost(), "name", "")) for port in listening]


def _management(controller: Any) -> Iterator[Any]:
    """The management controllers that run in a container worker, with a control plane each."""
    sessions = (component.session for component in controller.components.values())
    return (session for session in sessions if getattr(session, "plane", None) is not None)


def _planes(controller: Any) -> Iterator[dict[str, Any]]:
    for session in _management(controller):
        loop = session.plane.loop
        silent_s = session.plane.reactor.seconds() - loop.began_s
        yield {"mrealm": session._realm, "running": loop.running, "silent_s": silent_s}


def _problems(controller: Any) -> Iterator[str]:
    for component in controller.components.values():
        for attribute in ("db", "gdb"):
            if (db := getattr(component.session, attribute, None)) is not None:
                yield from database_problems(component.id, db)


def database_problems(whose: str, db: Any) -> Iterator[str]:
    """What is wrong with a database (zlmdb): it is read from, which takes microseconds."""
    try:
        with db.begin():
            return
    except Exception as e:
        yield f"a database of {whose} cannot be read: {e!r}"


def metrics_of(controller: Any) -> metrics.Collected:
    """All numbers of the worker. :param controller: as for `facts_of`."""
    gauges: list[tuple[Metric, Mapping[Values, float]]] = []
    if controller.WORKER_TYPE == "router":
        gauges.append((metrics.SESSIONS, _sessions(controller)))
        if controller.personality.NAME == MASTER:
            METRICS.begin(*_OF_AUTHENTICATOR)
        else:
            from crossbar_cluster.links.worker import links_of

            METRICS.begin(*_OF_ROUTER)
            gauges.append((metrics.LINKS, links_of(controller).count()))
    elif controller.WORKER_TYPE == "proxy":
        METRICS.begin(*_OF_PROXY)
        gauges += _proxy_gauges(controller)
    elif controller.WORKER_TYPE == "container" and (managing := list(_management(controller))):
        from crossbar_cluster.control.gauges import gauges_of

        METRICS.begin(*_OF_PLANE)
        gauges += gauges_of({session._realm: session.plane for session in managing})
    return METRICS.collect(gauges)


def _sessions(controller: Any) -> dict[Values, float]:
    from crossbar.router.session import RouterSession

    from crossbar_cluster.links.realm import is_local

    found: dict[Values, float] = {}
    for realm in controller.realms.values():
        sessions = realm.router._session_id_to_session.values()
        # The worker has sessions of its own there, which are no RouterSession, or trusted.
        ours = (s for s in sessions if isinstance(s, RouterSession) and is_local(s) and s._authrole != "trusted")
        found[(realm.config["name"],)] = sum(1 for _ in ours)
    return found


def _proxy_gauges(controller: Any) -> Iterator[tuple[Metric, Mapping[Values, float]]]:
    from crossbar_cluster.core.backends import State
    from crossbar_cluster.proxy.pool import pool_of

    backends = pool_of(controller).describe()
    states = Counter(backend["state"] for backend in backends.values())
    yield metrics.BACKENDS, {(state.value,): states[state.value] for state in State}
    yield metrics.BACKEND_CLIENTS, {(name,): backend["clients"] for name, backend in backends.items()}
