"""A master's public key as people and files write it. Pure."""

from __future__ import annotations

import re

from crossbar_cluster.core.keyfile import parse_tags

#: Of a node's key file, and of an activation file, where the key of the master has a name of its own.
KEY_TAG = "public-key-ed25519"
MASTER_TAG = "master-public-key-ed25519"
_KEY = re.compile(r"[0-9a-f]{64}")


def is_key(value: object) -> bool:
    """Whether that is a public key: 64 lower-case hexadecimal digits."""
    return isinstance(value, str) and _KEY.fullmatch(value) is not None


def keys_in(text: str) -> frozenset[str]:
    """The keys in a file's text (that of a ``key.pub``, or one a line) or in a variable's (between spaces or commas).

    Several, while a key is being changed. :raises ValueError: there is none, or something that is none.
    """
    tagged = parse_tags(text).get(KEY_TAG)
    words = [tagged] if tagged is not None else text.replace(",", " ").split()
    keys = frozenset(word.strip().lower().removeprefix("0x") for word in words)
    if not keys or not all(map(is_key, keys)):
        raise ValueError("it holds no public key (64 hexadecimal digits)")
    return keys
