"""What a limit on descriptors allows."""

from hypothesis import given
from hypothesis import strategies as st

from crossbar_cluster.core.descriptors import MOST, Budget, raised


@given(st.integers(0, 2**21))
def test_what_keeps_everybody_served_comes_first(limit):
    budget = Budget(limit)
    assert 0 <= budget.acceptable <= budget.usable <= limit
    assert budget.clients * 2 <= budget.acceptable
    if limit >= 64:
        assert limit - budget.usable >= 16
        assert budget.usable - budget.acceptable >= 4, "who has been accepted needs a connection to a router"


def test_usual_limits_allow_most_of_what_they_say():
    assert Budget(1024).clients > 350
    assert Budget(256).clients > 50
    assert Budget(65536).clients > 0.98 * 65536 / 2


def test_a_limit_is_raised_as_far_as_it_may_be_and_never_lowered():
    assert raised(1024, 65536) == 65536
    assert raised(1024, -1) == MOST
    assert raised(256, 256) == 256
    assert raised(2**21, -1) == 2**21
