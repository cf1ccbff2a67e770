"""How a proxy and a router worker prove to each other who they are, on every connection between them. Pure.

Both ends hold an Ed25519 key, their node's. The proxy says HELLO with a nonce of its own; the router answers with a
CHALLENGE; the proxy signs that challenge, as WAMP-cryptosign has it. Two things are added:

- The challenge is no plain random number but a hash over who is to be connected with whom, and over a nonce of each
  side (`Connection.challenge`). The proxy computes it for the router worker that it *means*. A challenge that somebody
  relays from another router worker is another hash, and is not signed.
- The router signs a hash over the same (`Connection.proof`) with its node's key. A proxy that was sent to an address
  where somebody else listens by now gets no such signature, and attaches no client.

Where a proxy does not know whom to expect (its connection is of a configuration that no master has made), it signs such
a hash all the same, over who the router says it is, and no other challenge: what it signs is good for nothing else,
such as a session of its node on the master.

Nonces are fresh for each connection, so nothing that was recorded is of use again. What this cannot prevent is a relay
on the way to the very worker that is meant: that takes encryption of the network.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from crossbar_cluster.core.limits import SessionLimits

#: The authentication method of proxies at router workers.
METHOD = "cryptosign-proxy"
#: The part of authextra, in HELLO and CHALLENGE, that the two ends exchange.
PART = "x_cb_cluster"
VERSION = 1
NONCE_BYTES = 32
SIGNATURE_BYTES = 64
_DOMAIN = b"crossbar-cluster backend connection 1"


@dataclass(frozen=True)
class RouterIdentity:
    """Who a proxy means: a router worker, by its node's authid and public key (hex), and its own id."""

    node: str
    worker: str
    pubkey: str


@dataclass(frozen=True)
class Connection:
    """One connection of a proxy to a router worker, as both ends know it.

    :ivar proxy_pubkey: of the proxy's node (hex).
    :ivar proxy_nonce: `NONCE_BYTES` random bytes of the proxy, fresh for this connection.
    :ivar router_nonce: the same of the router.
    """

    router: RouterIdentity
    proxy_pubkey: str
    proxy_nonce: bytes
    router_nonce: bytes

    @property
    def challenge(self) -> bytes:
        """32 bytes that the proxy signs."""
        return self._hash(b"signed by the proxy")

    @property
    def proof(self) -> bytes:
        """32 bytes that the router signs."""
        return self._hash(b"signed by the router")

    def _hash(self, purpose: bytes) -> bytes:
        texts = (self.router.node, self.router.worker, self.router.pubkey, self.proxy_pubkey)
        fields = (_DOMAIN, purpose, *(text.encode("utf-8") for text in texts), self.proxy_nonce, self.router_nonce)
        digest = hashlib.sha256()
        for field in fields:  # each with its length in front: no two lists of fields make the same bytes
            digest.update(len(field).to_bytes(4, "big") + field)
        return digest.digest()


def hello_part(nonce: bytes, linked_worker: str | None = None, limits: SessionLimits | None = None) -> dict[str, Any]:
    """What a proxy adds to the authextra of its HELLO, as ``PART``.

    :param linked_worker: of a router that links itself with another one instead: id of its worker.
    :param limits: of the client that the session is for; None: it is for none, or has the defaults.
    """
    part: dict[str, Any] = {"version": VERSION, "nonce": nonce.hex()}
    if linked_worker is not None:
        part["linked_worker"] = linked_worker
    if limits is not None:
        part["limits"] = limits.to_wire()
    return part


def challenge_part(router: RouterIdentity, nonce: bytes, signature: bytes) -> dict[str, Any]:
    """What a router adds to the extra of its CHALLENGE, as ``PART``. :param signature: of `Connection.proof`."""
    return {"version": VERSION, "nonce": nonce.hex(), "signature": signature.hex(), "router": asdict(router)}


def nonce_in(extra: Any) -> bytes | None:
    """The nonce that the other end sent in ``extra`` (a HELLO's authextra, or a CHALLENGE's extra).

    :returns: None when it sent no such part: it runs the plain release.
    :raises ValueError: it sent one that makes no sense.
    """
    part = _part(extra)
    return None if part is None else _bytes_in(part, "nonce", NONCE_BYTES)


def linked_worker_in(extra: Any) -> str | None:
    """The worker that a router says it links, in a HELLO's authextra; None: it is no such HELLO."""
    part = _part(extra)
    worker = part.get("linked_worker") if isinstance(part, Mapping) else None
    return worker if isinstance(worker, str) and worker else None


def limits_in(extra: Any) -> SessionLimits:
    """What the client of a session may have, in a HELLO's authextra; what is not said is the default.

    :raises InvalidLimit: it says what is no limit.
    """
    part = _part(extra)
    return SessionLimits.from_wire(part.get("limits") if isinstance(part, Mapping) else None)


def signature_in(extra: Any) -> bytes:
    """The router's signature in a CHALLENGE's ``extra``. :raises ValueError: there is none that makes sense."""
    return _bytes_in(_part(extra), "signature", SIGNATURE_BYTES)


def router_in(extra: Any) -> RouterIdentity:
    """Who the router says it is, in a CHALLENGE's ``extra``. :raises ValueError: it does not."""
    part = _part(extra)
    said = part.get("router") if isinstance(part, Mapping) else None
    texts = [said.get(name) for name in ("node", "worker", "pubkey")] if isinstance(said, Mapping) else []
    match texts:
        case [str(node), str(worker), str(pubkey)]:
            return RouterIdentity(node, worker, pubkey)
    raise ValueError(f"{PART} does not say who the router is")


def _part(extra: Any) -> Any:
    return extra.get(PART) if isinstance(extra, Mapping) else None


def _bytes_in(part: Any, name: str, length: int) -> bytes:
    value = part.get(name) if isinstance(part, Mapping) and part.get("version") == VERSION else None
    decoded = bytes.fromhex(value) if isinstance(value, str) and len(value) == 2 * length else b""
    if len(decoded) != length:  # `fromhex` passes over spaces
        raise ValueError(f"{PART} holds no {name} of {length} bytes")
    return decoded
