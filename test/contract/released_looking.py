"""What a proxy makes of looks that fail: it asks itself first. Time and connections are in the test's hands."""

import errno
import socket
import struct
import threading
from types import SimpleNamespace

import pytest
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import (
    ConnectBindError,
    ConnectError,
    ConnectionLost,
    ConnectionRefusedError,
    DNSLookupError,
)
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

KEY = ("realm1", "anonymous")
HOSTS = {"a": "127.0.0.1", "b": "127.0.0.2"}


class Log:
    def __init__(self):
        self.lines = []

    def info(self, text, **values):
        self.lines.append(text.format(**values))

    warn = error = info


class Session:
    """A client's session on a backend, joined at once."""

    def __init__(self, backend):
        self.backend = backend
        self.joined = Deferred()
        self.lost = None
        self.is_busy = False
        self.client = self.transport = object()

    def connect(self, connection):
        connection.addErrback(lambda _: None)
        self.joined.callback("welcome")

    def give_up(self):
        pass

    def disconnect(self):
        pass

    def lose(self, why):
        self.lost = why


class Network:
    """What becomes of connections, by host: hang, or an error."""

    def __init__(self):
        self.errors = {}
        self.tried = []

    def endpoint(self, reactor, config):
        def connect(factory):
            self.tried.append(config["host"])
            error = self.errors.get(config["host"])
            if callable(error):
                return error(factory)
            return fail(error) if error else Deferred()

        return SimpleNamespace(connect=connect)


@pytest.fixture
def network(monkeypatch):
    from crossbar.worker import proxy

    found = Network()
    monkeypatch.setattr(proxy, "_create_transport_endpoint", found.endpoint)
    return found


@pytest.fixture
def pool(tmp_path, network):
    from crossbar_cluster.proxy.pool import BackendPool

    (tmp_path / "key.priv").write_text(f"private-key-ed25519: {'11' * 32}\n")
    controller = SimpleNamespace(
        log=Log(), node_id="proxy1", _cbdir=str(tmp_path), _uri_prefix="x", publish=lambda *args: None
    )
    pool = BackendPool(controller, Clock())
    pool.clock = pool._reactor

    async def answers(backend):
        return None

    pool.looks._try = answers
    follow(pool, "ab")
    del pool.looks._try
    return pool


def follow(pool, ids, keys=(KEY,)):
    connections = {i: SimpleNamespace(id=i, config=config(i)) for i in ids}
    pool.follow(connections, {key: [connections[i] for i in ids] for key in keys})


def config(worker):
    return {
        "transport": {
            "type": "rawsocket",
            "serializer": "cbor",
            "url": f"rs://{HOSTS[worker]}:1",
            "endpoint": {"type": "tcp", "host": HOSTS[worker], "port": 1},
        },
        "auth": {"cryptosign-proxy": {"type": "static"}},
        "router": {"node": "router1", "worker": worker, "pubkey": "aa" * 32, "life": "1"},
    }


def joined_on(pool, *backend_ids):
    """A client on each of them, all of which have just answered."""
    from crossbar_cluster.node.handshake import Principal

    result = []
    for _ in pool.backends.by_id:
        work = Deferred.fromCoroutine(pool.join(Principal(*KEY[:1], "x", KEY[1]), lambda b, _: Session(b)))
        work.addCallback(result.append)
    sessions = {session.backend.id: session for session, _ in result}
    return {backend_id: sessions[backend_id] for backend_id in backend_ids}


def passes(pool, seconds, each_s=0.05):
    pool.clock.pump([each_s] * round(seconds / each_s))


OWN = {
    "descriptors": ConnectBindError(errno.EMFILE, "Too many open files"),
    "the system's descriptors": ConnectBindError(errno.ENFILE, "Too many open files in system"),
    "ports": ConnectError(errno.EADDRNOTAVAIL, "Cannot assign requested address"),
    "buffers": ConnectError(errno.ENOBUFS, "No buffer space available"),
    "memory": ConnectError(errno.ENOMEM, "Cannot allocate memory"),
    "the packet filter": ConnectError(errno.EPERM, "Operation not permitted"),
    "the name server": DNSLookupError("no results for hostname lookup: router1"),
}


