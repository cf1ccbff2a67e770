"""What master and node sign for each other, in a domain of its own. What of it comes over the network is anything."""

import contextlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossbar_cluster.core.master_key import keys_in
from crossbar_cluster.core.proof import Connection, RouterIdentity
from crossbar_cluster.core.signed import hash_of
from crossbar_cluster.core.uplink_proof import (
    PART,
    Login,
    challenge_part,
    hello_part,
    knows_in,
    login_in,
    nonce_in,
)

LOGIN = Login("ab" * 32, "cd" * 32, "default", bytes(32), bytes(range(32)))
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=70) | st.binary(max_size=70),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([PART, "version", "nonce"]), inner),
)


def test_every_part_of_a_login_makes_another_hash():
    others = [
        replace(LOGIN, master="ef" * 32),
        replace(LOGIN, node="ef" * 32),
        replace(LOGIN, realm="other"),
        replace(LOGIN, node_nonce=bytes(range(32))),
        replace(LOGIN, master_nonce=bytes(32)),
    ]
    hashes = {each.challenge for each in (LOGIN, *others)} | {each.proof for each in (LOGIN, *others)}
    assert len(hashes) == 12


def test_a_router_s_hashes_are_those_of_versions_before_and_never_a_master_s():
    """Routers and proxies of versions before compute the same."""
    router = RouterIdentity("router1", "w1", "ab" * 32)
    connection = Connection(router, "cd" * 32, bytes(32), bytes(range(32)))
    assert connection.challenge.hex() == "631879f65c4a1342ab3b3c0b71816342487a42378ff62a25a73db3c7fee2d486"
    assert connection.proof.hex() == "e27285d164634f4afdf866281cd5f9a3f8ad863a2f53e2ba9ed91588c68c2db8"
    assert not {connection.challenge, connection.proof} & {LOGIN.challenge, LOGIN.proof}


@given(st.lists(st.binary(max_size=5), max_size=4), st.lists(st.binary(max_size=5), max_size=4))
def test_no_two_lists_of_fields_are_hashed_alike(one, other):
    assert (hash_of(*one) == hash_of(*other)) == (one == other)


def test_both_ends_read_what_the_other_has_written():
    hello = {PART: hello_part(LOGIN.node_nonce, "pairing token")}
    assert (nonce_in(hello), knows_in(hello)) == (LOGIN.node_nonce, "pairing token")
    challenge = {PART: challenge_part(LOGIN, bytes(64))}
    assert login_in(challenge, LOGIN.node, LOGIN.node_nonce) == (LOGIN, bytes(64))


@given(anything)
def test_whatever_comes_is_a_part_or_none_or_refused(extra):
    for read in (nonce_in, knows_in, lambda extra: login_in(extra, "cd" * 32, bytes(32))):
        with contextlib.suppress(ValueError):
            read(extra)


@pytest.mark.parametrize("knows", ["x" * 100, "a\nb", 7, None])
def test_what_a_node_says_of_itself_is_a_short_text_or_not_heard(knows):
    assert knows_in({PART: {"version": 1, "knows": knows}}) is None


def test_keys_as_people_write_them():
    one, other = "ab" * 32, "cd" * 32
    assert keys_in(f" 0x{one.upper()} ") == {one}
    assert keys_in(f"{one}, {other}\n") == {one, other}
    assert keys_in(f"A title\n\ncreator: me\npublic-key-ed25519: {one}\n") == {one}
    for text in ("", "ab", f"{one} x", "public-key-ed25519: x"):
        with pytest.raises(ValueError):
            keys_in(text)
