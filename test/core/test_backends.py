"""The backends of a proxy: their states, whose turn it is, and when one is given up."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from crossbar_cluster.core.backends import LOST_AFTER, RETRY_AT_MOST_S, Backend, Backends, State

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
    chosen = Counter(ids(backends.in_turn(*KEY))[0] for _ in range(6) if up)
    assert chosen == Counter({i: 6 // len(up) for i in up})
