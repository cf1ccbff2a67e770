"""How a proxy gets a client onto a backend, and tells it when that is lost: time is in the test's hands."""

from types import SimpleNamespace

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from crossbar_cluster.core.backends import HEARD_FOR_S, State

KEY = ("realm1", "anonymous")


class Log:
    def __init__(self):
        self.lines = []

    def info(self, text, **values):
        self.lines.append(text.format(**values))

    warn = error = info


class Session:
    """One attempt on a backend; the test decides what becomes of it."""

    def __init__(self, backend):
        self.backend = backend
        self.joined = Deferred()
        self.lost = self.dismissed = None
        self.disconnected = self.is_busy = False
        self.client = self.transport = None

    def connect(self, connection):
        raise AssertionError("no connection is made here")

    def give_up(self):
        from crossbar_cluster.node.handshake import Unreachable

        if not self.joined.called:
            self.joined.errback(Unreachable("no answer in time"))

    def disconnect(self):
        self.disconnected = True

    def lose(self, why):
        self.lost = why

    def dismiss(self, why):
        self.dismissed = why

    def leave(self):
        self.left.append(True)


@pytest.fixture
def pool(tmp_path):
    from crossbar_cluster.proxy.pool import BackendPool

    class Pool(BackendPool):
        """No watch finds anything out by itself; attempts are kept."""

        def __init__(self, controller, clock):
            super().__init__(controller, clock)
            self.attempts = []
            self.clock = clock
            self.looked = []
            self.looks.look = self._only_noted

        async def _only_noted(self, backend):
            self.looked.append(backend.id)

        def _connect(self, backend, session):
            self.attempts.append(session)
            return session

        def follow_ids(self, ids, routed=None):
            connections = {i: SimpleNamespace(id=i, config=config(i)) for i in ids}
            self.follow(connections, {KEY: [connections[i] for i in (ids if routed is None else routed)]})

        def up(self, backend_id):
            backend = self.backends.by_id[backend_id]
            if backend.reached(self.clock.seconds()):
                self._wake(backend.routes)

        def fails(self, backend_id, error, began_s=float("inf")):
            """A look has failed."""
            self.looks.failed(self.backends.by_id[backend_id], error, began_s)

    (tmp_path / "key.priv").write_text(f"private-key-ed25519: {'11' * 32}\n")
    controller = SimpleNamespace(
        log=Log(), node_id="proxy1", _cbdir=str(tmp_path), _uri_prefix="x", publish=lambda *args: None
    )
    clock = Clock()
    controller._reactor = clock
    pool = Pool(controller, clock)
    pool.follow_ids("ab")
    return pool


def config(worker, life="1"):
    return {
        "transport": {"endpoint": {"type": "tcp", "host": "127.0.0.1", "port": 1}},
        "auth": {"cryptosign-proxy": {"type": "static"}},
        "router": {"node": "router1", "worker": worker, "pubkey": "aa" * 32, "life": life},
    }


def joining(pool):
    from crossbar_cluster.node.handshake import Principal

    result = []
    work = Deferred.fromCoroutine(pool.join(Principal("realm1", "x", "anonymous"), lambda b, _: Session(b)))
    work.addBoth(result.append)
    return work, result


def fails(session, error):
    session.joined.errback(error)


def test_the_next_one_is_tried_at_once(pool):
    from crossbar_cluster.node.handshake import Unreachable

    for backend_id in "ab":
        pool.up(backend_id)
    _, result = joining(pool)
    fails(pool.attempts[0], Unreachable("refused"))
    assert [session.backend.id for session in pool.attempts] == ["a", "b"]
    pool.attempts[1].joined.callback("welcome")
    assert result == [(pool.attempts[1], "welcome")]
    assert pool.describe()["b"]["clients"] == 1
    pool.ended(pool.attempts[1])
    assert pool.describe()["b"]["clients"] == 0


def test_nobody_is_tried_that_is_not_up_and_the_wait_has_an_end(pool):
    from crossbar_cluster.proxy.pool import WAIT_S, NoBackend

    _, result = joining(pool)
    pool.clock.advance(WAIT_S - 0.1)
    assert not result and not pool.attempts
    pool.clock.advance(0.1)
    assert isinstance(result[0].value, NoBackend)
    assert result[0].value.reason == "wamp.error.unavailable"