@pytest.mark.parametrize("kind", OWN)
def test_what_this_host_lacks_is_no_fault_of_a_router(pool, network, kind):
    sessions = joined_on(pool, "a")
    network.errors["127.0.0.1"] = OWN[kind]
    before, tried = len(pool._log.lines), len(network.tried)
    passes(pool, 50)
    assert len(network.tried) - tried > 20, "it is looked at again and again"
    assert sessions["a"].lost is None
    assert pool.describe()["a"]["state"] == "up"
    ours = [line for line in pool._log.lines[before:] if line.startswith("Backend a")]
    assert len(ours) == 1 and "not to blame" in ours[0], "told once a minute at most"
    assert pool.troubles(), "and it is not ready meanwhile"
    network.errors["127.0.0.1"] = ConnectionRefusedError(errno.ECONNREFUSED, "refused")
    passes(pool, 9)
    assert sessions["a"].lost == "the router does not answer any more", "that is about the router"
    assert not pool.troubles()


def test_a_router_that_is_heard_of_is_there_whatever_looks_find(pool):
    """It is too busy for new connections: those that stand say more."""
    follow(pool, "a")
    sessions = joined_on(pool, "a")
    passes(pool, 4.0)  # a look has begun, which is not answered
    for _ in range(20):
        pool.backends.by_id["a"].heard_s = pool.clock.seconds()
        passes(pool, 1.0)
    assert sessions["a"].lost is None
    passes(pool, 9)
    assert sessions["a"].lost, "now it is silent"


def test_a_silent_router_is_given_up_although_another_one_has_just_been_heard_of(pool, network):
    """It is asked whether that one can be reached anew: whoever has just been heard of would not be looked at."""
    follow(pool, "ab")
    sessions = joined_on(pool, "a", "b")
    looks, real = [], pool.looks._try

    async def b_answers(backend):
        looks.append(backend.id)
        if backend.id == "a":
            await real(backend)

    pool.looks._try = b_answers
    for _ in range(9 * 20):
        passes(pool, 0.05)
        pool.backends.by_id["b"].heard_s = pool.clock.seconds()
    assert sessions["a"].lost and not sessions["b"].lost
    assert "b" in looks
    assert not pool.troubles()


def test_when_all_routers_on_different_hosts_fall_silent_at_once_whoever_is_joined_stays_for_a_while(pool):
    from crossbar_cluster.core.backends import HOLD_S

    sessions = joined_on(pool, "a", "b")
    passes(pool, 30)
    assert not any(session.lost for session in sessions.values())
    assert {backend["state"] for backend in pool.describe().values()} == {"suspect"}, "nobody new is sent there"
    assert any("at the same moment" in trouble for trouble in pool.troubles())
    passes(pool, HOLD_S)
    assert all(session.lost for session in sessions.values()), "it has an end"


def test_a_router_that_has_no_room_for_new_connections_keeps_those_it_has(pool):
    """As one that is out of descriptors: it closes them as they come."""
    from crossbar_cluster.node.attempt import TurnedAway

    follow(pool, "a")
    sessions = joined_on(pool, "a")

    async def is_closed(backend):
        raise TurnedAway("the connection was closed")

    pool.looks._try = is_closed
    passes(pool, 30)
    assert sessions["a"].lost is None
    assert pool.describe()["a"]["state"] == "suspect", "nobody new is sent there"
    del pool.looks._try
    passes(pool, 9)
    assert sessions["a"].lost, "now it does not answer at all"


def accepted(factory):
    protocol = factory.buildProtocol(None)
    protocol.makeConnection(StringTransport())
    return protocol


def lost_before_rawsocket(factory):
    protocol = accepted(factory)
    standing = succeed(protocol)
    protocol.connectionLost(Failure(ConnectionLost()))
    return standing


def lost_before_welcome(factory):
    protocol = accepted(factory)
    protocol.dataReceived(bytes([0x7F, 0xF3, 0, 0]))  # CBOR
    assert protocol.transport.value()[4:], "HELLO has been sent"
    standing = succeed(protocol)
    protocol.connectionLost(Failure(ConnectionLost()))
    return standing


