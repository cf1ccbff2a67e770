"""Which links a router worker needs, and what operators are told of those that it lacks."""

from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from crossbar_cluster.core.mesh import (
    IN_PART,
    DropLink,
    ObservedLink,
    SetLink,
    links_to_drop,
    missing_links,
    plan_links,
)
from crossbar_cluster.core.proxy import Backend, RouterLife
from crossbar_cluster.core.router import DesiredRouter, ObservedRouter, Realm, StartListener, plan_router
from crossbar_cluster.core.worker import WorkerKey, steps_of

LIFE = RouterLife("router2", "w2", "22" * 32, "life1")
THERE = ("10.0.0.2", 10000)
OTHER = Backend("cnc_router2_w2", WorkerKey(UUID(int=2), "w2"), THERE, True, LIFE)
THIRD = Backend("cnc_router3_w3", WorkerKey(UUID(int=3), "w3"))
LINKED = {"cnc_router2_w2": ObservedLink(THERE, LIFE)}


@pytest.mark.parametrize(
    ("other", "observed", "steps"),
    [
        pytest.param(OTHER, {}, [SetLink("cnc_router2_w2", THERE, LIFE)], id="new"),
        pytest.param(OTHER, LINKED, [], id="as-it-is"),
        pytest.param(
            replace(OTHER, endpoint=("10.0.0.3", 10001)),
            LINKED,
            [SetLink("cnc_router2_w2", ("10.0.0.3", 10001), LIFE, THERE)],
            id="moved",
        ),
        pytest.param(
            replace(OTHER, identity=replace(LIFE, life="life2")),
            LINKED,
            [SetLink("cnc_router2_w2", THERE, replace(LIFE, life="life2"), THERE)],
            id="started-anew",
        ),
        pytest.param(replace(OTHER, confirmed=False), {}, [], id="not-known-to-listen"),
        pytest.param(replace(OTHER, confirmed=False, endpoint=("x", 1)), LINKED, [], id="not-known-to-listen-any-more"),
        pytest.param(replace(OTHER, identity=replace(LIFE, pubkey=None, life=None)), {}, [], id="of-the-release"),
        pytest.param(THIRD, {}, [], id="never-seen"),
    ],
)  # fmt: skip
def test_a_link_leads_to_where_its_router_is_known_to_listen(other: Backend, observed: Any, steps: list[Any]) -> None:
    assert [step for strand in plan_links([other], observed) for step in strand] == steps


def test_each_link_is_a_strand_of_its_own_and_comes_before_the_listener() -> None:
    third = replace(OTHER, connection_id="cnc_router3_w3")
    desired = DesiredRouter(WorkerKey(UUID(int=1), "w1"), "router1", (Realm("rlm_1", "r", ()),), links=(OTHER, third))
    first, second = plan_router(desired, ObservedRouter(True, links={}))
    assert [[type(step).__name__ for step in strand] for strand in first] == [["StartRealm"], ["SetLink"], ["SetLink"]]
    assert steps_of((second,)) == (StartListener(),)


def test_a_worker_of_the_release_is_not_asked_to_link() -> None:
    desired = DesiredRouter(WorkerKey(UUID(int=1), "w1"), "router1", (), links=(OTHER,))
    assert plan_router(desired, ObservedRouter(True, port=10000)) == ()


def test_links_to_workers_that_have_left_the_group_are_dropped() -> None:
    byhand = {"byhand": ObservedLink(THERE, None)}
    assert links_to_drop([OTHER], LINKED | byhand) == []
    assert links_to_drop([THIRD], LINKED | byhand) == [DropLink("cnc_router2_w2")]
    assert links_to_drop([THIRD], LINKED, {"cnc_router2_w2"}) == [DropLink("cnc_router2_w2", at_once=True)]


def test_operators_are_told_which_links_are_missing_and_why() -> None:
    assert missing_links([OTHER, THIRD], LINKED) == []
    lost = {"cnc_router2_w2": ObservedLink(THERE, LIFE, {"realm1": "no route to host"})}
    assert missing_links([OTHER], lost) == [
        "realm realm1 is not linked with router2 w2 at 10.0.0.2:10000: no route to host"
    ]
    in_part = {"cnc_router2_w2": ObservedLink(THERE, LIFE, {"realm1": f"{IN_PART}they did not agree"})}
    assert missing_links([OTHER], in_part) == [
        "realm realm1 is linked with router2 w2 at 10.0.0.2:10000, but they did not agree"
    ]
    assert missing_links([replace(OTHER, confirmed=False)], lost) == [], (
        "it is away: that is told of it, not of its links"
    )
    released = replace(OTHER, identity=replace(LIFE, pubkey=None, life=None))
    (told,) = missing_links([released], {})
    assert told.startswith("not linked with router2 w2, which runs without crossbar-cluster")


def test_steps_say_what_is_done() -> None:
    assert str(SetLink("l", THERE, LIFE)) == "link l started to 10.0.0.2:10000"
    assert str(SetLink("l", THERE, LIFE, ("10.0.0.1", 1))) == "link l re-pointed from 10.0.0.1:1 to 10.0.0.2:10000"
    assert str(SetLink("l", THERE, LIFE, THERE)).startswith("link l renewed: its router has been started anew")
    assert str(DropLink("l")) == "link l stopped"
