"""Starts the watch for keys of new nodes (`watched_keys`), as the master's configuration and environment have it.

The configuration is the release's, ``auto_default_mrealm`` of the domain controller.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from autobahn.wamp.types import PublishOptions
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall

from crossbar_cluster.control.watched_keys import LOOK_EVERY_S, Watched, WatchedKeys
from crossbar_cluster.node.key import public_key

_PAIRED = "crossbarfabriccenter.mrealm.on_node_paired"


def watch(domain: Any, configured: Mapping[str, Any]) -> LoopingCall | None:
    """Begin to look for keys. :returns: what does; None: nothing is to be watched, or cannot be, which is logged.

    :param domain: the release's ``DomainController``, joined.
    :param configured: ``auto_default_mrealm`` of its configuration.
    """
    watched = _watched(domain, configured)
    if watched is None:
        return None
    from crossbar.common.key import _write_node_key

    async def publish(paired: Any) -> Any:
        return await domain.publish(_PAIRED, paired, options=PublishOptions(acknowledge=True))

    keys = WatchedKeys(watched, domain.db, domain.schema, publish, _write_node_key, domain.log)
    looking = LoopingCall(lambda: Deferred.fromCoroutine(keys.look()))
    looking.start(LOOK_EVERY_S).addErrback(lambda failure: domain.log.failure("{log_failure}", failure=failure))
    domain.log.info("Nodes that show their key below {directory} are paired", directory=str(watched.directory))
    return looking


def _watched(domain: Any, configured: Mapping[str, Any]) -> Watched | None:
    directory = _from_environment(configured, "watch_to_pair")
    if not configured.get("enabled") or not directory:
        return None
    if not Path(directory).is_dir():
        domain.log.warn("No node is paired by directory: {directory} is none", directory=directory)
        return None
    writes = configured.get("write_pairing_file")
    return Watched(
        directory=Path(directory),
        pattern=configured.get("watch_to_pair_pattern"),
        mrealm_oid=domain._default_mrealm_oid,
        owner_oid=domain._superuser_oid,
        management_url=_from_environment(configured, "management_url") or DEFAULT_URL if writes else None,
        master_key=public_key(domain.config.controller),
    )


#: What the release writes down where nothing is configured.
DEFAULT_URL = "wss://master.xbr.network/ws"


def _from_environment(configured: Mapping[str, Any], name: str) -> str | None:
    from crossbar.common.checkconfig import maybe_from_env

    value: str | None = maybe_from_env(f"auto_default_mrealm.{name}", configured.get(name), hide_value=False)
    return value.strip() if value and value.strip() else None
