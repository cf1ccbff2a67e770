"""Router workers are spread over the members of their cluster, and stay where they are."""

from collections import Counter
from dataclasses import replace
from uuid import UUID, uuid5

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossbar_cluster.core.placement import (
    InvalidMove,
    Member,
    NoCapacity,
    Placed,
    WorkerGroup,
    evacuate,
    spread,
)

NODES = {UUID(int=number): f"node{number}" for number in range(1, 7)}
OIDS = list(NODES)


def members(*numbers, **limits):
    return tuple(Member(UUID(int=number), f"node{number}", **limits) for number in numbers)


def placed(worker, node, fresh=False):
    return Placed(UUID(bytes=worker.encode().rjust(16, b"\0")), UUID(int=node), worker, fresh)


def group(name="g", scale=1, of=(), placements=(), number=100):
    return WorkerGroup(UUID(int=number), name, scale, {m.node_oid: m for m in of}, tuple(placements))


def after(groups, plan_changes):
    """The groups with the changes made."""
    result = []
    for one in groups:
        placements = {p.oid: p for p in one.placements}
        for change in (c for c in plan_changes if c.group_oid == one.oid):
            if change.to_node is None:
                del placements[change.placement_oid]
            else:
                oid = change.placement_oid or uuid5(one.oid, change.worker)
                placements[oid] = Placed(oid, change.to_node, change.worker, change.fresh)
        result.append(replace(one, placements=tuple(placements.values())))
    return result


def layout(groups):
    return {p.worker: NODES[p.node_oid] for one in groups for p in one.placements}


def settled(*groups):
    return layout(after(groups, spread(groups).changes))


def test_a_group_without_members_is_placed_when_they_come():
    none = group(scale=2)
    assert spread([none]).changes == ()
    (shortfall,) = spread([none]).shortfalls
    assert (shortfall.missing, shortfall.stranded) == (2, ())
    assert settled(group(scale=2, of=members(1, 2))) == {"g_1": "node1", "g_2": "node2"}


def test_each_group_is_spread_and_so_are_all_together():
    groups = [group(f"g{n}", 2, members(1, 2, 3, 4), number=n) for n in (7, 8)]
    assert settled(*groups) == {"g7_1": "node1", "g7_2": "node2", "g8_1": "node3", "g8_2": "node4"}


def test_a_second_worker_of_a_group_is_worse_than_a_loaded_node():
    loaded = [group(f"a{n}", 1, members(2), number=n) for n in range(1, 5)]
    assert settled(*loaded, group("g", 2, members(1, 2)))["g_2"] == "node2"


def test_nodes_that_come_one_after_the_other_share_what_was_not_started_yet():
    one = group(scale=3, of=members(1))
    (one,) = after([one], spread([one]).changes)
    assert layout([one]) == {"g_1": "node1", "g_2": "node1", "g_3": "node1"}
    for number, expected in ((2, {"g_1": "node1", "g_2": "node1", "g_3": "node2"}), (3, {"g_2": "node3"})):
        one = replace(one, members={**one.members, UUID(int=number): members(number)[0]})
        (one,) = after([one], spread([one]).changes)
        assert expected.items() <= layout([one]).items()


def test_what_was_started_stays_though_nodes_come():
    one = group(scale=2, of=members(1, 2), placements=[placed("g_1", 1), placed("g_2", 1)])
    assert spread([one]).changes == ()


def test_of_two_on_a_node_the_one_that_was_not_started_goes():
    one = group(scale=2, of=members(1, 2), placements=[placed("g_1", 1, fresh=True), placed("g_2", 1)])
    assert settled(one) == {"g_1": "node2", "g_2": "node1"}


def test_workers_of_a_node_that_is_no_member_move_to_one_that_is():
    one = group(scale=2, of=members(1, 2), placements=[placed("g_1", 1), placed("g_2", 3)])
    (change,) = spread([one]).changes
    assert (change.worker, change.from_node, change.to_node) == ("g_2", UUID(int=3), UUID(int=2))
    assert change.placement_oid == placed("g_2", 3).oid


