"""What is told now and then, and what is remembered of it."""

from crossbar_cluster.core.news import Seldom


def test_the_same_thing_is_told_once_in_a_while():
    seldom = Seldom(10.0)
    assert [seldom.due("a", at) for at in (0, 9.9, 10, 11, 20)] == [True, False, True, False, True]


def test_what_may_be_told_again_is_not_remembered():
    seldom = Seldom(10.0)
    for number in range(500):
        assert seldom.due(number, number / 10)
    assert len(seldom) <= 101
    assert seldom.due("later", 1000.0)
    assert len(seldom) == 1


def test_so_many_are_remembered_and_no_more_the_oldest_goes():
    seldom = Seldom(10.0, at_most=3)
    assert all(seldom.due(number, 0.0) for number in range(4))
    assert len(seldom) == 3
    assert not seldom.due(3, 1.0)
    assert seldom.due(0, 1.0)


def test_that_nothing_was_told_is_known():
    seldom = Seldom(10.0)
    assert not seldom.forget()
    seldom.due("a", 0.0)
    assert seldom.forget() and not seldom.forget()
    assert seldom.due("a", 1.0)
