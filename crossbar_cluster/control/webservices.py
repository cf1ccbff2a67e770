"""Web services of web clusters that run.

Starts with a call of a user of the management realm, and ends when the database says what was asked for and the event
is out: proxies are told by their reconcilers. ``manager`` is the release's ``WebClusterManager``.
"""

from __future__ import annotations

import time
from typing import Any
from uuid import UUID, uuid4

from autobahn.wamp.exception import ApplicationError
from cfxdb.mrealm import WebService

from crossbar_cluster.control.configuration import ACTIVE
from crossbar_cluster.control.routerclusters import parse_oid, refuse_strangers

Json = dict[str, Any]


def runs(manager: Any, webcluster_oid: str) -> bool:
    """Whether that web cluster is there and running, or about to."""
    with manager.db.begin() as txn:
        cluster = manager.schema.webclusters[txn, parse_oid(webcluster_oid, "webcluster_oid")]
    return cluster is not None and cluster.status in ACTIVE


async def add_service(manager: Any, webcluster_oid: str, path: str, config: Json, details: Any) -> Json:
    """Add a web service while its web cluster runs.

    :raises ApplicationError: ``wamp.error.invalid_argument``, ``wamp.error.not_authorized``,
        ``crossbar.error.already_exists``: the path has one, which has to be removed first.
    """
    oid = parse_oid(webcluster_oid, "webcluster_oid")
    service = _checked(manager, oid, path, config)
    with manager.db.begin(write=True) as txn:
        cluster = manager.schema.webclusters[txn, oid]
        refuse_strangers(manager, cluster, details)
        if manager.schema.idx_webservices_by_path[txn, (oid, path)]:
            raise ApplicationError(
                "crossbar.error.already_exists",
                f"the web cluster has a web service at {path!r} already: remove it first",
            )
        manager.schema.webservices[txn, service.oid] = service
        cluster.changed = time.time_ns()
        manager.schema.webclusters[txn, oid] = cluster
    added: Json = service.marshal()
    await manager._session.publish(f"{manager._prefix}.on_webservice_added", added, options=manager._PUBOPTS)
    return added


def _checked(manager: Any, webcluster_oid: UUID, path: str, config: Json) -> Any:
    """The record of a web service. The release's own checks say what is wrong with its configuration."""
    config = {key: value for key, value in config.items() if key != "path"}
    kind = config.get("type")
    check = manager._WEB_SERVICE_CHECKERS.get(kind)
    if check is None:
        raise _invalid(f"{kind!r} is no type of web services")
    try:
        check(manager._worker.personality, config)
        service = WebService.parse(config)
    except Exception as error:  # the checks raise what they like
        raise _invalid(str(error)) from error
    service.oid, service.path, service.webcluster_oid = uuid4(), path, webcluster_oid
    return service


def _invalid(why: str) -> ApplicationError:
    return ApplicationError("wamp.error.invalid_argument", f"the web service's configuration is not valid: {why}")