@pytest.mark.parametrize("none", [(), members(1, hardlimit=0), members(1, hardlimit=2)])
def test_they_stay_where_they_are_if_no_member_has_room(none):
    full = group("other", 2, members(1), [placed("other_1", 1), placed("other_2", 1)], number=1)
    one = group(scale=1, of=none, placements=[placed("g_1", 3)])
    plan = spread([full, one])
    assert plan.changes == ()
    assert [shortfall.stranded for shortfall in plan.shortfalls] == [(placed("g_1", 3),)]


def test_room_that_one_group_makes_is_used_by_another_in_the_same_plan():
    first = group("a", 1, members(1, hardlimit=1), [placed("a_1", 2)], number=1)
    second = group("b", 1, members(3), [placed("b_1", 1)], number=2)
    assert settled(first, second) == {"a_1": "node1", "b_1": "node3"}


def test_a_drained_node_keeps_what_it_has_and_gets_nothing():
    one = group(scale=3, of=[*members(1, hardlimit=0), *members(2)], placements=[placed("g_1", 1)])
    assert settled(one) == {"g_1": "node1", "g_2": "node2", "g_3": "node2"}


def test_placements_of_no_group_count_as_load_and_keep_their_names():
    one = group(scale=1, of=members(1, 2))
    (change,) = spread([one], [placed("g_1", 1)]).changes
    assert (change.worker, change.to_node) == ("g_2", UUID(int=2))


def test_below_the_soft_limit_is_preferred_though_it_has_more_to_do():
    busy = [group(f"a{n}", 1, members(2), number=n) for n in range(1, 4)]
    one = group("g", 1, [*members(1, softlimit=1), *members(2)])
    extra = group("a9", 1, members(1), number=9)
    assert settled(*busy, extra, one)["g_1"] == "node2"


@pytest.mark.parametrize(
    ("placements", "goes"),
    [
        ([placed("g_1", 1), placed("g_2", 2)], "g_2"),
        ([placed("g_2", 1), placed("g_10", 2)], "g_10"),
        ([placed("g_1", 6), placed("g_2", 2)], "g_1"),
        ([placed("g_1", 1, fresh=True), placed("g_2", 2)], "g_1"),
        ([placed("g_1", 1), placed("g_2", 1), placed("g_3", 2)], "g_2"),
    ],
)
def test_what_goes_when_the_scale_is_lowered(placements, goes):
    one = group(scale=len(placements) - 1, of=members(1, 2), placements=placements)
    (change,) = (change for change in spread([one]).changes if change.to_node is None)
    assert (change.worker, change.placement_oid) == (goes, placed(goes, 1).oid)


def test_what_goes_is_on_the_fullest_node_first_then_it_has_the_highest_number():
    one = group(
        scale=5,
        of=members(1, 2, 3),
        placements=[placed("g_1", 1), placed("g_2", 1), placed("g_3", 1), placed("g_4", 2), placed("g_5", 2)],
    )
    left = []
    for scale in (4, 3, 2, 1):
        (one,) = after([one], spread([replace(one, scale=scale)]).changes)
        left.append(sorted(layout([one])))
    assert left == [["g_1", "g_2", "g_4", "g_5"], ["g_1", "g_2", "g_4"], ["g_1", "g_4"], ["g_1"]]


def test_what_goes_is_where_the_other_groups_have_more():
    other = group("other", 2, members(1, 2), [placed("other_1", 1), placed("other_2", 1)], number=1)
    one = group(scale=1, of=members(1, 2), placements=[placed("g_1", 1), placed("g_2", 2)])
    assert settled(other, one)["g_2"] == "node2"


def test_a_worker_whose_node_is_away_goes_before_one_that_has_clients():
    away, there = members(1, online=False), members(2)
    one = group(scale=2, of=[*away, *there], placements=[placed("g_1", 1), placed("g_2", 2), placed("g_3", 2)])
    assert settled(one) == {"g_2": "node2", "g_3": "node2"}
    assert settled(replace(one, scale=1)) == {"g_2": "node2"}


def test_a_newcomer_gets_one_of_two_that_share_a_node_though_they_have_been_started():
    one = group(scale=3, of=members(1, 2, 3), placements=[placed("g_1", 1), placed("g_2", 1), placed("g_3", 3)])
    assert spread([one]).changes == (), "node2 is there, and no newcomer"
    plan = spread([one], newcomers=[UUID(int=2)])
    assert layout(after([one], plan.changes)) == {"g_1": "node1", "g_2": "node2", "g_3": "node3"}
    assert spread(after([one], plan.changes), newcomers=[UUID(int=2)]).changes == ()


