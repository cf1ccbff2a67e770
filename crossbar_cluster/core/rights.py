"""What a node may do on its management realm: speak in its own name, and ask the master how it is.

The release lets every node do everything there, so that whoever holds the key of one commands all of them. What nodes
really do, patched and released, is listed here and nothing else. It is decided by the authid of the session, which the
node has proven.

Names end with a dot, so that node ``a`` has no part in node ``ab``. It has in ``a.b``: no two nodes have such names
(`names_overlap`).
"""

from __future__ import annotations

import re
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
#: The released node ends for good when it is told that. No master says so: nobody else is to end a node with it either.
ALREADY_CONNECTED = "fabric.auth-failed.node-already-connected"
AUTH_CHANGED = "wamp.close.auth-changed"

#: What a node's controller signs with the node's key: for its own workers, never for anybody on the management realm.
SIGNING = frozenset({"sign", "sign_challenge"})
WORKER_ROLE = "crossbar.worker."


# What can be a part of the name of a procedure: components without spaces and '#', between dots.
_NODE_NAME = re.compile(r"[^\s.#]+(\.[^\s.#]+)*")


def is_node_name(name: str) -> bool:
    """Whether a node can have that name. (One that is paired by a token has no dots besides.)"""
    return len(name) <= 253 and name.isprintable() and _NODE_NAME.fullmatch(name) is not None


def names_overlap(one: str, other: str) -> bool:
    """Whether a node of one name could do something in the name of the other."""
    return f"{one}.".startswith(f"{other}.") or f"{other}.".startswith(f"{one}.")


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


#: As long as what nodes prove their keys by: hashes, and challenges of masters of the plain release.
_PROOF_BYTES = 32


def may_be_signed(data: object) -> bool:
    """Whether a node signs that for a worker of its own, which may have it from a client.

    Whatever is as long as a proof can be one: of the node, to a router worker or to its master.
    """
    return isinstance(data, bytes) and len(data) != _PROOF_BYTES


def answers_challenge(method: object, worker_type: str) -> bool:
    """Whether a node answers a challenge for a worker of its own of that type.

    Router workers need it for links to routers elsewhere that their configuration has, container workers for components
    that log in somewhere as their node. Proxy workers have no use for it: they prove the node's key themselves
    (`core.proof`), and are those that anybody talks to.
    """
    return method == "cryptosign" and worker_type in ("router", "container")
