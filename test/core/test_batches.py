"""A batch in pieces is the same messages, in the same order."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossbar_cluster.core.batches import pieces

messages = st.lists(st.binary(max_size=30).map(lambda message: message.replace(b"\x18", b"")), min_size=1)


def batch(messages, binary):
    return b"".join(len(m).to_bytes(4, "big") + m if binary else m + b"\x18" for m in messages)


def messages_in(batch, binary):
    found = []
    while batch:
        if binary:
            length = int.from_bytes(batch[:4], "big")
            message, batch = batch[4 : 4 + length], batch[4 + length :]
        else:
            message, _, batch = batch.partition(b"\x18")
        found.append(message)
    return found


@pytest.mark.parametrize("binary", [True, False])
@given(messages=messages, most_bytes=st.integers(1, 100))
def test_the_same_messages_in_pieces_that_are_not_large(binary, messages, most_bytes):
    found = list(pieces(batch(messages, binary), binary=binary, most_bytes=most_bytes))
    assert [message for piece in found for message in messages_in(piece, binary)] == messages
    assert all(len(piece) < most_bytes + 35 for piece in found)


@pytest.mark.parametrize("binary", [True, False])
@given(payload=st.binary(max_size=200), most_bytes=st.integers(1, 100))
def test_nothing_of_what_is_no_batch_is_lost(binary, payload, most_bytes):
    assert b"".join(pieces(payload, binary=binary, most_bytes=most_bytes)) == payload