def test_however_many_let_it_wait_a_client_is_answered(pool):
    """Whatever is wrong with them: they count as up, and do not let it in."""
    from crossbar_cluster.proxy.pool import ANSWER_WITHIN_S, JOIN_WITHIN_S, NoBackend

    pool.follow_ids("abcd")
    for backend_id in "abcd":
        pool.up(backend_id)
    _, result = joining(pool)
    pool.attempts[0].transport = object()
    pool.clock.advance(JOIN_WITHIN_S - 0.1)
    assert len(pool.attempts) == 1, "many may come at once, so that each takes long"
    pool.clock.advance(0.2)
    assert len(pool.attempts) == 2, "the next one"
    pool.attempts[1].transport = object()
    pool.clock.pump([0.1] * 100)
    assert isinstance(result[0].value, NoBackend)
    assert result[0].value.reason == "wamp.error.unavailable"
    assert ANSWER_WITHIN_S <= 15.0
    assert all(session.joined.called for session in pool.attempts), "none is left waiting"
    assert len(pool.attempts) == 2


def test_one_that_does_not_even_connect_holds_up_no_client(pool):
    """Its pod is gone: nobody answers there, not even with a reset."""
    from crossbar_cluster.proxy.race import RIVAL_AFTER_S

    for backend_id in "ab":
        pool.up(backend_id)
    _, result = joining(pool)
    hangs = pool.attempts[0]
    pool.clock.advance(RIVAL_AFTER_S)
    assert [session.backend.id for session in pool.attempts] == ["a", "b"]
    pool.attempts[1].joined.callback("welcome")
    assert result == [(pool.attempts[1], "welcome")]
    assert hangs.disconnected
    assert not any(pool._joining_on.values())
    hangs.left = []
    hangs.joined.callback("welcome")
    assert hangs.left == [True], "it came in all the same, too late"
    assert len(result) == 1 and pool.describe()["a"]["clients"] == 0
    assert not pool.clock.getDelayedCalls() or all(
        call.func.__qualname__.startswith("Watch") for call in pool.clock.getDelayedCalls()
    ), "no timer of the client is left"


def test_the_first_that_lets_it_in_wins_whoever_was_asked_first(pool):
    for backend_id in "ab":
        pool.up(backend_id)
    _, result = joining(pool)
    pool.clock.advance(1.0)
    pool.attempts[0].joined.callback("welcome")
    assert result == [(pool.attempts[0], "welcome")]
    assert pool.attempts[1].disconnected


def test_an_attempt_that_begins_in_time_has_its_full_time(pool):
    """In a storm each client takes long, and is let in."""
    from crossbar_cluster.proxy.pool import JOIN_WITHIN_S, WAIT_S

    _, result = joining(pool)
    pool.clock.advance(WAIT_S - 0.1)
    pool.up("a")
    pool.clock.advance(JOIN_WITHIN_S - 0.1)
    pool.attempts[0].joined.callback("welcome")
    assert result == [(pool.attempts[0], "welcome")]


def test_one_that_comes_up_meanwhile_serves_all_who_wait(pool):
    results = [joining(pool)[1] for _ in range(3)]
    pool.clock.advance(2.0)
    pool.up("b")
    assert len(pool.attempts) == 3
    for session in pool.attempts:
        session.joined.callback("welcome")
    assert all(result and result[0][1] == "welcome" for result in results)


def test_a_refusal_is_waited_out_and_then_passed_on(pool):
    """The router may be about to start the realm, or to hear of this proxy."""
    from crossbar_cluster.node.handshake import Refused
    from crossbar_cluster.proxy.pool import WAIT_S, NoBackend

    pool.up("a")
    _, result = joining(pool)
    for _ in range(100):
        for session in pool.attempts:
            if not session.joined.called:
                fails(session, Refused("wamp.error.no_such_role", "no role"))
        if result:
            break
        pool.clock.advance(0.1)
    assert pool.clock.seconds() <= WAIT_S + 0.2
    assert 5 <= len(pool.attempts) <= 20, "again and again, and not all the time"
    assert isinstance(result[0].value, NoBackend)
    assert (result[0].value.reason, str(result[0].value)) == ("wamp.error.no_such_role", "no role")
    assert pool.backends.by_id["a"].is_up, "it has answered"


def joined_on(pool, backend_id):
    pool.up(backend_id)
    _, result = joining(pool)
    pool.attempts[-1].joined.callback("welcome")
    assert result
    return pool.attempts[-1]


def test_clients_of_a_backend_that_fails_twice_are_told(pool):
    from crossbar_cluster.node.handshake import Unreachable

    session = joined_on(pool, "a")
    backend = pool.backends.by_id["a"]
    pool.clock.advance(HEARD_FOR_S)
    pool.fails(backend.id, Unreachable("no answer"))
    assert session.lost is None
    pool.fails(backend.id, Unreachable("no answer"))
    assert session.lost == "the router does not answer any more"
    assert backend.state is State.SUSPECT
    assert "Backend a is lost: no answer" in pool._log.lines


