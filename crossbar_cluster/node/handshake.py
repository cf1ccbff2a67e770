"""What a proxy says and demands before a session of it on a router worker is joined.

The proxy proves its node's key, and takes the router worker for nobody but the one it was sent to (`core.proof`). Owns
no connection: `backend_session` and `service` have those, and ask here.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey

from crossbar_cluster.core.limits import SessionLimits
from crossbar_cluster.core.proof import (
    METHOD,
    NONCE_BYTES,
    PART,
    Connection,
    RouterIdentity,
    hello_part,
    nonce_in,
    router_in,
    signature_in,
)
from crossbar_cluster.node.key import NodeKey


class NotJoined(Exception):
    """A session did not come about. The message says why."""


class Unreachable(NotJoined):
    """The router worker does not answer where it is said to be."""


class WrongRouter(NotJoined):
    """Somebody else answers there, or somebody who does not prove to be the router worker that is meant."""


class Refused(NotJoined):
    """The router worker answers with an ABORT.

    :ivar reason: its URI.
    :ivar explanation: its message.
    """

    def __init__(self, reason: str, explanation: str | None) -> None:
        super().__init__(f"{reason}: {explanation}" if explanation else reason)
        self.reason = reason
        self.explanation = explanation


@dataclass(frozen=True)
class ProxyNode:
    """The node of this proxy worker, and the key that it has to show for it."""

    authid: str
    key: NodeKey


@dataclass(frozen=True)
class Principal:
    """Whom a session is for, as the proxy has authenticated it."""

    realm: str
    authid: str | None
    authrole: str | None
    authmethod: str | None = None
    authprovider: str | None = None
    authextra: Mapping[str, Any] | None = None
    limits: SessionLimits | None = None  #: what it may have on the router; None: the defaults


@dataclass
class Handshake:
    """One handshake.

    :ivar router: who is meant and has to prove it; None: a router worker that cannot, of the plain release or none that
        the master has told of.
    :ivar name: node and worker, as the router has to call itself; None: any.
    """

    proxy: ProxyNode
    principal: Principal
    router: RouterIdentity | None
    name: tuple[str, str] | None
    linked_worker: str | None = None  #: the worker of this node that is linked; None: it is a client's session
    proven: bool = False  #: the router has shown who it is
    nonce: bytes = field(default_factory=lambda: os.urandom(NONCE_BYTES))

    @property
    def authextra(self) -> dict[str, Any]:
        """Of the HELLO."""
        principal = self.principal
        return {
            "pubkey": self.proxy.key.public,
            PART: hello_part(self.nonce, self.linked_worker, principal.limits),
            "proxy_realm": principal.realm,
            "proxy_authid": principal.authid,
            "proxy_authrole": principal.authrole,
            "proxy_authmethod": principal.authmethod,
            "proxy_authprovider": principal.authprovider,
            "proxy_authextra": principal.authextra,
        }

    def answer(self, method: str, extra: Any) -> str:
        """The signature that answers a CHALLENGE. :raises WrongRouter: it is not the meant router's."""
        try:
            if method != METHOD:
                raise ValueError(f"it asks for {method!r}")
            self._verify(bytes.fromhex(extra["challenge"]), extra)
        except (KeyError, TypeError, ValueError, BadSignatureError) as e:
            raise WrongRouter(f"whoever answers does not prove to be {self._meant} ({e})") from None
        asked = bytes.fromhex(extra["challenge"])
        return (self.proxy.key.sign(asked) + asked).hex()

    def _verify(self, asked: bytes, extra: Any) -> None:
        nonce = nonce_in(extra)
        if nonce is None:
            raise ValueError("there is no proof")
        if self.router is None and self.name is not None:
            raise ValueError("the plain release asks for nothing")
        router = self.router or router_in(extra)
        connection = Connection(router, self.proxy.key.public, self.nonce, nonce)
        VerifyKey(bytes.fromhex(router.pubkey)).verify(connection.proof, signature_in(extra))
        if asked != connection.challenge:
            raise ValueError("its challenge is for another connection")
        self.proven = True

    def check_welcome(self, authextra: Any) -> None:
        """:raises WrongRouter: a WELCOME comes from somebody else than the router that is meant."""
        if self.router is not None and not self.proven:
            raise WrongRouter(f"whoever answers lets clients in without having proven to be {self._meant}")
        said = authextra if isinstance(authextra, Mapping) else {}
        name = (said.get("x_cb_node"), said.get("x_cb_worker"))
        if self.name is not None and name != self.name:
            raise WrongRouter(f"whoever answers calls itself {name[0]} {name[1]}, and not {self._meant}")

    @property
    def _meant(self) -> str:
        return " ".join(self.name) if self.name else "a router worker"