def test_a_newcomer_gets_nothing_that_is_alone_on_its_node():
    one = group(scale=2, of=members(1, 2, 3), placements=[placed("g_1", 1), placed("g_2", 2)])
    assert spread([one], newcomers=[UUID(int=3)]).changes == ()


def test_whatever_the_scale_becomes_the_others_stay_where_they_are():
    one = group(scale=1, of=members(1, 2, 3))
    before = {}
    for scale in (1, 2, 3, 7, 4, 2, 5, 1):
        (one,) = after([replace(one, scale=scale)], spread([replace(one, scale=scale)]).changes)
        one = replace(one, placements=tuple(replace(p, fresh=False) for p in one.placements))  # they have been started
        now = layout([one])
        assert len(now) == scale
        assert all(now[worker] == before[worker] for worker in now.keys() & before.keys())
        assert now.keys() <= before.keys() or before.keys() <= now.keys()
        before = now


def test_a_worker_gets_the_lowest_free_number():
    one = group(scale=3, of=members(1, 2, 3), placements=[placed("g_1", 1), placed("g_3", 3)])
    assert settled(one)["g_2"] == "node2"


def test_groups_of_one_name_in_two_clusters_have_no_worker_in_common():
    first, second = (group("g", 1, members(1), number=number) for number in (1, 2))
    assert set(settled(first, second)) == {"g_1", "g_2"}


def test_a_worker_never_moves_to_a_node_that_has_one_of_its_name():
    first = group("g", 1, members(1), [placed("g_1", 1)], number=1)
    second = group("g", 1, members(1), [Placed(UUID(int=5), UUID(int=3), "g_1")], number=2)
    assert spread([first, second]).changes == ()


def evacuated(groups, node, to=None):
    changes = evacuate(groups, UUID(int=node), to and UUID(int=to), names=NODES)
    return layout(after(groups, changes))


def test_a_node_is_emptied_onto_the_least_loaded_and_stays_so():
    groups = [
        group("a", 2, members(1, 2, 3), [placed("a_1", 1), placed("a_2", 2)], number=1),
        group("b", 1, members(1, 2, 3), [placed("b_1", 1)], number=2),
    ]
    assert evacuated(groups, 1) == {"a_1": "node3", "a_2": "node2", "b_1": "node2"}
    moved = after(groups, evacuate(groups, UUID(int=1), names=NODES))
    assert spread(moved).changes == ()


def test_workers_that_an_operator_put_together_stay_together():
    one = group(scale=2, of=members(1, 2, 3), placements=[placed("g_1", 1, fresh=True), placed("g_2", 2)])
    moved = after([one], evacuate([one], UUID(int=1), UUID(int=2), names=NODES))
    assert layout(moved) == {"g_1": "node2", "g_2": "node2"}
    assert spread(moved).changes == ()


@pytest.mark.parametrize(
    ("of", "to", "error", "says"),
    [
        (members(1), None, NoCapacity, "g_1 .*node node1: no other node"),
        ([*members(1), *members(2, hardlimit=0)], None, NoCapacity, "undrain"),
        ([*members(1), *members(2, hardlimit=0)], 2, NoCapacity, "node2, which is drained"),
        ([*members(1), *members(2, hardlimit=1)], 2, NoCapacity, "hard limit of 1"),
        (members(1, 2), 3, InvalidMove, "node3, which is not in its router cluster"),
        (members(1, 2), 1, InvalidMove, "cannot be both"),
    ],
)
def test_a_node_that_cannot_be_emptied(of, to, error, says):
    other = group("other", 1, members(2), [placed("other_1", 2)], number=1)
    one = group(of=of, placements=[placed("g_1", 1)])
    with pytest.raises(error, match=says):
        evacuated([other, one], 1, to)


def test_a_node_without_workers_is_empty():
    assert evacuate([group(of=members(1))], UUID(int=1), names=NODES) == ()


limits = st.one_of(st.none(), st.integers(0, 4))
some_members = st.lists(
    st.builds(lambda n, s, h: Member(n, NODES[n], s, h), st.sampled_from(OIDS), limits, limits)
).map(lambda found: {member.node_oid: member for member in found})