def test_a_new_life_ends_the_sessions_of_the_former_one(pool):
    from crossbar_cluster.proxy.connections import life_of

    session = joined_on(pool, "a")
    pool.point("a", config("a"), same_life=True)
    assert session.lost is None
    pool.up("a")
    pool.point("a", config("a", life="2"), same_life=False)
    assert session.lost == "the router has been started anew"
    assert pool.backends.by_id["a"].state is State.CONNECTING
    assert life_of(pool.backends.by_id["a"].config) == "2"


def test_clients_of_a_router_that_is_not_used_any_more_leave_in_order(pool):
    session = joined_on(pool, "a")
    pool.follow_ids("b")
    assert session.dismissed == "the router does not serve this any more"
    assert session.lost is None, "the router may be well"


def test_clients_to_whom_no_route_leads_any_more_leave_as_soon_as_they_are_not_busy(pool):
    from crossbar_cluster.node.draining import LOOK_EACH_S
    from crossbar_cluster.proxy.pool import SETTLE_S

    idle, busy = joined_on(pool, "a"), joined_on(pool, "a")
    busy.is_busy = True
    pool.follow_ids("ab", routed="b")
    assert idle.dismissed is None, "the next router may be the next to go"
    pool.clock.advance(SETTLE_S)
    assert (idle.dismissed, busy.dismissed) == ("the router does not serve this any more", None)
    pool.ended(idle)
    assert pool.leaving() == {"a": {"realm1"}}
    pool.clock.advance(LOOK_EACH_S)
    assert busy.dismissed is None
    busy.is_busy, busy.transport = False, object()
    pool.clock.advance(LOOK_EACH_S)
    assert busy.dismissed == "the router does not serve this any more"
    pool.ended(busy)
    pool.clock.advance(LOOK_EACH_S)
    assert pool.leaving() == {"a": {"realm1"}}, "its connection stands: what it has sent may be on its way"
    busy.transport = None
    pool.clock.advance(LOOK_EACH_S)
    assert pool.leaving() == {}


def test_a_router_that_does_not_let_go_is_not_waited_for(pool):
    from crossbar_cluster.node.draining import GONE_WITHIN_S, LOOK_EACH_S
    from crossbar_cluster.proxy.pool import SETTLE_S

    idle = joined_on(pool, "a")
    idle.transport = object()
    pool.follow_ids("ab", routed="b")
    pool.clock.pump([LOOK_EACH_S] * int((SETTLE_S + GONE_WITHIN_S) / LOOK_EACH_S + 5))
    assert pool.leaving() == {}


def test_who_is_busy_all_the_time_leaves_in_the_end(pool, monkeypatch):
    monkeypatch.setenv("CROSSBAR_CLUSTER_DRAIN_SECONDS", "2")
    busy = joined_on(pool, "a")
    busy.is_busy = True
    pool.follow_ids("ab", routed="b")
    pool.clock.pump([0.1] * 23)
    assert busy.dismissed is None
    pool.clock.pump([0.1] * 4)
    assert busy.dismissed == "the router does not serve this any more"


def test_who_has_not_left_before_a_route_leads_there_again_stays(pool):
    busy = joined_on(pool, "a")
    busy.is_busy = True
    pool.follow_ids("ab", routed="b")
    pool.clock.pump([0.1] * 10)
    pool.follow_ids("ab")
    busy.is_busy = False
    pool.clock.pump([0.1] * 3)
    assert busy.dismissed is None
    assert pool.leaving() == {}


def test_whoever_is_busy_on_a_connection_that_is_stopped_leaves_at_once(pool):
    busy = joined_on(pool, "a")
    busy.is_busy = True
    pool.follow_ids("ab", routed="b")
    pool.follow_ids("b")
    assert busy.dismissed == "the router does not serve this any more"


def test_whoever_joins_where_no_route_leads_any_more_tries_the_next_one_at_once(pool):
    for backend_id in "ab":
        pool.up(backend_id)
    joining(pool)
    assert pool.attempts[0].backend.id == "a"
    pool.follow_ids("ab", routed="b")
    assert pool.attempts[0].joined.called
    assert [attempt.backend.id for attempt in pool.attempts] == ["a", "b"]


def test_nobody_joins_where_no_route_leads_any_more_because_it_has_tried_another_first(pool):
    for backend_id in "ab":
        pool.up(backend_id)
    _, result = joining(pool)
    pool.follow_ids("ab", routed="")
    assert [attempt.backend.id for attempt in pool.attempts] == ["a"]
    assert result, "and is told"


def test_nobody_joins_on_a_backend_that_has_gone_meanwhile(pool):
    from crossbar_cluster.node.handshake import Unreachable

    for backend_id in "ab":
        pool.up(backend_id)
    joining(pool)
    pool.follow_ids("a")
    fails(pool.attempts[0], Unreachable("refused"))
    assert [attempt.backend.id for attempt in pool.attempts] == ["a"]


