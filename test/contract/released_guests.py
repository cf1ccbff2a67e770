"""Whom a router worker goes on letting in although it is not to: nodes that have clients there, for a while."""

from types import SimpleNamespace
from uuid import UUID

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from crossbar_cluster.core.digest import digest
from crossbar_cluster.core.router import DesiredRouter, Realm, transport_id
from crossbar_cluster.core.worker import WorkerKey

KEY = WorkerKey(UUID(int=1), "group1_1")
STAYS, LEAVES = ("proxy1", "aa"), ("proxy2", "bb")
DESIRED = DesiredRouter(KEY, "router1", (Realm("rlm_1", "realm1", ()),), peers=(STAYS,))


class Worker:
    """The router worker: what it answers, and what it has been asked."""

    def __init__(self):
        self.access = "of others"
        self.guests = [list(LEAVES), list(STAYS)]
        self.asked = []

    async def worker(self, node, worker, procedure, *args):
        self.asked.append(procedure)
        if procedure == "get_router_guests":
            return self.guests
        listener = transport_id(KEY.worker)
        transports, access = {listener: 10000}, {listener: self.access}
        return {"realms": {}, "transports": transports, "access": access, "life": "1", "links": {}}


@pytest.fixture
def router():
    from crossbar_cluster.control.router_worker import RouterReconciler

    worker, clock = Worker(), Clock()
    plane = SimpleNamespace(
        reactor=clock,
        calls=worker,
        configuration=SimpleNamespace(peers=dict([STAYS, LEAVES, ("proxy3", "cc")])),
        router_listens=lambda *told: None,
    )
    reconciler = RouterReconciler(plane, KEY, "router1")

    def admitted():
        done = []
        Deferred.fromCoroutine(reconciler.observe(DESIRED)).addCallback(done.append)
        [observed] = done
        admitting = reconciler._admitting(DESIRED, observed)
        guests = [authid for authid, _ in admitting.peers if (authid, _) not in DESIRED.peers]
        assert dict(admitting.serves) == dict.fromkeys(guests, ("realm1",)), "of the realms that are here"
        return admitting.peers, reconciler.is_under_way(observed)

    return SimpleNamespace(worker=worker, clock=clock, plane=plane, admitted=admitted)


def test_who_has_clients_there_stays_until_they_have_gone(router):
    assert router.admitted() == ((STAYS, LEAVES), True)
    router.worker.guests = [list(STAYS)]
    assert router.admitted() == ((STAYS,), False)


def test_nobody_stays_for_ever(router):
    from crossbar_cluster.control.router_worker import GUESTS_STAY_S

    router.admitted()
    router.clock.advance(GUESTS_STAY_S - 1)
    assert LEAVES in router.admitted()[0]
    router.clock.advance(1)
    assert router.admitted() == ((STAYS,), False)


@pytest.mark.parametrize("now", [{}, {"proxy2": "another key"}])
def test_nobody_stays_who_is_not_paired(router, now):
    router.plane.configuration.peers = dict([STAYS]) | now
    assert router.admitted()[0] == (STAYS,)


def test_it_is_asked_only_if_others_may_connect_than_should(router):
    router.worker.access = digest(DESIRED.access[:2])  # of a version before, as the rest of what it says
    assert router.admitted() == ((STAYS,), False)
    assert router.worker.asked == ["get_router_snapshot"]
