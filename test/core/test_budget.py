"""A rate: so many a second, and so many at once."""

from hypothesis import given
from hypothesis import strategies as st

from crossbar_cluster.core.budget import Budget, Budgets, Rate

RATE = Rate(2.0, 5)


def test_so_many_at_once_and_then_so_many_a_second():
    budget = Budget(RATE, 100.0)
    assert [budget.take(100.0) for _ in range(6)] == [True] * 5 + [False]
    assert budget.wait_s(100.0) == 0.5
    assert not budget.take(100.4)
    assert budget.take(100.6) and not budget.take(100.6)
    assert budget.is_full(1000.0) and [budget.take(1000.0) for _ in range(6)] == [True] * 5 + [False]


@given(st.lists(st.floats(0, 10), max_size=200))
def test_never_more_than_the_rate_and_what_is_waited_for_comes(pauses):
    budget, now = Budget(RATE, 0.0), 0.0
    for taken, pause in enumerate(pauses, start=1):
        now += pause
        if (wait_s := budget.wait_s(now)) > 0:
            assert not budget.take(now)
            now += wait_s + 1e-9
        assert budget.take(now)
        assert taken <= RATE.at_once + RATE.per_s * now + 1e-6


def test_a_clock_that_stands_still_or_goes_back_gives_nothing():
    budget = Budget(RATE, 10.0)
    assert all(budget.take(10.0) for _ in range(5))
    assert not budget.take(9.0) and not budget.take(10.0)
    assert budget.take(10.6)


def test_each_has_a_budget_of_its_own_for_each_thing():
    budgets = Budgets({"a": RATE, "b": RATE})
    assert [budgets.take("node1", "a", 0.0) for _ in range(6)] == [True] * 5 + [False]
    assert budgets.take("node1", "b", 0.0) and budgets.take("node2", "a", 0.0)


def test_who_has_a_full_budget_again_is_forgotten():
    budgets = Budgets({"a": RATE})
    for number in range(1000):
        assert budgets.take(number, "a", float(number))
    assert len(budgets) < 10


def test_of_any_number_so_many_are_kept_and_who_asks_all_the_time_is_among_them():
    budgets = Budgets({"a": RATE}, at_most=100)
    for number in range(1000):
        budgets.take(number, "a", 0.0)
        budgets.take("greedy", "a", 0.0)
    assert len(budgets) <= 101
    assert not budgets.take("greedy", "a", 0.0)
