"""Pairing by a secret token: what a new node offers with its HELLO, and which names a token is good for.

The token itself never goes over the network. A node sends a code that holds for its own name and key only, so whoever
has heard it can do nothing with it without that key. Who has the token can pair nodes of any name that begins with the
token's prefix, as long as no other key has that name.

A token may end with the master's public key, behind a dot. Then a node that has it knows its master by that. Each end
takes the whole of it for the secret, as do versions that know nothing of keys in tokens.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from crossbar_cluster.core.master_key import is_key

#: A shorter one could be found by trying: the code that it makes is heard on the network.
LEAST_LENGTH = 32
NAME_RULE = "1 to 63 letters, digits, '-' and '_'"
#: Of a key on the wire, hexadecimal.
_KEY_LENGTH = 64
# A node's name is a component of the names of procedures, and of those alone: no dot.
_NAME = re.compile(r"[A-Za-z0-9_-]{1,63}")
_DOMAIN = b"crossbar-cluster pairing 1"


class InvalidToken(ValueError):
    """Something that is no token. The message says why, without a word of what it is."""


class NotEntitled(Exception):
    """A node is not paired by what it offers. The message says why, to whoever has offered it.

    :ivar detail: the same for the master's operator.
    """

    def __init__(self, message: str, detail: str = "") -> None:
        super().__init__(message)
        self.detail = detail or message


def is_name(name: object) -> bool:
    """Whether a node that is paired by a token can have that name (`NAME_RULE`)."""
    return isinstance(name, str) and _NAME.fullmatch(name) is not None


def parse_tokens(text: str) -> tuple[str, ...]:
    """The tokens in a file's text, one a line: several while they are being changed.

    :raises InvalidToken: there is none, or one is not long enough.
    """
    tokens = tuple(line.strip() for line in text.splitlines() if line.strip())
    if not tokens:
        raise InvalidToken("it is empty")
    if any(len(_secret_of(token)) < LEAST_LENGTH for token in tokens):
        raise InvalidToken(f"a token has less than {LEAST_LENGTH} characters")
    return tokens


def with_master_key(secret: str, master: str) -> str:
    """A token by which nodes know their master as well. :param master: its public key (hex)."""
    return f"{secret}.{master}"


def master_keys_of(tokens: Iterable[str]) -> frozenset[str]:
    """The public keys (hex) of masters that these tokens carry."""
    return frozenset(end for token in tokens if is_key(end := token.rpartition(".")[2]) and end != token)


def _secret_of(token: str) -> str:
    secret, _, end = token.rpartition(".")
    return secret if is_key(end) and secret else token


def code_of(token: str, name: str, pubkey: str) -> str:
    """Proves that who made it knows the token, for the node of that name and public key (hex) only. :returns: hex."""
    message = b"\0".join((_DOMAIN, name.encode(), pubkey.lower().encode()))
    return hmac.new(token.encode(), message, hashlib.sha256).hexdigest()


@dataclass(frozen=True)
class Offer:
    """What a node sends."""

    name: str
    code: str

    @property
    def authextra(self) -> dict[str, Any]:
        return {"pairing": {"name": self.name, "code": self.code}}

    @classmethod
    def from_authextra(cls, authextra: Any) -> Offer | None:
        """The offer in the authextra of a HELLO; None: there is none that makes sense."""
        offered = authextra.get("pairing") if isinstance(authextra, Mapping) else None
        if not isinstance(offered, Mapping):
            return None
        name, code = offered.get("name"), offered.get("code")
        if not is_name(name) or not isinstance(code, str) or not code.isascii():
            return None
        return cls(str(name), code)


def entitles(offer: Offer, pubkey: Any, tokens: Mapping[str, Iterable[str]]) -> bool:
    """Whether an offer has been made with a token that is good for its name.

    :param pubkey: the node's (hex), of the same HELLO.
    :param tokens: by the prefix of the names that they are good for.
    """
    if not isinstance(pubkey, str) or len(pubkey) != _KEY_LENGTH:
        return False
    good = (token for prefix, some in tokens.items() if offer.name.startswith(prefix) for token in some)
    return any(hmac.compare_digest(code_of(token, offer.name, pubkey), offer.code) for token in good)
