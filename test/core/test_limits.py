"""How much a client may have: what an operator can say of it, and what is said of what makes no sense."""

import pytest

from crossbar_cluster.core.limits import ClientLimits, ConnectionLimits, InvalidLimit, SessionLimits


def test_nothing_said_is_the_default():
    assert ClientLimits.from_config(None) == ClientLimits.from_config({}) == ClientLimits()
    assert ClientLimits().session is None, "routers have the same defaults"


def test_one_dictionary_for_all():
    limits = ClientLimits.from_config({"unsent_bytes": 5, "leave_within_s": 0.5, "calls": 7})
    assert limits.connection == ConnectionLimits(unsent_bytes=5, leave_within_s=0.5)
    assert limits.session == SessionLimits(calls=7)


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ([], "a dictionary is wanted"),
        ({"call": 1}, "there is no 'call'. There are unsent_bytes, messages_per_s"),
        ({1: 1}, "there is no '1'"),
        ({"calls": 0}, "calls: 0 is no limit. Use a whole number above 0."),
        ({"messages_per_s": 1.5}, "messages_per_s: 1.5 is no limit"),
        ({"leave_within_s": "soon"}, "leave_within_s: 'soon' is no limit. Use a number of seconds above 0."),
        ({"leave_within_s": float("inf")}, "is no limit"),
        ({"leave_within_s": float("nan")}, "is no limit"),
        ({"leave_within_s": True}, "is no limit"),
    ],
)
def test_what_makes_no_sense_is_said(said, why):
    with pytest.raises(InvalidLimit) as refused:
        ClientLimits.from_config(said)
    assert why in str(refused.value)


def test_one_message_of_the_largest_size_goes():
    assert ConnectionLimits().unsent_bytes > 2**24
