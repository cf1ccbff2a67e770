"""How a router worker lets proxies in, and through them their clients: nobody without a node's proof.

One `BackendAuth` decides about one connection. HELLO: is the node one of those that may connect, and is there what it
asks for on behalf of its client? Then it is challenged, and given this router's own proof (`core.proof`). The client's
identity that it forwards is believed only after its signature has been verified.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from autobahn.wamp.exception import ApplicationError
from autobahn.wamp.types import Accept, Challenge, Deny, TransportDetails
from nacl.exceptions import CryptoError
from nacl.signing import VerifyKey

from crossbar_cluster.core.backends import UNAVAILABLE
from crossbar_cluster.core.limits import SessionLimits
from crossbar_cluster.core.news import Seldom
from crossbar_cluster.core.proof import (
    METHOD,
    NONCE_BYTES,
    PART,
    Connection,
    RouterIdentity,
    challenge_part,
    limits_in,
    linked_worker_in,
    nonce_in,
)
from crossbar_cluster.core.router import RLINK_ROLE, Peer
from crossbar_cluster.node.draining import is_draining
from crossbar_cluster.node.key import node_key
from crossbar_cluster.node.router_worker import LIFE, auth_of
from crossbar_cluster.node.settings import UNPROVEN_PROXIES

#: The role of what runs within a router. Nobody who connects has it.
TRUSTED_ROLE = "trusted"
LIFE_EXTRA = "x_cb_cluster_life"  #: in the authextra of a link's WELCOME
TOLD_EACH_S = 60.0
SIGNED_BYTES = 96  #: a signature of 64 bytes, and the 32 bytes that it is of

_told = Seldom(TOLD_EACH_S)  # of nodes: that they are refused, or let in without a proof


class Denied(Exception):
    """A HELLO that leads nowhere. The message says why. :ivar reason: URI of the ABORT."""

    def __init__(self, message: str, reason: str = ApplicationError.AUTHENTICATION_FAILED) -> None:
        super().__init__(message)
        self.reason = reason

    @property
    def deny(self) -> Deny:
        return Deny(self.reason, str(self))


@dataclass(frozen=True)
class Claim:
    """What a proxy says in its HELLO."""

    node: str  #: authid of the proxy's node
    pubkey: str  #: of that node (hex)
    realm: str
    authid: str  #: of the client, as the next two
    authrole: str
    authextra: Mapping[str, Any] | None
    nonce: bytes | None  #: None: the proxy runs the plain release
    linked_worker: str | None = None  #: of a router that links itself: which of its workers it is; None: a client's
    limits: SessionLimits = field(default_factory=SessionLimits)  #: what the client may have

    @classmethod
    def of(cls, realm: Any, details: Any) -> Claim:
        """Read it. :raises Denied: something is missing, or is not what it should be."""
        extra = details.authextra
        if not isinstance(extra, Mapping):
            raise Denied("a proxy says in authextra whom it connects for; there is none")
        node = _text(details.authid, "authid")
        proxy_realm, authid, authrole, pubkey = (
            _text(extra.get(name), name) for name in ("proxy_realm", "proxy_authid", "proxy_authrole", "pubkey")
        )
        if realm != proxy_realm:
            raise Denied("proxy_realm is another realm than the one that is asked for")
        authextra = _forwarded(extra.get("proxy_authextra"))
        try:
            nonce, limits = nonce_in(extra), limits_in(extra)
        except ValueError as e:
            raise Denied(str(e)) from None
        return cls(node, pubkey, proxy_realm, authid, authrole, authextra, nonce, linked_worker_in(extra), limits)


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str) or not value:
        raise Denied(f"{name} has to be a text, and not empty")
    return value


def _forwarded(authextra: Any) -> dict[str, Any] | None:
    """The client's authextra, in which the proxy says over what the client has come (``transport``).

    The router reads that only after WELCOME, when it is too late to refuse it: what it cannot read leaves half a
    session behind, which nobody is told of. It cannot read a TLS channel's id as the proxy has it: bytes, and not hex.
    """
    if authextra is None:
        return None
    if not isinstance(authextra, dict):
        raise Denied("proxy_authextra is no dictionary")
    if "transport" not in authextra:
        return authextra
    transport = authextra["transport"]
    if isinstance(transport, dict) and isinstance(transport.get("channel_id"), dict):
        channel_id = {k: v.hex() if isinstance(v, bytes) else v for k, v in transport["channel_id"].items()}
        transport = {**transport, "channel_id": channel_id}
    try:
        TransportDetails.parse(transport)
    except (AssertionError, TypeError, ValueError):
        raise Denied("proxy_authextra says of the client's transport what makes no sense") from None
    return {**authextra, "transport": transport}


class BackendAuth:
    """Decides about one connection.

    :param worker: the release's ``RouterController``.
    :param config: of the listener: ``principals`` are the nodes that may connect (authid -> ``authorized_keys``),
        ``routers`` those of them that may link themselves, ``realms`` the realms of which each may bring clients
        (authid -> names; none: of any, as masters of a version before have it). All can change at any time.
    """

    def __init__(self, worker: Any, config: Mapping[str, Any], log: Any) -> None:
        self._worker = worker
        self._config = config
        self._principals: Mapping[str, Any] = config.get("principals", {})
        self._routers: Collection[str] = config.get("routers", ())
        self._log = log
        self.claim: Claim | None = None
        self._verify_key: VerifyKey | None = None
        self._asked = b""

    def hello(self, realm: Any, details: Any) -> Accept | Challenge | Deny:
        """:returns: a CHALLENGE to be answered; or a refusal; or, where proxies need no proof, the client let in."""
        try:
            claim = Claim.of(realm, details)
            self._check(claim)
            self._verify_key = VerifyKey(bytes.fromhex(claim.pubkey))
        except Denied as e:
            return e.deny
        except (ValueError, CryptoError):
            return Denied("pubkey is no Ed25519 key").deny
        self.claim = claim
        if claim.nonce is None:
            return self._without_proof(claim)
        return self._challenge(claim, claim.nonce)

    def _challenge(self, claim: Claim, nonce: bytes) -> Challenge:
        extra, key = self._worker.config.extra, node_key(self._worker.config.extra.cbdir)
        router = RouterIdentity(extra.node, extra.worker, key.public)
        connection = Connection(router, claim.pubkey, nonce, os.urandom(NONCE_BYTES))
        self._asked = connection.challenge
        proof = challenge_part(router, connection.router_nonce, key.sign(connection.proof))
        return Challenge(METHOD, {"challenge": self._asked.hex(), "channel_binding": None, PART: proof})

    def _without_proof(self, claim: Claim) -> Accept | Deny:
        """A proxy of the plain release cannot answer a challenge: it looks for what answers under a wrong name."""
        if UNPROVEN_PROXIES.read(os.environ) == "accept":
            self._tell(claim.node, "is let in without any proof of it, because {variable} says so here")
            return self._accept(claim)
        self._tell(
            claim.node,
            "is refused: it does not prove it. Install crossbar-cluster on that node, or set {variable}=accept here, "
            "and whoever knows a node's public key gets in",
        )
        return Denied(f"node {claim.node} has to prove its key, and the plain release cannot: upgrade this proxy").deny

    def _tell(self, node: str, what: str) -> None:
        if _told.due(node, time.monotonic()):
            self._log.warn(
                f"Whoever connects as proxy node {{node}} {what}", node=node, variable=UNPROVEN_PROXIES.variable
            )

    def authenticate(self, signature: Any) -> Accept | Deny:
        """The answer to the challenge, which can be given once. :param signature: and the challenge again, hex."""
        challenge, self._asked = self._asked, b""
        if self.claim is None or not challenge:
            return Denied("nothing has been asked for").deny
        try:
            signed = bytes.fromhex(signature)
            verified = self._verify_key.verify(signed) if self._verify_key and len(signed) == SIGNED_BYTES else b""
        except (TypeError, ValueError, CryptoError):  # CryptoError: a wrong signature
            verified = b""
        if verified != challenge:
            return Denied(f"that is not the signature of node {self.claim.node}").deny
        return self._accept(self.claim)

    def _accept(self, claim: Claim) -> Accept | Deny:
        """Let the client in, if everything still is as it was at HELLO."""
        try:
            self._check(claim)
        except Denied as e:
            return e.deny
        return Accept(
            realm=claim.realm,
            authid=claim.authid,
            authrole=claim.authrole,
            authmethod=METHOD,
            authprovider="static",
            # a router tells another one in which life it is: it may be told of that by the master as well, later
            authextra=claim.authextra if claim.linked_worker is None else {LIFE_EXTRA: LIFE},
        )

    @property
    def may_connect(self) -> bool:
        """Whether the node that the client has come through still may connect, with the same key."""
        try:
            return self.claim is not None and self._check_node(self.claim)
        except Denied:
            return False

    def _check(self, claim: Claim) -> None:
        self._check_node(claim)
        if not self._worker.has_realm(claim.realm):
            raise Denied(f"there is no realm {claim.realm} on this router worker", ApplicationError.NO_SUCH_REALM)
        is_link = claim.linked_worker is not None
        realms = self._config.get("realms")
        if not is_link and realms is not None and claim.realm not in realms.get(claim.node, ()):
            # "try again": the proxy may have heard of a new realm before this router has
            raise Denied(f"no web cluster of node {claim.node} serves realm {claim.realm}", UNAVAILABLE)
        if is_link != (claim.authrole == RLINK_ROLE) or (is_link and claim.nonce is None):
            why = f"role {RLINK_ROLE} is that of routers that link themselves, and prove who they are"
            raise Denied(why, ApplicationError.NO_SUCH_ROLE)
        if claim.authrole == TRUSTED_ROLE or not self._worker.has_role(claim.realm, claim.authrole):
            raise Denied(f"realm {claim.realm} has no role {claim.authrole}", ApplicationError.NO_SUCH_ROLE)
        if not is_link and is_draining(self._worker):
            raise Denied("this router is about to end: try another one", UNAVAILABLE)
        awaited = None if is_link else self._worker._router_factory.get(claim.realm).links.awaited()
        if awaited:
            raise Denied(f"this router is about to be linked with {awaited}: try again", UNAVAILABLE)

    def _check_node(self, claim: Claim) -> bool:
        principal = self._principals.get(claim.node)
        if principal is None:
            raise Denied(f"no node {claim.node} may connect to this router worker")
        if claim.pubkey not in principal["authorized_keys"]:
            raise Denied(f"node {claim.node} has another key")
        if claim.linked_worker is not None and claim.node not in self._routers:
            raise Denied(f"node {claim.node} has no router that may be linked with this one")
        return True


def client_of(session: Any) -> Claim | None:
    """What a proxy has said of the client whose session of a router it is; None: it is no client's."""
    claim = _claim_of(session)
    return claim if claim is not None and claim.linked_worker is None else None


def clients_of(worker: Any) -> Iterator[tuple[Any, Claim]]:
    """The sessions of clients on a router worker, and what their proxies have said of them.

    :param worker: the release's ``RouterController``.
    """
    for realm in worker.realms.values():
        for session in list(realm.router._session_id_to_session.values()):
            if (claim := client_of(session)) is not None:
                yield session, claim


def guests_of(worker: Any) -> list[Peer]:
    """The nodes through which clients of a router worker have come.

    :param worker: the release's ``RouterController``.
    """
    return sorted({(claim.node, claim.pubkey) for _, claim in clients_of(worker)})


def _claim_of(session: Any) -> Claim | None:
    auth: BackendAuth | None = auth_of(session)
    return auth.claim if auth is not None else None


def linked_worker_of(session: Any) -> tuple[str, str] | None:
    """Node and worker of the router whose link a router's session is; None: it is that of a client."""
    claim = _claim_of(session)
    return (claim.node, claim.linked_worker) if claim is not None and claim.linked_worker is not None else None
