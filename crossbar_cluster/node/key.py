"""The node's key, as its workers use it: read once for each process."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from nacl.signing import SigningKey

from crossbar_cluster.core.keyfile import parse_tags


@dataclass(frozen=True)
class NodeKey:
    """An Ed25519 key pair."""

    public: str  #: hex
    signing_key: SigningKey

    def sign(self, message: bytes) -> bytes:
        """The signature (64 bytes) of ``message``."""
        return bytes(self.signing_key.sign(message).signature)


@lru_cache(maxsize=1)
def node_key(cbdir: str) -> NodeKey:
    """The key of the node whose directory that is.

    A node never changes its key while it runs: the file is not read again. :raises OSError: it cannot be read.
    :raises KeyError, ValueError: it holds no key.
    """
    private = parse_tags((Path(cbdir) / "key.priv").read_text(encoding="utf-8"))["private-key-ed25519"]
    signing_key = SigningKey(bytes.fromhex(private))
    return NodeKey(signing_key.verify_key.encode().hex(), signing_key)


def public_key(worker: Any) -> str | None:
    """The public key (hex) of the node that a worker belongs to; None: it cannot be read.

    :param worker: the release's ``WorkerController``; None: there is none.
    """
    try:
        return node_key(worker.config.extra.cbdir).public
    except (AttributeError, KeyError, OSError, ValueError):
        return None
