"""Which nodes are there: counted by their sessions, in whatever order events and lists arrive."""

from hypothesis import given
from hypothesis import strategies as st

from crossbar_cluster.core.sessions import NodeSessions


def test_a_node_is_online_from_its_first_session_to_the_end_of_its_last() -> None:
    sessions = NodeSessions()
    assert sessions.joined(1, "router1", 10)
    assert not sessions.joined(2, "router1", 20), "it was there already"
    assert sessions.left(1, 30) is None, "the end of an old session says nothing about a newer one"
    assert sessions.is_online("router1")
    assert sessions.since("router1") == 10
    assert sessions.left(2, 40) == "router1"
    assert not sessions.is_online("router1")
    assert sessions.since("router1") == 40


def test_sessions_of_others_say_nothing() -> None:
    sessions = NodeSessions()
    assert sessions.left(7, 10) is None
    assert sessions.since("router1") is None


def test_a_list_finds_what_events_have_not_told() -> None:
    sessions = NodeSessions()
    sessions.joined(1, "router1", 10)
    sessions.begin_listing()
    assert sessions.unknown([2]) == [2]
    came, gone = sessions.end_listing({2: "router2"}, 20)
    assert (came, gone) == (["router2"], ["router1"])


def test_what_happens_while_the_list_is_on_its_way_is_newer_than_the_list() -> None:
    sessions = NodeSessions()
    sessions.joined(1, "router1", 10)
    sessions.begin_listing()
    sessions.joined(2, "router2", 11)  # after the list was made: not in it
    sessions.left(1, 12)  # after the list was made: still in it
    sessions.left(3, 13)  # nobody has told of its begin, and it is in the list
    came, gone = sessions.end_listing({1: None, 3: "router3"}, 20)
    assert (came, gone) == ([], [])
    assert sessions.online() == {"router2"}


EVENTS = st.lists(st.tuples(st.integers(1, 6), st.booleans()), max_size=30)


@given(EVENTS)
def test_online_is_who_has_a_living_session(events: list[tuple[int, bool]]) -> None:
    """Session n is node n % 2's; each event begins or ends a session."""
    sessions, alive = NodeSessions(), set()
    for at, (session, begins) in enumerate(events):
        node = f"node{session % 2}"
        before = {f"node{s % 2}" for s in alive}
        if begins:
            alive.add(session)
            assert sessions.joined(session, node, at) == (node not in before)
        else:
            alive.discard(session)
            gone = before - {f"node{s % 2}" for s in alive}
            assert sessions.left(session, at) == (gone.pop() if gone else None)
        assert sessions.online() == {f"node{s % 2}" for s in alive}


@given(EVENTS, st.sets(st.integers(1, 6)))
def test_after_a_list_the_sessions_are_those_of_the_list(events: list[tuple[int, bool]], listed: set[int]) -> None:
    sessions = NodeSessions()
    for at, (session, begins) in enumerate(events):
        sessions.joined(session, f"node{session % 2}", at) if begins else sessions.left(session, at)
    sessions.begin_listing()
    unknown = sessions.unknown(listed)
    sessions.end_listing({s: f"node{s % 2}" if s in unknown else None for s in listed}, 99)
    assert sessions.online() == {f"node{s % 2}" for s in listed}