def test_a_client_that_leaves_while_it_joins_leaves_nothing_behind(pool):
    pool.up("a")
    work, result = joining(pool)
    work.cancel()
    assert result[0].check(CancelledError)
    assert pool.attempts[0].disconnected
    assert pool.describe()["a"]["clients"] == 0
    assert not pool._waiting


def test_a_client_that_leaves_while_it_waits_leaves_nothing_behind(pool):
    work, result = joining(pool)
    work.cancel()
    assert result[0].check(CancelledError)
    assert not pool._waiting


def test_a_realm_that_is_gone_is_not_waited_for(pool):
    from crossbar_cluster.proxy.pool import NoBackend

    _, result = joining(pool)
    pool.follow({}, {})
    assert isinstance(result[0].value, NoBackend)


def test_only_a_new_worker_waits_to_hear_of_a_realm(pool):
    from crossbar_cluster.proxy.pool import NEW_S, WAIT_S

    told = []
    Deferred.fromCoroutine(pool.routed("realm2")).addCallback(told.append)
    assert not told
    pool.clock.advance(WAIT_S)
    assert told == [None]
    Deferred.fromCoroutine(pool.routed("realm1")).addCallback(told.append)
    assert len(told) == 2, "it is known"
    pool.clock.advance(NEW_S)
    Deferred.fromCoroutine(pool.routed("realm2")).addCallback(told.append)
    assert len(told) == 3, "by now it would have been told of"


def test_whoever_joins_on_a_backend_that_is_lost_tries_the_next_one_at_once(pool):
    from crossbar_cluster.node.handshake import Unreachable

    for backend_id in "ab":
        pool.up(backend_id)
    pool.clock.advance(HEARD_FOR_S)
    _, result = joining(pool)
    assert pool.attempts[0].backend.id == "a"
    for _ in range(2):
        pool.fails("a", Unreachable("no answer"))
    assert pool.attempts[1].backend.id == "b"
    pool.attempts[1].joined.callback("welcome")
    assert result
    assert not any(pool._joining_on.values())


def test_an_attempt_at_a_former_address_says_nothing_about_the_new_one(pool):
    pool.up("a")
    joining(pool)
    pool.point("a", config("a", life="2"), same_life=False)
    assert pool.attempts[0].joined.called
    assert pool.backends.by_id["a"].failures == 0
    pool.up("a")
    assert len(pool.attempts) == 1, "one client does not storm a router"
    pool.clock.advance(0.5)
    assert len(pool.attempts) == 2


def test_clients_whose_attempts_fail_come_back_ever_later_and_not_all_at_once(pool):
    from crossbar_cluster.node.handshake import Unreachable

    pool.follow_ids("a")
    pool.up("a")
    for _ in range(20):
        joining(pool)
    at = []
    for _ in range(480):
        for attempt in pool.attempts:
            if not attempt.joined.called:
                at.append(pool.clock.seconds())
                fails(attempt, Unreachable("no room"))
        pool.clock.advance(0.01)
    rounds = [at[i : i + 20] for i in range(0, len(at) - 19, 20)]
    assert len(at) <= 20 * 6, "with pauses of the same length it were 12 each"
    assert len({round(second_s, 2) for second_s in rounds[1]}) > 5
    assert max(rounds[1]) - rounds[0][0] <= 0.5, "the second attempt comes soon"


def test_a_later_attempt_that_cannot_even_begin_ends_the_clients_wait(pool):
    from crossbar_cluster.node.handshake import Unreachable

    for backend_id in "ab":
        pool.up(backend_id)
    connect = pool._connect

    def broken(backend, session):
        if backend.id == "b":
            raise ValueError("a configuration without sense")
        connect(backend, session)

    pool._connect = broken
    _, result = joining(pool)
    fails(pool.attempts[0], Unreachable("refused"))
    assert result and result[0].check(ValueError)
    assert not any(pool._joining_on.values())
    _, result = joining(pool)  # it is b's turn
    assert result and result[0].check(ValueError)
    assert not any(pool._joining_on.values())


def test_an_attempt_that_cannot_begin_beside_another_one_ends_that_too(pool):
    from crossbar_cluster.proxy.race import RIVAL_AFTER_S

    for backend_id in "ab":
        pool.up(backend_id)
    _, result = joining(pool)

    def broken(backend, session):
        raise ValueError("a configuration without sense")

    pool._connect = broken
    pool.clock.advance(RIVAL_AFTER_S)
    assert result and result[0].check(ValueError)
    assert pool.attempts[0].disconnected
    assert not any(pool._joining_on.values())
