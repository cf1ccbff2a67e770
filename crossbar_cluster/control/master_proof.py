"""A master proves its key to each node that logs in, with the challenge that the node has to answer anyway.

Triggered between a node's HELLO and the CHALLENGE; its work ends with that. In each router worker of the master that
takes nodes. A node of the plain release, or of a version before, does not ask for it and gets the release's challenge.
"""

from __future__ import annotations

import os
from typing import Any

from nacl.encoding import HexEncoder

from crossbar_cluster.control.authentication import NODE_ROLE
from crossbar_cluster.core.signed import NONCE_BYTES
from crossbar_cluster.core.uplink_proof import PART, Login, challenge_part, nonce_in
from crossbar_cluster.node.key import node_key


def proof_in_challenge(pending: Any, extra: dict[str, Any]) -> dict[str, Any]:
    """What becomes of the extra of a CHALLENGE that the release has made.

    :param pending: the release's ``PendingAuthCryptosign``, which knows by now who says HELLO. Not touched unless a
        node asks for the master's proof: then it expects the signature of another challenge.
    """
    if pending._authrole != NODE_ROLE or not hasattr(pending._authenticator_session, "node_proven"):
        return extra
    try:
        nonce = nonce_in(pending._session_details.get("authextra"))
    except ValueError:  # no node of ours; it may do with the release's challenge what it can
        nonce = None
    if nonce is None:
        return extra
    key = node_key(pending._realm_container.config.extra.cbdir)
    node = pending._verify_key.encode(encoder=HexEncoder).decode("ascii")
    login = Login(key.public, node, pending._realm, nonce, os.urandom(NONCE_BYTES))
    _expect(pending, login.challenge)
    return {**extra, "challenge": login.challenge.hex(), PART: challenge_part(login, key.sign(login.proof))}


def _expect(pending: Any, challenge: bytes) -> None:
    """Have ``challenge`` signed in place of the release's; its binding to a TLS channel, if any, stays."""
    binding = _xor(pending._challenge, pending._expected_signed_message)
    pending._challenge, pending._expected_signed_message = challenge, _xor(challenge, binding)


def _xor(one: bytes, other: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(one, other, strict=True))