AWAY = {
    "reset": ConnectError(errno.ECONNRESET, "Connection reset by peer"),
    "lost while connecting": ConnectionLost(),
    "lost before RawSocket's handshake is done": lost_before_rawsocket,
    "lost before WAMP's handshake is done": lost_before_welcome,
}


@pytest.mark.parametrize("kind", AWAY)
def test_who_closes_or_resets_new_connections_is_there(pool, network, kind):
    follow(pool, "a")
    sessions = joined_on(pool, "a")
    network.errors["127.0.0.1"] = AWAY[kind]
    passes(pool, 30)
    assert sessions["a"].lost is None
    assert pool.describe()["a"]["state"] == "suspect", "nobody new is sent there"
    del network.errors["127.0.0.1"]
    passes(pool, 2.6)
    assert sessions["a"].lost is None, "one look that is not answered says no more than before"
    network.errors["127.0.0.1"] = ConnectionRefusedError(errno.ECONNREFUSED, "refused")
    passes(pool, 3)
    assert sessions["a"].lost, "now its process has ended"


@pytest.mark.parametrize("kind", ["refused", "reset"])
def test_a_router_that_clients_cannot_reach_is_looked_at_however_much_is_heard_of_it(pool, network, kind):
    """By those who are on it already. But not for each client."""
    from crossbar_cluster.node.attempt import TurnedAway
    from crossbar_cluster.node.handshake import Unreachable

    follow(pool, "a")
    backend, looks = pool.backends.by_id["a"], []

    async def reachable(backend):
        looks.append(pool.clock.seconds())

    pool.looks._try = reachable
    for _ in range(6 * 20):
        backend.heard_s = pool.clock.seconds()
        for _ in range(10):
            pool._learn(backend, Unreachable("refused") if kind == "refused" else TurnedAway("closed"))
        passes(pool, 0.05)
    assert 2 <= len(looks) <= 3
    assert looks[0] == 0.0, "at once"


def test_a_router_that_is_alone_is_given_up_within_nine_seconds(pool):
    follow(pool, "a")
    sessions = joined_on(pool, "a")
    passes(pool, 9)
    assert sessions["a"].lost


def test_a_look_during_which_this_process_was_late_says_nothing_of_others(pool):
    from crossbar_cluster.node.watchdog import loop_of

    loop_of(pool.clock).watch(Log(), observe=False)
    follow(pool, "a")
    sessions = joined_on(pool, "a")
    passes(pool, 3.5)  # a look has begun
    for _ in range(3):
        pool.clock.advance(4.0)  # nothing else is done meanwhile
        passes(pool, 0.5)  # the next one
    assert sessions["a"].lost is None
    assert pool.backends.by_id["a"].is_up and not pool.backends.by_id["a"].failures
    passes(pool, 9)
    assert sessions["a"].lost, "now it is late no more"


def test_a_loop_that_is_late_all_the_time_is_no_excuse_for_ever(pool):
    from crossbar_cluster.node.watchdog import loop_of

    loop_of(pool.clock).watch(Log(), observe=False)
    follow(pool, "a")
    sessions = joined_on(pool, "a")
    for _ in range(60):
        pool.clock.advance(1.0)
    assert sessions["a"].lost


# -- who is woken ----------------------------------------------------------------------------------------------------

OTHER = ("realm2", "anonymous")


@pytest.fixture
def attempts(pool, monkeypatch):
    """How often clients have looked whether anybody is there for them: realm -> times."""
    counts = {}
    in_turn = pool.backends.in_turn

    def counted(realm, role):
        counts[realm] = counts.get(realm, 0) + 1
        return in_turn(realm, role)

    monkeypatch.setattr(pool.backends, "in_turn", counted)
    return counts


def nobody_is_up(pool):
    for backend in pool.backends.by_id.values():
        pool.backends.point(backend.id, backend.config)
        pool.looks.soon(backend.id)


def wait(pool, key, count):
    from crossbar_cluster.node.handshake import Principal

    for _ in range(count):
        work = Deferred.fromCoroutine(pool.join(Principal(key[0], "x", key[1]), lambda b, _: Session(b)))
        work.addErrback(lambda _: None)


