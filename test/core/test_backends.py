"""The backends of a proxy: their states, whose turn it is, and when one is given up."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from crossbar_cluster.core.backends import AT_ONCE_S, HOLD_S, LOST_AFTER, RETRY_AT_MOST_S, Backend, Backends, State

KEY = ("realm1", "anonymous")


def with_backends(*ids: str, up: bool = True) -> Backends:
    backends = Backends()
    backends.follow({i: {} for i in ids}, {KEY: ids})
    for i in ids if up else ():
        backends.by_id[i].reached(0.0)
    return backends


def ids(found: list[Backend]) -> list[str]:
    return [backend.id for backend in found]


def test_new_clients_go_round_robin_to_those_that_are_up():
    backends = with_backends("a", "b", "c")
    backends.by_id["b"].failed("refused")
    backends.by_id["b"].failed("refused")
    firsts = Counter(ids(backends.in_turn(*KEY))[0] for _ in range(10))
    assert firsts == {"a": 5, "c": 5}
    assert all(sorted(ids(backends.in_turn(*KEY))) == ["a", "c"] for _ in range(3)), "the other one is the next choice"


def test_nobody_is_sent_where_nothing_is_known_to_answer():
    backends = with_backends("a", up=False)
    assert backends.in_turn(*KEY) == []
    assert backends.problems(*KEY) == ["a: connecting"]
    assert backends.in_turn("realm1", "other") == []
    assert backends.by_id["a"].reached(1.0), "news"
    assert not backends.by_id["a"].reached(2.0), "no news"
    assert ids(backends.in_turn(*KEY)) == ["a"]
    assert backends.problems(*KEY) == []


def test_one_failure_of_a_backend_that_is_up_is_none():
    backend = with_backends("a").by_id["a"]
    assert not backend.failed("slow")
    assert backend.state is State.UP
    backend.reached(1.0)
    lost = [backend.failed("slow") for _ in range(LOST_AFTER)]
    assert lost == [False] * (LOST_AFTER - 1) + [True]
    assert backend.state is State.SUSPECT
    assert not backend.failed("slow"), "it is given up once"


def test_one_that_is_heard_of_while_it_is_looked_at_is_there():
    """Whatever the looks find: their connections are new, and those that stand say more."""
    backend = with_backends("a").by_id["a"]
    for began_s in range(10, 100, 10):
        backend.heard_s = began_s + 1.0
        assert not backend.failed("no answer", began_s, began_s + 2.5)
    assert backend.is_up and backend.problem == "no answer"
    lost = [backend.failed("no answer", began_s, began_s + 2.5) for began_s in (100, 103)]
    assert lost == [False, True] and backend.is_lost


def test_looks_that_say_nothing_never_give_a_backend_up():
    backend = with_backends("a").by_id["a"]
    for _ in range(50):
        backend.void("no descriptors")
    assert backend.is_up and backend.problem == "" and backend.is_failing
    assert backend.retry_s == RETRY_AT_MOST_S, "and are not all that is done here"
    backend.reached(1.0)
    assert not backend.is_failing


def test_one_that_says_that_it_ends_gets_nobody_new_at_once():
    backends = with_backends("a", "b")
    assert backends.by_id["a"].ending("about to end"), "news"
    assert not backends.by_id["a"].ending("about to end")
    assert ids(backends.in_turn(*KEY)) == ["b"]
    assert not backends.by_id["a"].is_lost, "who is on it stays"


def at_hosts(*hosts: str) -> Backends:
    backends = Backends()
    configs = {name: {"transport": {"endpoint": {"host": host}}} for name, host in zip("abcd", hosts, strict=False)}
    backends.follow(configs, {KEY: list(configs)})
    for backend in backends.by_id.values():
        backend.reached(0.0)
    return backends


def fail(backends: Backends, name: str, now_s: float) -> Backend:
    backends.by_id[name].failed("no answer", now_s - 2.5, now_s)
    return backends.by_id[name]


def test_when_all_fail_at_once_it_is_likely_not_they_for_a_while():
    backends = at_hosts("h1", "h2", "h3")
    a = fail(backends, "a", 10.0)
    fail(backends, "b", 11.0)
    assert not backends.fail_at_once(a, 11.0), "one answers"
    fail(backends, "c", 12.0)
    assert backends.fail_at_once(a, 12.0)
    assert not backends.fail_at_once(a, 10.0 + HOLD_S + 0.1), "it has an end"
    backends.by_id["c"].reached(13.0)
    assert not backends.fail_at_once(a, 13.0)


def test_one_alone_and_those_on_one_host_are_to_blame():
    assert not (alone := at_hosts("h1")).fail_at_once(fail(alone, "a", 10.0), 10.0)
    together = at_hosts("h1", "h1")
    fail(together, "b", 10.0)
    assert not together.fail_at_once(fail(together, "a", 10.0), 10.0)


def test_one_that_has_failed_long_before_is_another_case():
    backends = at_hosts("h1", "h2")
    before = fail(backends, "b", 10.0)
    a = fail(backends, "a", 10.0 + AT_ONCE_S + 1.0)
    assert not backends.fail_at_once(a, a.failing_s), "nobody else is asked that could say so"
    assert before.failing_s == 10.0


def test_a_backend_that_was_never_up_is_suspect_at_once():
    backend = with_backends("a", up=False).by_id["a"]
    assert not backend.failed("refused"), "nobody was on it"
    assert (backend.state, backend.problem) == (State.SUSPECT, "refused")


def test_it_is_tried_again_soon_and_then_less_often():
    backend = with_backends("a", up=False).by_id["a"]
    pauses = []
    for _ in range(50):
        backend.failed("refused")
        pauses.append(backend.retry_s)
    assert pauses == sorted(pauses)
    assert pauses[0] <= 0.1
    assert pauses[-1] == RETRY_AT_MOST_S
    backend.reached(1.0)
    backend.failed("refused")
    assert backend.retry_s == pauses[0]


def test_of_a_backend_that_is_pointed_elsewhere_nothing_is_known():
    backends = with_backends("a")
    backends.point("a", {"elsewhere": True})
    backend = backends.by_id["a"]
    assert (backend.state, backend.failures, backend.config) == (State.CONNECTING, 0, {"elsewhere": True})


def test_what_a_backend_serves_no_more_is_told():
    other = ("realm2", "anonymous")
    backends = Backends()
    assert backends.follow({"a": {}, "b": {}}, {KEY: ["a", "b"], other: ["a"]}) == {}
    assert backends.follow({"a": {}, "b": {}}, {KEY: ["b"], other: ["a"]}) == {"a": {"realm1"}}
    assert backends.follow({"a": {}, "b": {}}, {KEY: ["b"], other: ["a"]}) == {}, "once"
    assert backends.follow({"b": {}}, {KEY: ["b"], ("realm1", "member"): ["b"]}) == {}, "nothing of one that is gone"
    assert backends.follow({"b": {}}, {("realm1", "member"): ["b"]}) == {}, "whoever has another role stays"
    assert backends.follow({"b": {}}, {}) == {"b": {"realm1"}}


def test_what_is_kept_and_what_goes():
    backends = with_backends("a", "b")
    kept = backends.by_id["a"]
    backends.follow({"a": {}, "c": {}}, {KEY: ["a"]})
    assert backends.by_id["a"] is kept
    assert kept.is_up
    assert set(backends.by_id) == {"a", "c"}
    assert backends.by_id["c"].shown is State.DRAINING, "nothing leads there"
    assert kept.routes == {KEY}


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=40))
def test_whoever_is_up_gets_clients_whatever_happened_to_others(events):
    backends = with_backends("a", "b", "c", up=False)
    for i, good in events:
        backends.by_id[i].reached(0.0) if good else backends.by_id[i].failed("no")
    up = [i for i in "abc" if backends.by_id[i].is_up]
    up = [i for i in up if not backends.by_id[i].failures] or up  # one whose last look failed is the next choice
    chosen = Counter(ids(backends.in_turn(*KEY))[0] for _ in range(6) if up)
    assert chosen == Counter({i: 6 // len(up) for i in up})
