"""The node's controller signs with the node's key for the node's own workers, and says so when others ask.

Who holds a signature of a node's key can be that node, wherever the key is known: on the master, on router workers.
"""

from __future__ import annotations

from typing import Any

from autobahn.wamp.exception import ApplicationError

from crossbar_cluster.core.rights import signs_for


def is_own_worker(controller: Any, details: Any) -> bool:
    """Whether a call is one of a worker of this node.

    :param controller: the release's ``NodeController``.
    :param details: of the call, with its caller disclosed.
    """
    return signs_for(details.caller_authrole, frozenset(controller._workers))


def refuse_strangers(controller: Any, what: str, details: Any) -> None:
    """Let only a session of one of the node's own workers pass.

    :param controller: the release's ``NodeController``.
    :param what: what is asked for, for the log.
    :param details: of the call, with its caller disclosed.
    :raises ApplicationError: ``wamp.error.not_authorized``.
    """
    if is_own_worker(controller, details):
        return
    controller.log.warn(
        "Refused to {what} with this node's key for {authid} (role {authrole}, session {session}): only this node's "
        "own workers may have that",
        what=what,
        authid=details.caller_authid,
        authrole=details.caller_authrole,
        session=details.caller,
    )
    raise ApplicationError(ApplicationError.NOT_AUTHORIZED, "a node signs for its own workers only")
