"""The pieces that all planners share: plans, digests, and the time that removals wait."""

from crossbar_cluster.core.digest import digest
from crossbar_cluster.core.news import News
from crossbar_cluster.core.worker import Grace, plan_of, steps_of


def test_a_plan_has_no_empty_stages_and_strands() -> None:
    assert plan_of([["a", "b"], []], [], [[]], [["c"]]) == ((("a", "b"),), (("c",),))
    assert steps_of(plan_of([["a", "b"], ["c"]], [["d"]])) == ("a", "b", "c", "d")
    assert not plan_of([[]], [])


def test_a_removal_is_due_after_its_grace() -> None:
    grace = Grace(2.0)
    assert grace.due(["old"], 10.0) == (frozenset(), 2.0)
    assert grace.due(["old", "older"], 11.5) == (frozenset(), 0.5)
    assert grace.due(["old", "older"], 12.0) == ({"old"}, 1.5)
    assert grace.due([], 13.0) == (frozenset(), None)


def test_a_removal_that_was_not_wanted_meanwhile_waits_anew() -> None:
    grace = Grace(2.0)
    grace.due(["old"], 10.0)
    grace.due([], 11.0)
    assert grace.due(["old"], 12.0) == (frozenset(), 2.0)


def test_a_digest_does_not_depend_on_the_order_of_keys() -> None:
    assert digest({"a": 1, "b": [1, 2]}) == digest({"b": [1, 2], "a": 1})
    assert digest({"b": [1, 2]}) != digest({"b": [2, 1]})


def test_a_problem_is_news_once_and_again_after_it_went_away() -> None:
    news = News()
    assert news.of(["b", "a"]) == ["a", "b"]
    assert news.of(["a", "b"]) == []
    assert news.of(["a"]) == []
    assert news.of(["a", "b"]) == ["b"]
