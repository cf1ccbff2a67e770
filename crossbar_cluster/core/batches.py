"""Cuts a batch, many WAMP messages in one of WebSocket, into batches that are handled one after the other. Pure.

As the subprotocols ``wamp.2.json.batched`` and its like have it: each message of JSON ends with the control character
CAN (hex 18), each of the others begins with its length, 4 bytes, big-endian.
"""

from __future__ import annotations

from collections.abc import Iterator

_CAN = b"\x18"


def pieces(payload: bytes, *, binary: bool, most_bytes: int) -> Iterator[bytes]:
    """Batches that make up a batch. What is no batch comes back in one, for whoever reads it to say so.

    :param most_bytes: of one, or little more: so much that its last message is whole.
    """
    return _of_binary(payload, most_bytes) if binary else _of_text(payload, most_bytes)


def _of_text(payload: bytes, most_bytes: int) -> Iterator[bytes]:
    begin = 0
    while (end := payload.find(_CAN, min(begin + most_bytes, len(payload)) - 1)) >= begin:
        yield payload[begin : end + 1]
        begin = end + 1
        if begin >= len(payload):
            return
    yield payload[begin:]


def _of_binary(payload: bytes, most_bytes: int) -> Iterator[bytes]:
    begin = end = 0
    while end + 4 <= len(payload):
        end += 4 + int.from_bytes(payload[end : end + 4], "big")
        if end - begin >= most_bytes:
            yield payload[begin:end]
            begin = end
    if begin < len(payload):
        yield payload[begin:]
