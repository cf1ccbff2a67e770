"""How a master proves to a node who it is, each time that the node connects to it. Pure.

The node says HELLO with a nonce. The master answers with a CHALLENGE that holds its public key, a nonce of its own, and
its signature of `Login.proof`. What it asks the node to sign is no random number but `Login.challenge`, which the node
computes itself: the node signs nothing else. So a challenge that somebody passes on, say of a router worker, is not
signed (`core.proof` has another domain), and neither is one that is meant for another master.

What this cannot prevent is a relay on the way to the very master that is meant: that takes encryption (``wss://``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from crossbar_cluster.core.master_key import is_key
from crossbar_cluster.core.signed import NONCE_BYTES, SIGNATURE_BYTES, bytes_in, hash_of

#: The part of authextra, in HELLO and CHALLENGE, that the two ends exchange.
PART = "x_cb_uplink"
VERSION = 1
_DOMAIN = b"crossbar-cluster uplink 1"
#: What a node may say of how it knows its master (`knows_in`), at most.
_LONGEST = 40


@dataclass(frozen=True)
class Login:
    """One login of a node at its master, as both ends know it.

    :ivar master: the master's public key (hex).
    :ivar node: the node's.
    :ivar realm: the management realm that the master assigns to the node.
    :ivar node_nonce: `NONCE_BYTES` random bytes of the node, fresh for this login.
    :ivar master_nonce: the same of the master.
    """

    master: str
    node: str
    realm: str
    node_nonce: bytes
    master_nonce: bytes

    @property
    def challenge(self) -> bytes:
        """32 bytes that the node signs."""
        return self._hash(b"signed by the node")

    @property
    def proof(self) -> bytes:
        """32 bytes that the master signs."""
        return self._hash(b"signed by the master")

    def _hash(self, purpose: bytes) -> bytes:
        texts = (text.encode("utf-8") for text in (self.master, self.node, self.realm))
        return hash_of(_DOMAIN, purpose, *texts, self.node_nonce, self.master_nonce)


def hello_part(nonce: bytes, knows: str) -> dict[str, Any]:
    """What a node adds to the authextra of its HELLO, as ``PART``. :param knows: how it knows its master."""
    return {"version": VERSION, "nonce": nonce.hex(), "knows": knows}


def nonce_in(extra: Any) -> bytes | None:
    """The nonce in a HELLO's authextra or a CHALLENGE's extra; None: the other end sent no such part.

    :raises ValueError: it sent one that makes no sense.
    """
    part = _part(extra)
    return None if part is None else bytes_in(part, "nonce", NONCE_BYTES, VERSION, PART)


def knows_in(extra: Any) -> str | None:
    """How a node says that it knows its master, in a HELLO's authextra; None: it does not say."""
    part = _part(extra)
    knows = part.get("knows") if isinstance(part, Mapping) else None
    return knows if isinstance(knows, str) and knows.isprintable() and len(knows) <= _LONGEST else None


def challenge_part(login: Login, signature: bytes) -> dict[str, Any]:
    """What a master adds to the extra of its CHALLENGE, as ``PART``. :param signature: of `Login.proof`."""
    return {
        "version": VERSION,
        "nonce": login.master_nonce.hex(),
        "realm": login.realm,
        "pubkey": login.master,
        "signature": signature.hex(),
    }


def login_in(extra: Any, node: str, node_nonce: bytes) -> tuple[Login, bytes]:
    """The login that a CHALLENGE's ``extra`` is for, and the master's signature of its proof, not verified.

    :param node: the node's public key (hex).
    :raises ValueError: it holds none that makes sense.
    """
    part = _part(extra)
    master, realm = (part.get("pubkey"), part.get("realm")) if isinstance(part, Mapping) else (None, None)
    nonce = bytes_in(part, "nonce", NONCE_BYTES, VERSION, PART)
    signature = bytes_in(part, "signature", SIGNATURE_BYTES, VERSION, PART)
    if not is_key(master) or not isinstance(realm, str):
        raise ValueError(f"{PART} does not say who the master is")
    return Login(str(master), node, realm, node_nonce, nonce), signature


def _part(extra: Any) -> Any:
    return extra.get(PART) if isinstance(extra, Mapping) else None
