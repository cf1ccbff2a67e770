"""What nodes sign for each other: hashes over named fields, each kind in a domain of its own. Pure.

A signature that is good in one domain is good in no other: the domain is part of what is hashed, and both ends compute
the hash themselves. Nobody signs bytes that the other end has chosen.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

NONCE_BYTES = 32
SIGNATURE_BYTES = 64


def hash_of(*fields: bytes) -> bytes:
    """32 bytes over ``fields``, of which the first names the domain, and the second who signs.

    Each with its length in front: no two lists of fields make the same bytes.
    """
    digest = hashlib.sha256()
    for field in fields:
        digest.update(len(field).to_bytes(4, "big") + field)
    return digest.digest()


def bytes_in(part: Any, name: str, length: int, version: int, where: str) -> bytes:
    """The ``length`` bytes that a part of a HELLO or CHALLENGE holds, as hexadecimal digits, under ``name``.

    :param version: that the part has to have.
    :param where: what the part is called, for the error.
    :raises ValueError: it holds no such bytes.
    """
    value = part.get(name) if isinstance(part, Mapping) and part.get("version") == version else None
    decoded = bytes.fromhex(value) if isinstance(value, str) and len(value) == 2 * length else b""
    if len(decoded) != length:  # `fromhex` passes over spaces
        raise ValueError(f"{where} holds no {name} of {length} bytes")
    return decoded