@st.composite
def some_groups(draw, most=4):
    groups = []
    for index in range(draw(st.integers(1, most))):
        workers = draw(st.sets(st.integers(1, 7), max_size=5))
        placements = tuple(
            Placed(UUID(int=1000 * index + n + 1), draw(st.sampled_from(OIDS)), f"g{index}_{n}", draw(st.booleans()))
            for n in sorted(workers)
        )
        scale = draw(st.integers(1, 6))
        groups.append(WorkerGroup(UUID(int=index + 1), f"g{index}", scale, draw(some_members), placements))
    return groups


def may_take(member, load):
    return member.hardlimit is None or load[member.node_oid] < member.hardlimit


def load_of(groups):
    return Counter(p.node_oid for one in groups for p in one.placements)


@given(some_groups())
def test_the_planned_state_plans_to_nothing(groups):
    plan = spread(groups)
    again = spread(after(groups, plan.changes))
    assert again.changes == ()
    assert again.shortfalls == plan.shortfalls


@given(some_groups(), st.randoms())
def test_no_order_matters(groups, random):
    def shuffled(items):
        return tuple(random.sample(items, len(items)))

    mixed = [
        replace(g, members=dict(shuffled([*g.members.items()])), placements=shuffled(g.placements)) for g in groups
    ]
    random.shuffle(mixed)
    assert spread(mixed) == spread(groups)


@given(some_groups())
def test_what_is_right_stays(groups):
    """A worker that was started, on a member, moves for nothing; if it goes, its group had too many."""
    plan = spread(groups)
    for one in groups:
        right = {p.oid for p in one.placements if p.node_oid in one.members and not p.fresh}
        touched = {c.placement_oid: c for c in plan.changes if c.group_oid == one.oid}
        for oid in right & set(touched):
            assert touched[oid].to_node is None
            assert len(one.placements) > one.scale


@given(some_groups(), st.dictionaries(st.sampled_from(OIDS), st.integers(0, 4)))
def test_limits_are_kept(groups, limit):
    """A node's limit is the same in all clusters here; what exceeded it before is left alone."""
    groups = [
        replace(one, members={oid: replace(m, hardlimit=limit.get(oid)) for oid, m in one.members.items()})
        for one in groups
    ]
    changes = spread(groups).changes
    before, now = load_of(groups), load_of(after(groups, changes))
    assert all(now[node] <= max(before[node], limit[node]) for node in limit)
    for change in changes:
        (one,) = (one for one in groups if one.oid == change.group_oid)
        assert change.to_node is None or change.to_node in one.members


@given(some_groups())
def test_nothing_is_missing_that_a_member_could_take(groups):
    plan = spread(groups)
    then = after(groups, plan.changes)
    load, short = load_of(then), {shortfall.group_oid: shortfall for shortfall in plan.shortfalls}
    for one in then:
        stranded = [p for p in one.placements if p.node_oid not in one.members]
        lacking = one.scale - len(one.placements)
        assert lacking >= 0
        assert (one.oid in short) == bool(stranded or lacking)
        if stranded or lacking:
            assert not any(may_take(member, load) for member in one.members.values())
            assert short[one.oid].missing == lacking


@given(some_groups(most=1))
def test_the_scale_of_a_group_alone_is_met_if_there_is_room(groups):
    (one,) = groups
    (then,) = after(groups, spread(groups).changes)
    room = sum(one.scale if m.hardlimit is None else m.hardlimit for m in one.members.values())
    assert sum(p.node_oid in one.members for p in then.placements) >= min(one.scale, room)


@given(some_groups())
def test_no_member_stands_idle_beside_two_fresh_ones(groups):
    then = after(groups, spread(groups).changes)
    load = load_of(then)
    for one in then:
        held = Counter(p.node_oid for p in one.placements)
        doubled = [p for p in one.placements if p.fresh and held[p.node_oid] > 1]
        if doubled:
            assert not any(may_take(member, load) and not held[member.node_oid] for member in one.members.values())


@given(some_groups(), st.sampled_from(OIDS))
def test_a_node_is_emptied_for_good_or_nothing_happens(groups, node):
    groups = after(groups, spread(groups).changes)
    try:
        changes = evacuate(groups, node, names=NODES)
    except NoCapacity:
        return
    then = after(groups, changes)
    assert not load_of(then)[node]
    assert {c.placement_oid for c in changes} == {p.oid for g in groups for p in g.placements if p.node_oid == node}
