"""What a router worker can do beyond the release: describe itself in one call, change roles and principals in place."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from typing import Any

from autobahn.wamp.exception import ApplicationError
from autobahn.wamp.message import Goodbye

from crossbar_cluster.core.digest import digest
from crossbar_cluster.core.metrics import LIMIT_REFUSALS, METRICS
from crossbar_cluster.core.proof import METHOD
from crossbar_cluster.core.rights import AUTH_CHANGED

#: Of this process.
LIFE = secrets.token_hex(8)


def snapshot_of(controller: Any) -> dict[str, Any]:
    """What the worker runs.

    :param controller: the release's ``RouterController``.
    :returns: ``realms``: realm id -> ``name`` and ``roles`` (role id -> digest of its configuration);
        ``transports``: transport id -> TCP port that it listens on, or None; ``access``: transport id -> digest of
        who may connect to it; ``life``: a text that is another one for each start of the worker's process; ``links``:
        see `links.worker.WorkerLinks.describe`; ``by_realm``: it can be told whose clients of which realms may come;
        ``limits_met``: limit -> how often one of a client, or of a realm, was met since the process began.
    """
    from crossbar_cluster.links.worker import links_of

    realms = {
        realm_id: {
            "name": realm.config["name"],
            "roles": {role_id: digest(role.config) for role_id, role in realm.roles.items()},
        }
        for realm_id, realm in controller.realms.items()
    }
    ports = {transport_id: _port(transport) for transport_id, transport in controller.transports.items()}
    access = {t: digest(_access(_method(transport))) for t, transport in controller.transports.items()}
    links = links_of(controller).describe()
    return {
        "life": LIFE,
        "realms": realms,
        "transports": ports,
        "access": access,
        "links": links,
        "by_realm": True,
        "limits_met": METRICS.counted(LIMIT_REFUSALS),
    }


def _access(method: Any) -> list[Any]:
    """Who may connect, link, and bring clients of which realms, as `core.router.DesiredRouter.access_on` has it.

    A master of a version before knows nothing of the last, and has not told it.
    """
    told = [method.get("principals", {}), list(method.get("routers", ()))]
    return [*told, method["realms"]] if "realms" in method else told


def _method(transport: Any) -> Any:
    """How proxies authenticate at a transport of the worker: the very configuration that its sessions look into."""
    return transport.marshal()["config"].get("auth", {}).get(METHOD, {})


def update_role(controller: Any, realm_id: str, role_id: str, config: Mapping[str, Any]) -> None:
    """Give a role of a realm another configuration, for sessions that are there already as well.

    :raises ApplicationError: there is no such realm or role; nothing is changed.
    """
    realm = controller.realms.get(realm_id)
    if realm is None or role_id not in realm.roles:
        message = f'no role with ID "{role_id}" on a realm with ID "{realm_id}"'
        raise ApplicationError("crossbar.error.no_such_object", message)
    realm.roles[role_id].config = config
    controller._router_factory.add_role(realm.config["name"], config)
    realm.router._authorization_cache.clear()


def drop_role(controller: Any, realm_id: str, role: Any) -> None:
    """Take the permissions of a role that has been stopped from the sessions that have it."""
    realm = controller.realms.get(realm_id)
    if realm is not None:
        controller._router_factory.drop_role(realm.config["name"], role["config"]["name"])
        realm.router._authorization_cache.clear()


def end_sessions(controller: Any, realm_id: str, sessions: Iterable[int]) -> None:
    """End sessions of a realm that have been told to leave, as if they had answered: a thief would not.

    Their connections stay, without a session.
    """
    from crossbar.router.session import RouterSession

    router = controller.realms[realm_id].router
    for session in (router._session_id_to_session.get(session_id) for session_id in sessions):
        if isinstance(session, RouterSession):
            session.onMessage(Goodbye())


def update_principals(
    controller: Any,
    transport_id: str,
    principals: Mapping[str, Any],
    routers: Iterable[str] = (),
    realms: Mapping[str, Iterable[str]] | None = None,
) -> None:
    """Let these connect to a transport from now on, and nobody else. Sessions that others have let in are ended.

    :param routers: those of them that may link themselves.
    :param realms: authid -> names of the realms whose clients may come through that node; None: of any realm.
    :raises ApplicationError: there is no such transport, or it has no principals; nothing is changed.
    """
    transport = controller.transports.get(transport_id)
    method = _method(transport) if transport else {}
    if "principals" not in method:
        message = f'no transport with ID "{transport_id}" that takes principals'
        raise ApplicationError("crossbar.error.no_such_object", message)
    # In place: the transport's sessions hold this dict. Nothing runs between the two calls.
    method["principals"].clear()
    method["principals"].update(principals)
    method.setdefault("routers", [])[:] = routers
    method.pop("realms", None)
    if realms is not None:
        method["realms"] = {authid: list(names) for authid, names in realms.items()}
    ended = sum(_end_foreign_sessions(controller.log, realm.router) for realm in controller.realms.values())
    if ended:
        controller.log.warn("{count} sessions of nodes that may not connect any more are ended", count=ended)


def _end_foreign_sessions(log: Any, router: Any) -> int:
    """End the sessions that have come through a node which may not connect any more. :returns: how many.

    Each session knows how it has been let in, and asks the principals of the listener it has come through.
    """
    ended = 0
    for session in list(router._session_id_to_session.values()):
        auth = auth_of(session)
        if auth is not None and not auth.may_connect:
            node = f"node {auth.claim.node}"
            ended += end_or_tell(log, session, f"{node} may not connect any more", f"A session of {node}")
    return ended


def end_realm(router: Any) -> list[int]:
    """End all sessions of clients, and of links, on a realm that is stopped. :returns: their ids.

    The release leaves them where they are, and answers them as if the realm were there and had nobody on it: also when
    another one has taken its place.
    """
    from crossbar.router.session import RouterSession

    sessions = {i: s for i, s in router._session_id_to_session.items() if isinstance(s, RouterSession)}
    for session in sessions.values():
        end_or_tell(router.log, session, f"realm {router.realm} is stopped", f"A session of realm {router.realm}")
    return list(sessions)


def end_or_tell(log: Any, session: Any, why: str, what: str) -> bool:
    """End a session (`_end`); what goes wrong with it is logged, for nothing else is to fail for it.

    :param what: "A session of ...", for people.
    :returns: whether it has ended.
    """
    try:
        _end(session, why)
    except Exception as e:
        log.error("{what} could not be ended: {error!r}", what=what, error=e)
        return False
    return True


def auth_of(session: Any) -> Any:
    """What has let a session in (`node.backend_auth.BackendAuth`); None: it is not one that comes from another node."""
    return getattr(getattr(session, "_pending_auth", None), "_backend_auth", None)


def _end(session: Any, why: str) -> None:
    """Tell a session to leave, as if it had answered, and close its connection. It may have been told before."""
    transport = session._transport
    try:
        if not session._goodbye_sent:
            session.leave(AUTH_CHANGED, why)
        session.onMessage(Goodbye())
    finally:
        if transport is not None and transport.isOpen():
            transport.close()


def _port(transport: Any) -> int | None:
    port = transport.marshal()["config"].get("endpoint", {}).get("port")
    return port if isinstance(port, int) else None
