"""How late a loop was, from its ticks."""

from hypothesis import given
from hypothesis import strategies as st

from crossbar_cluster.core.lateness import WORTH_KEEPING_S, Lateness


def test_a_loop_that_keeps_pace_is_not_late():
    loop = Lateness(0.25)
    assert loop.late_s(100.0, 60.0) == 0.0, "nothing is known yet"
    assert [loop.ticked(i * 0.25) for i in range(100)] == [0.0] * 100
    assert loop.late_s(25.0, 60.0) == 0.0


def test_a_stall_is_known_during_and_after_it():
    loop = Lateness(0.25)
    loop.ticked(10.0)
    assert loop.late_s(13.25, 1.0) == 3.0, "asked in the same turn, before the tick"
    assert loop.ticked(13.25) == 3.0
    for quarter in range(1, 13):
        loop.ticked(13.25 + quarter / 4)
    assert loop.late_s(16.25, 2.9) == 0.0
    assert loop.late_s(16.25, 3.1) == 3.0


@given(st.lists(st.floats(0.0, 5.0), min_size=1, max_size=400))
def test_the_greatest_of_those_that_are_remembered(stalls):
    loop, now_s = Lateness(0.25, keep=100), 0.0
    loop.ticked(now_s)
    for stall_s in stalls:
        now_s += 0.25 + stall_s
        loop.ticked(now_s)
    kept = [s for s in stalls if s > WORTH_KEEPING_S + 1e-6][-90:]
    assert loop.late_s(now_s, 1e9) >= max(kept, default=0.0) - 1e-6
    assert loop.late_s(now_s, 1e9) <= max(stalls) + 1e-6
    assert len(loop._late) <= 100
