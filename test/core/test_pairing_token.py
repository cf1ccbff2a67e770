"""Pairing tokens: what a node says with one, and what that is good for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossbar_cluster.core.pairing_token import (
    LEAST_LENGTH,
    InvalidToken,
    Offer,
    code_of,
    entitles,
    is_name,
    master_keys_of,
    parse_tokens,
    with_master_key,
)

TOKEN, OTHER = "t" * 32, "o" * 32
KEY, OTHER_KEY = "ab" * 32, "cd" * 32


def offer(name="crossbar-proxy-1", token=TOKEN, key=KEY):
    return Offer(name, code_of(token, name, key))


def test_a_token_is_good_for_the_names_that_begin_as_it_says():
    tokens = {"crossbar-proxy-": [TOKEN], "crossbar-router-": [OTHER]}
    assert entitles(offer(), KEY, tokens)
    assert not entitles(offer("crossbar-router-1"), KEY, tokens)
    assert entitles(offer("crossbar-router-1", OTHER), KEY, tokens)
    assert not entitles(offer(), KEY, {})


def test_an_old_and_a_new_token_are_good_side_by_side():
    assert entitles(offer(), KEY, {"crossbar-": [OTHER, TOKEN]})


def test_what_was_heard_is_of_no_use_with_another_key_or_name():
    heard = offer()
    tokens = {"crossbar-": [TOKEN]}
    assert not entitles(heard, OTHER_KEY, tokens)
    assert not entitles(Offer("crossbar-proxy-2", heard.code), KEY, tokens)


@given(st.text(st.characters(categories=["L", "N"]), max_size=40), st.text("0123456789abcdef", min_size=1, max_size=40))
def test_name_and_key_cannot_be_shifted_against_each_other(name, key):
    assert code_of(TOKEN, name, key) != code_of(TOKEN, name + key[:1], key[1:])


def test_it_does_not_matter_how_a_key_is_spelt():
    assert entitles(offer(key=KEY.upper()), KEY, {"": [TOKEN]})


def test_an_offer_travels():
    assert Offer.from_authextra({"pubkey": KEY, **offer().authextra}) == offer()
    assert TOKEN not in str(offer().authextra)


@pytest.mark.parametrize(
    "authextra",
    [
        None, "x", {}, {"pairing": None}, {"pairing": []}, {"pairing": {"name": "a"}}, {"pairing": {"code": "a"}},
        {"pairing": {"name": "a.b", "code": "aa"}}, {"pairing": {"name": "", "code": "aa"}},
        {"pairing": {"name": 7, "code": "aa"}}, {"pairing": {"name": "a", "code": "ä"}},
        {"pairing": {"name": "a" * 64, "code": "aa"}},
    ],
    ids=repr,
)  # fmt: skip
def test_what_makes_no_sense_is_no_offer(authextra):
    assert Offer.from_authextra(authextra) is None


@pytest.mark.parametrize("key", [None, 7, "ab", "", ["ab" * 32]], ids=repr)
def test_without_a_key_nobody_is_entitled(key):
    assert not entitles(offer(), key, {"": [TOKEN]})


@pytest.mark.parametrize("name", ["crossbar-proxy-7d9f-x2k", "router_1", "A"])
def test_names(name):
    assert is_name(name)


def test_the_tokens_of_a_file():
    assert parse_tokens(f"{TOKEN}\n\n  {OTHER}  \n") == (TOKEN, OTHER)


@pytest.mark.parametrize("text", ["", "\n \n", "short", f"{TOKEN}\nshort"], ids=repr)
def test_what_is_no_token_is_refused_and_not_told(text):
    with pytest.raises(InvalidToken) as refused:
        parse_tokens(text)
    assert "short" not in str(refused.value).split()


def test_a_token_may_carry_the_master_s_key_and_is_as_secret_as_before():
    key = "ab" * 32
    carrying = with_master_key("s" * LEAST_LENGTH, key)
    assert parse_tokens(f"{carrying}\n{'t' * LEAST_LENGTH}\n") == (carrying, "t" * LEAST_LENGTH)
    assert master_keys_of([carrying, "t" * LEAST_LENGTH]) == {key}
    assert master_keys_of([key, f"x.{key[:-1]}", f"x.{key.upper()}"]) == set()
    with pytest.raises(InvalidToken):  # the key is no secret
        parse_tokens(with_master_key("s" * (LEAST_LENGTH - 1), key))


def test_versions_before_take_all_of_it_for_the_secret():
    carrying = with_master_key("s" * LEAST_LENGTH, "ab" * 32)
    assert entitles(Offer("node1", code_of(carrying, "node1", "cd" * 32)), "cd" * 32, {"node": [carrying]})
