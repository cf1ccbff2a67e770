"""What proxy and router sign: each for one connection between those two, and for nothing else."""

import contextlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossbar_cluster.core.limits import InvalidLimit, SessionLimits
from crossbar_cluster.core.proof import (
    NONCE_BYTES,
    PART,
    SIGNATURE_BYTES,
    Connection,
    RouterIdentity,
    challenge_part,
    hello_part,
    limits_in,
    nonce_in,
    router_in,
    signature_in,
)

CONNECTION = Connection(RouterIdentity("router1", "w1", "aa" * 32), "bb" * 32, bytes(32), b"\1" * 32)
texts = st.text(max_size=20)
nonces = st.binary(min_size=NONCE_BYTES, max_size=NONCE_BYTES)
connections = st.builds(Connection, st.builds(RouterIdentity, texts, texts, texts), texts, nonces, nonces)
json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=70) | st.binary(max_size=70),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=6,
)


def test_both_ends_come_to_the_same():
    other = Connection(RouterIdentity("router1", "w1", "aa" * 32), "bb" * 32, bytes(32), b"\1" * 32)
    assert (other.challenge, other.proof) == (CONNECTION.challenge, CONNECTION.proof)
    assert len(CONNECTION.challenge) == len(CONNECTION.proof) == 32


@pytest.mark.parametrize(
    "other",
    [
        replace(CONNECTION, router=replace(CONNECTION.router, node="router2")),
        replace(CONNECTION, router=replace(CONNECTION.router, worker="w2")),
        replace(CONNECTION, router=replace(CONNECTION.router, pubkey="ab" * 32)),
        replace(CONNECTION, proxy_pubkey="bc" * 32),
        replace(CONNECTION, proxy_nonce=b"\2" * 32),
        replace(CONNECTION, router_nonce=b"\2" * 32),
        replace(CONNECTION, router=replace(CONNECTION.router, node="router1w", worker="1")),
    ],
)
def test_whatever_is_different_makes_it_another_one(other):
    assert other.challenge != CONNECTION.challenge
    assert other.proof != CONNECTION.proof


@given(connections, connections)
def test_no_two_connections_have_anything_in_common(one, other):
    hashes = {one.challenge, one.proof, other.challenge, other.proof}
    assert len(hashes) == (2 if one == other else 4)


@given(nonces, st.binary(min_size=SIGNATURE_BYTES, max_size=SIGNATURE_BYTES))
def test_what_is_sent_is_read(nonce, signature):
    assert nonce_in({PART: hello_part(nonce), "pubkey": "aa"}) == nonce
    extra = {PART: challenge_part(CONNECTION.router, nonce, signature)}
    assert (nonce_in(extra), signature_in(extra), router_in(extra)) == (nonce, signature, CONNECTION.router)


@given(json)
def test_nonsense_is_told_from_nothing(value):
    for extra in (value, {PART: value}, {PART: {"version": 1, "nonce": value, "signature": value}}):
        try:
            nonce = nonce_in(extra)
        except ValueError:
            pass
        else:
            assert nonce is None or len(nonce) == NONCE_BYTES
        with contextlib.suppress(ValueError):
            assert len(signature_in(extra)) == SIGNATURE_BYTES
        with contextlib.suppress(ValueError):
            assert router_in({PART: {"router": value}})


def test_without_the_part_there_is_none():
    assert nonce_in({"pubkey": "aa"}) is None
    assert nonce_in(None) is None
    with pytest.raises(ValueError, match="signature"):
        signature_in({"challenge": "aa"})
    with pytest.raises(ValueError, match="nonce"):
        nonce_in({PART: {"version": 2, "nonce": "00" * 32}})


def test_a_proxy_tells_what_its_client_may_have():
    limits = SessionLimits(subscriptions=3, registrations=4, calls=5)
    assert limits_in({PART: hello_part(bytes(NONCE_BYTES), limits=limits)}) == limits


@pytest.mark.parametrize("extra", [None, {}, {PART: hello_part(bytes(NONCE_BYTES))}, {PART: {"limits": {}}}])
def test_what_is_not_told_is_the_default(extra):
    assert limits_in(extra) == SessionLimits()


def test_limits_of_a_later_version_are_passed_over():
    assert limits_in({PART: {"limits": {"calls": 7, "dreams": 1}}}) == SessionLimits(calls=7)


@pytest.mark.parametrize("limits", [[], "10", {"calls": 0}, {"calls": -1}, {"calls": True}, {"calls": "10"}])
def test_what_is_no_limit_is_said(limits):
    with pytest.raises(InvalidLimit):
        limits_in({PART: {"limits": limits}})
