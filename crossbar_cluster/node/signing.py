"""The node's controller signs with the node's key for the node's own workers, and says so when others ask.

Who holds a signature of a node's key can be that node, wherever the key is known: on the master, on router workers. So
workers get no signature that could be one of those by which a node proves its key: a client may ask its worker for it.
"""

from __future__ import annotations

from typing import Any, NoReturn

from autobahn.wamp.exception import ApplicationError

from crossbar_cluster.core.rights import WORKER_ROLE, answers_challenge, may_be_signed, signs_for


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


def refuse_proofs(controller: Any, data: Any, details: Any) -> None:
    """Let only data pass that cannot be mistaken for a proof of the node's key. :raises ApplicationError:"""
    if not may_be_signed(data):
        _refuse(controller, "32 bytes of somebody's choice", details)


def refuse_other_challenges(controller: Any, method: Any, details: Any) -> None:
    """Let only a challenge pass that the release's workers have to answer. :raises ApplicationError:"""
    worker = str(details.caller_authrole).removeprefix(WORKER_ROLE)
    if not answers_challenge(method, controller._workers[worker].TYPE):
        _refuse(controller, f"a challenge of method {str(method)[:40]!r}", details)


def _refuse(controller: Any, what: str, details: Any) -> NoReturn:
    controller.log.warn(
        "Refused to sign {what} with this node's key for its worker {worker}: that could prove the key elsewhere. No "
        "worker needs it: a client of it may have asked (authextra.challenge), and is not let in.",
        what=what,
        worker=details.caller_authrole,
    )
    raise ApplicationError(ApplicationError.NOT_AUTHORIZED, "a node signs nothing that could prove its key elsewhere")
