"""Which nodes are there and what runs on them: what the control plane is told, by events and by the list."""

from types import SimpleNamespace
from uuid import UUID

from twisted.internet.defer import Deferred, fail, succeed

from crossbar_cluster.control.configuration import NodeRecord
from crossbar_cluster.control.nodes import NodeCallFailed
from crossbar_cluster.control.presence import NodePresence

OIDS = {"router1": UUID(int=1), "proxy1": UUID(int=2)}


class Realm:
    """A management realm: who is paired, who has which session, what runs where; and what the listener was told."""

    def __init__(self) -> None:
        self.sessions: dict[int, str] = {}
        self.workers = {"router": ["group_1", "byhand"], "proxy": ["cpw-1-0"]}
        self.callable = True
        self.told: list[tuple] = []
        self.presence = NodePresence(self, self, self, SimpleNamespace(info=self._ignore, debug=self._ignore))

    def _ignore(self, *args, **kwargs) -> None:
        pass

    # -- the database

    def oid_of(self, authid):
        return OIDS.get(authid)

    def read_node(self, oid):
        name = next(name for name, known in OIDS.items() if known == oid)
        return NodeRecord(oid, name, "aa", "10.0.0.1", None, None)

    # -- calls

    async def master(self, procedure, *args):
        if procedure == "wamp.session.list":
            return list(self.sessions)
        return {"authid": self.sessions[args[0]], "authrole": "node"}

    def node(self, node, procedure, types):
        if not self.callable:
            return fail(NodeCallFailed(node, procedure, "wamp.error.no_such_procedure", "not yet"))
        return succeed(self.workers[types[0]])

    # -- the listener

    def look_at(self, node, quiet_s, *, is_news):
        self.told.append(("look", node.name, is_news))

    def node_began(self, node_oid):
        self.told.append(("began", node_oid.int))

    def node_ended(self, node_oid):
        self.told.append(("ended", node_oid.int))

    def workers_found(self, node, routers, proxies):
        self.told.append(("found", node.name, list(routers), list(proxies)))

    def take(self):
        told, self.told = self.told, []
        return told


def done(coroutine):
    result = []
    Deferred.fromCoroutine(coroutine).addBoth(result.append)
    assert result, "it waits for something"
    return result[0]


def test_a_node_comes_and_goes():
    realm = Realm()
    realm.callable = False
    assert realm.presence.joined(1, "router1") == OIDS["router1"]
    assert realm.take() == [("began", 1), ("look", "router1", True)]
    assert realm.presence.is_online("router1") and not realm.presence.is_discovered(OIDS["router1"])
    realm.callable = True
    realm.presence.registered("router1")
    assert realm.take() == [("look", "router1", True), ("found", "router1", ["group_1", "byhand"], ["cpw-1-0"])]
    assert realm.presence.is_discovered(OIDS["router1"])
    realm.presence.registered("router1")
    assert realm.take() == [("look", "router1", True)], "it is asked once"
    assert realm.presence.left(1) == OIDS["router1"]
    assert realm.take() == [("ended", 1)]
    assert not realm.presence.is_online("router1")


def test_a_second_session_is_looked_at_and_its_end_is_not_the_nodes():
    realm = Realm()
    realm.presence.joined(1, "router1")
    realm.presence.registered("router1")
    realm.take()
    assert realm.presence.joined(2, "router1") is None, "it was online"
    told = realm.take()
    assert told[:2] == [("began", 1), ("look", "router1", True)], "it may be a node that has booted anew"
    assert told[2][0] == "found", "it may register nothing anew"
    assert realm.presence.left(1) is None
    assert realm.take() == []


def test_the_end_of_a_node_that_is_unpaired_is_told(monkeypatch):
    realm = Realm()
    realm.presence.joined(1, "router1")
    realm.take()
    oid = OIDS["router1"]
    monkeypatch.delitem(OIDS, "router1")  # it has no name any more
    assert realm.presence.left(1) == oid
    assert realm.take() == [("ended", 1)]


def test_who_is_not_paired_is_nobody():
    realm = Realm()
    assert realm.presence.joined(1, "stranger") is None
    realm.presence.something_ended("stranger")
    realm.presence.registered("stranger")
    assert realm.take() == []
    assert realm.presence.left(1) is None


def test_that_something_has_ended_does_not_make_failures_forgotten():
    realm = Realm()
    realm.presence.something_ended("proxy1")
    assert realm.take() == [("look", "proxy1", False)]


def test_the_list_finds_who_joined_and_left_unheard():
    realm = Realm()
    realm.presence.joined(1, "router1")
    realm.take()
    realm.sessions = {2: "proxy1", 3: "stranger"}
    came, gone = done(realm.presence.catch_up())
    assert came == [(OIDS["proxy1"], "proxy1")]
    assert gone == [(OIDS["router1"], "router1")]
    assert ("found", "proxy1", ["group_1", "byhand"], ["cpw-1-0"]) in realm.take()
