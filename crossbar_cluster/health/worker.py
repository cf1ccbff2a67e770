"""A worker as it describes itself to its node's controller: what its health is judged by, and its numbers.

Runs in each worker, triggered by calls of the controller. What is to be made of the facts is `core.health`'s to say.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from crossbar_cluster.core import metrics
from crossbar_cluster.core.metrics import METRICS, Metric, Values
from crossbar_cluster.node.descriptors import limit, shortage, used
from crossbar_cluster.node.draining import is_draining

MASTER = "master"

_OF_ROUTER = (
    metrics.LINK_LOSSES,
    metrics.LINK_DISAGREEMENTS,
    metrics.LIMIT_REFUSALS,
    metrics.PROTOCOL_VIOLATIONS,
    metrics.UNREAD_ENDED,
)
_OF_PORTS = (metrics.NEWCOMERS_CLOSED, metrics.CONNECTIONS_REFUSED)
_OF_PROXY = (metrics.JOINS, metrics.JOIN_DURATION, metrics.SESSIONS_LOST, metrics.LIMITS_MET)
_OF_AUTHENTICATOR = (metrics.ADDRESS_CHANGES, metrics.CLAIMS_REJECTED, metrics.DROPPED_OF_NODES)
_OF_PLANE = (metrics.PASSES, metrics.PASS_DURATION, metrics.CALLS, metrics.CALLS_FAILED, metrics.DROPPED_OF_NODES)


def facts_of(controller: Any) -> dict[str, Any]:
    """What the worker has.

    :param controller: the release's ``RouterController``, ``ProxyController`` or ``ContainerController``.
    :returns: of routers and proxies ``listeners``: TCP ports, or names of sockets, that they listen on, whether they
        are ``draining``, and ``troubles``: what they lack themselves, for people; of routers ``realms``: name -> number
        of roles; of proxies ``routes``: names of realms, and ``backends``: connection id -> state; of containers
        ``planes``: what becomes of management realms, ``problems``: databases that cannot be read, and ``warnings``:
        those that are full, or soon will be. A master goes on without writing: nodes are to reach it all the same.
    """
    if controller.WORKER_TYPE == "router":
        realms = {realm.config["name"]: len(realm.roles) for realm in controller.realms.values()}
        return {**_listening(controller), "realms": realms, "troubles": shortage()}
    if controller.WORKER_TYPE == "proxy":
        from crossbar_cluster.proxy.pool import pool_of

        backends = {name: backend["state"] for name, backend in pool_of(controller).describe().items()}
        routes = sorted(realm for realm, routes in controller._routes.items() if routes)
        troubles = pool_of(controller).troubles()
        return {**_listening(controller), "routes": routes, "backends": backends, "troubles": troubles}
    if controller.WORKER_TYPE == "container":
        problems = list(_problems(controller))
        return {"planes": list(_planes(controller)), "problems": problems, "warnings": list(_warnings(controller))}
    return {}


def _listening(controller: Any) -> dict[str, Any]:
    """Where the operating system has let the worker listen: a port of 0 in a configuration stands for any."""
    ports = (transport.port for transport in controller.transports.values())
    # a worker that is draining keeps transports whose port it has closed: those do not know where they were
    at = [port.getHost() for port in ports if port is not None and port.connected and not port.disconnecting]
    listeners = [host.port if hasattr(host, "port") else os.path.basename(os.fsdecode(host.name)) for host in at]
    return {"listeners": listeners, "draining": is_draining(controller)}


def _sessions_of(controller: Any) -> Iterator[tuple[str, Any]]:
    """The components of a container worker: id and session. (The release's own attribute for it is never set.)"""
    for component in controller.components.values():
        if (session := getattr(component.proto, "_session", None)) is not None:
            yield component.id, session


def _control_planes(controller: Any) -> dict[str, Any]:
    """Those that run in a container worker, by the management realms, which is what the components are named after."""
    planes = {name: getattr(session, "plane", None) for name, session in _sessions_of(controller)}
    return {name: plane for name, plane in planes.items() if plane is not None}


def _planes(controller: Any) -> Iterator[dict[str, Any]]:
    for mrealm, plane in _control_planes(controller).items():
        silent_s = plane.reactor.seconds() - plane.loop.began_s
        yield {"mrealm": mrealm, "running": plane.loop.running, "silent_s": round(silent_s, 1)}


def _problems(controller: Any) -> Iterator[str]:
    for component_id, session in _sessions_of(controller):
        for attribute in ("db", "gdb"):
            if (db := getattr(session, attribute, None)) is not None:
                yield from database_problems(component_id, db)


def _warnings(controller: Any) -> Iterator[str]:
    for plane in _control_planes(controller).values():
        from crossbar_cluster.control.databases import warnings_of

        yield from warnings_of(plane.databases)


def database_problems(whose: str, db: Any) -> Iterator[str]:
    """What is wrong with a database (zlmdb): it is read from, which takes microseconds."""
    try:
        with db.begin():
            return
    except Exception as e:
        yield f"a database of {whose} cannot be read: {e!r}"


def process_gauges() -> list[tuple[Metric, Mapping[Values, float]]]:
    """What every process has, node controllers included."""
    METRICS.begin(metrics.OWN_TROUBLES)
    return [(metrics.DESCRIPTORS, {(): used()}), (metrics.DESCRIPTORS_LIMIT, {(): limit()})]


def metrics_of(controller: Any) -> metrics.Collected:
    """All numbers of the worker. :param controller: as for `facts_of`."""
    gauges = process_gauges()
    if controller.WORKER_TYPE in ("router", "proxy"):
        METRICS.begin(*_OF_PORTS)
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
    elif controller.WORKER_TYPE == "container" and (planes := _control_planes(controller)):
        from crossbar_cluster.control.gauges import gauges_of

        METRICS.begin(*_OF_PLANE)
        gauges += gauges_of(planes)
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
