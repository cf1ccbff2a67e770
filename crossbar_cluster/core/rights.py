"""What a node may do on its management realm: speak in its own name, and ask the master how it is.

The release lets every node do everything there, so that whoever holds the key of one commands all of them. What nodes
really do, patched and released, is listed here and nothing else. It is decided by the authid of the session, which the
node has proven.

Names end with a dot, so that node ``a`` has no part in node ``ab``. It has in ``a.b``: give no node a name that
begins with another one's and a dot.
"""

from __future__ import annotations

from typing import Literal

Action = Literal["call", "register", "publish", "subscribe"]

OF_NODES = "crossbarfabriccenter.node."
#: The events that nodes publish under one name, with their own in the payload; the master compares it with the authid.
HEARTBEATS = frozenset({f"{OF_NODES}on_heartbeat", f"{OF_NODES}on_worker_heartbeat"})
#: A node publishes each line that its workers log.
LOG_LINE = ".on_log"
#: A node tests its uplink with it.
MASTER_STATUS = "crossbarfabriccenter.mrealm.get_status"

#: ABORT of a node that is not paired, and GOODBYE of one that is not any more, as the released master has them.
UNPAIRED = "fabric.auth-failed.node-unpaired"
AUTH_CHANGED = "wamp.close.auth-changed"

#: What a node's controller signs with the node's key: for its own workers, never for anybody on the management realm.
SIGNING = frozenset({"sign", "sign_challenge"})
WORKER_ROLE = "crossbar.worker."


def node_may(authid: str | None, action: Action, uri: str) -> bool:
    """Whether a node may do that. Patterns (prefix, wildcard) are judged by the URI that is their beginning."""
    if not authid:
        return False
    if uri.startswith(f"{OF_NODES}{authid}."):
        return True
    return (action == "publish" and uri in HEARTBEATS) or (action == "call" and uri == MASTER_STATUS)


def kind_of(action: Action, uri: str) -> str:
    """What a node does when it does that, as its master counts it (`control.intake.ROUTED`)."""
    if action == "publish":
        return "heartbeats" if uri in HEARTBEATS else "log lines" if uri.endswith(LOG_LINE) else "events"
    return "calls" if action == "call" else "registrations"


def signs_for(authrole: str | None, workers: frozenset[str]) -> bool:
    """Whether a node signs for a session of its own router that has this role.

    :param workers: ids of the node's workers: each has a role of its own, which nobody else can get.
    """
    return authrole is not None and authrole.startswith(WORKER_ROLE) and authrole[len(WORKER_ROLE) :] in workers
