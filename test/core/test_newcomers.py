"""Who may stay at a port without a session: so many, for so long, and the oldest goes first."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossbar_cluster.core.newcomers import Newcomers, Standing

WITHIN_S = 10.0


@pytest.fixture
def standing():
    return {}


@pytest.fixture
def newcomers(standing):
    return Newcomers(3, WITHIN_S, lambda who: standing.get(who, Standing.UNPROVEN))


def arrive(newcomers, *names, now_s=0.0):
    return [newcomers.came(name, now_s) for name in names]


def test_the_oldest_gives_way(newcomers):
    assert arrive(newcomers, *"abcde") == [None, None, None, "a", "b"]
    assert len(newcomers) == 3


def test_who_has_a_session_does_not_count(newcomers, standing):
    arrive(newcomers, *"abc")
    standing["b"] = standing["c"] = Standing.PROVEN
    assert arrive(newcomers, *"de") == [None, None]
    assert arrive(newcomers, "f") == ["a"]


def test_a_time_limit(newcomers, standing):
    arrive(newcomers, "a", now_s=0.0)
    arrive(newcomers, "b", "c", now_s=5.0)
    standing["b"] = Standing.PROVEN
    assert newcomers.next_s == WITHIN_S
    assert newcomers.late(WITHIN_S - 0.1) == []
    assert newcomers.late(WITHIN_S) == ["a"]
    assert newcomers.late(WITHIN_S + 5.0) == ["c"]
    assert len(newcomers) == 0
    assert newcomers.next_s is None


def test_who_is_being_answered_is_kept_as_long_as_that_takes(newcomers, standing):
    standing.update(a=Standing.BUSY, b=Standing.IDLE)
    arrive(newcomers, *"abc")
    assert newcomers.late(WITHIN_S) == ["c"]
    arrive(newcomers, "d", now_s=WITHIN_S)
    assert arrive(newcomers, "e", now_s=WITHIN_S) == ["b"], "who is idle gives way"
    standing["a"] = Standing.UNPROVEN
    assert newcomers.late(2 * WITHIN_S) == ["d", "e", "a"], "its time has begun anew with the last answer"


def test_nobody_is_closed_where_all_are_being_answered(newcomers, standing):
    standing.update(dict.fromkeys("abcd", Standing.BUSY))
    assert arrive(newcomers, *"abcd") == [None] * 4


def test_who_leaves_is_forgotten(newcomers):
    arrive(newcomers, *"abc")
    for who in "abcx":
        newcomers.left(who)
    assert len(newcomers) == 0


@given(st.lists(st.sampled_from([*Standing]), min_size=30, max_size=200))
def test_never_more_than_there_may_be_and_never_one_with_a_session(standings):
    newcomers = Newcomers(20, WITHIN_S, lambda who: standings[who])
    for who in range(len(standings)):
        closed = newcomers.came(who, 0.0)
        assert closed is None or standings[closed] in (Standing.UNPROVEN, Standing.IDLE, Standing.JOINING)
        if closed is not None and standings[closed] is Standing.JOINING:
            assert not {standings[kept] for kept in newcomers._until_s} & {Standing.UNPROVEN, Standing.IDLE}
        assert sum(standings[kept] is not Standing.BUSY for kept in newcomers._until_s) <= 20