def test_looks_that_change_nothing_wake_nobody(pool, network, attempts):
    network.errors["127.0.0.1"] = network.errors["127.0.0.2"] = ConnectionRefusedError()
    nobody_is_up(pool)
    wait(pool, KEY, 500)
    assert attempts == {"realm1": 500}
    tried = len(network.tried)
    passes(pool, 4.5)
    assert len(network.tried) - tried >= 8, "looks there were"
    assert attempts == {"realm1": 500}


def test_a_backend_that_comes_up_wakes_those_that_it_is_for(pool, attempts):
    connections = {i: SimpleNamespace(id=i, config=config(i)) for i in "ab"}
    pool.follow(connections, {KEY: [connections["a"]], OTHER: [connections["b"]]})
    nobody_is_up(pool)
    wait(pool, KEY, 20)
    wait(pool, OTHER, 20)
    pool.looks._up(pool.backends.by_id["a"])
    assert attempts == {"realm1": 40, "realm2": 20}
    pool.follow(connections, {KEY: [connections["a"]], OTHER: [connections["a"], connections["b"]]})
    assert attempts == {"realm1": 40, "realm2": 40}, "the routes of one have changed"
    pool.follow(connections, {KEY: [connections["a"]], OTHER: [connections["a"], connections["b"]]})
    assert attempts == {"realm1": 40, "realm2": 40}, "nothing has"
    pool.close()
    assert not pool._waiting._waiting, "whoever is woken for good leaves nothing behind"


def test_a_router_that_says_that_it_ends_gets_nobody_new_at_once(pool, network):
    from crossbar.router.auth.pending import Deny  # noqa: F401  (the release is there)

    from crossbar_cluster.core.backends import ENDING, UNAVAILABLE
    from crossbar_cluster.node.handshake import Refused

    sessions = joined_on(pool, "a", "b")
    refusal = Refused(UNAVAILABLE, f"{ENDING}: try another one")
    assert pool.looks.is_ending(refusal)
    assert not pool.looks.is_ending(Refused(UNAVAILABLE, "this router is about to be linked with x: try again"))
    pool._learn(pool.backends.by_id["a"], refusal)
    assert [backend.id for backend in pool.backends.in_turn(*KEY)] == ["b"]
    passes(pool, 2.0)
    assert [backend.id for backend in pool.backends.in_turn(*KEY)] == ["b"]
    assert sessions["a"].lost is None


def test_routers_say_it_in_these_words():
    import inspect

    from crossbar_cluster.core.backends import ENDING
    from crossbar_cluster.node import backend_auth

    assert f'"{ENDING}: ' in inspect.getsource(backend_auth)


# -- what the kernel says ----------------------------------------------------------------------------------------------


def told_of(port):
    """What an attempt at a port of this host is told. :returns: its NotJoined."""
    import time

    from autobahn.twisted.rawsocket import WampRawSocketClientFactory
    from autobahn.wamp.serializer import CBORSerializer
    from twisted.internet import reactor
    from twisted.internet.endpoints import TCP4ClientEndpoint

    from crossbar_cluster.node.attempt import Attempt

    told, deadline_s = [], time.monotonic() + 10
    factory = WampRawSocketClientFactory(lambda: None, CBORSerializer())
    Attempt(told.append).begin(TCP4ClientEndpoint(reactor, "127.0.0.1", port, timeout=5).connect(factory))
    while not told and time.monotonic() < deadline_s:
        reactor.iterate(0.01)
    return told[0]


@pytest.mark.parametrize("how", ["closed", "reset"])
def test_whoever_accepts_and_ends_it_is_there(how):
    from crossbar_cluster.node.attempt import TurnedAway

    def accept_and_end():
        connection, _ = port.accept()
        if how == "reset":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()

    with socket.create_server(("127.0.0.1", 0)) as port:
        accepting = threading.Thread(target=accept_and_end)
        accepting.start()
        assert isinstance(told_of(port.getsockname()[1]), TurnedAway)
        accepting.join()


def test_where_a_process_has_ended_nobody_is():
    from crossbar_cluster.node.attempt import TurnedAway
    from crossbar_cluster.node.handshake import Unreachable

    with socket.create_server(("127.0.0.1", 0)) as port:
        number = port.getsockname()[1]
    told = told_of(number)
    assert isinstance(told, Unreachable) and not isinstance(told, TurnedAway)
