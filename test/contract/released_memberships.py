"""Nodes that join clusters by themselves, in real databases, with the release's schemas and managers of clusters."""

import asyncio
import inspect
import uuid
from types import SimpleNamespace

import pytest
import zlmdb
from autobahn.wamp.exception import ApplicationError
from autobahn.wamp.request import Registration
from autobahn.wamp.types import CallDetails
from cfxdb.globalschema import GlobalSchema
from cfxdb.mrealm import Node
from cfxdb.mrealmschema import MrealmSchema
from cfxdb.user import User

from crossbar_cluster.control.memberships import Memberships

MREALM = uuid.uuid4()
DETAILS = CallDetails(Registration(None, 1, "test", None), caller=1, caller_authid="superuser", caller_authrole="owner")


class World:
    """Databases, the release's (patched) managers on them, and what they have published."""

    def __init__(self, gdb, db):
        from crossbar.master.cluster.routercluster import RouterClusterManager
        from crossbar.master.cluster.webcluster import WebClusterManager

        self.gdb, self.gschema = gdb, GlobalSchema.attach(gdb)
        self.db, self.schema = db, MrealmSchema.attach(db)
        self.published, self.writes = [], 0
        session = SimpleNamespace(
            config=SimpleNamespace(controller=SimpleNamespace(personality=None, _reactor=None)),
            _mrealm_oid=MREALM,
            publish=self._publish,
            nodes={},
        )
        databases = (gdb, self.gschema, db, self.schema)
        self.routers = RouterClusterManager(session, *databases)
        self.webs = WebClusterManager(session, *databases)
        self.routers._prefix, self.webs._prefix = "routercluster", "webcluster"
        self.memberships = Memberships(self, self.schema, gdb, self.gschema, MREALM)
        user = User()
        user.oid, user.email, user.pubkey = uuid.uuid4(), "superuser", "00" * 32
        with gdb.begin(write=True) as txn:
            self.gschema.users[txn, user.oid] = user

    def begin(self, write=False):
        self.writes += write
        return self.db.begin(write=write)

    def attach_table(self, table):
        return self.db.attach_table(table)

    async def _publish(self, topic, payload, options=None):
        self.published.append(topic)

    def call(self, manager, procedure, *args):
        result = getattr(manager, procedure)(*args, details=DETAILS)
        return asyncio.run(result) if inspect.isawaitable(result) else result

    def router_cluster(self):
        return self.call(self.routers, "create_routercluster", {"name": "routers"})["oid"]

    def web_cluster(self):
        return self.call(self.webs, "create_webcluster", {"name": "web", "tcp_port": 8080})["oid"]

    def node(self, name):
        node = Node(oid=uuid.uuid4(), pubkey=uuid.uuid4().hex * 2, mrealm_oid=MREALM, authid=name)
        with self.gdb.begin(write=True) as txn:
            self.gschema.nodes[txn, node.oid] = node
        return node.oid

    def settle(self):
        return [str(joined) for joined in self.memberships.settle()]

    def expected_rows(self):
        with self.db.begin() as txn:
            return list(self.memberships._expected.select(txn, return_values=False))


@pytest.fixture
def world(tmp_path):
    with (
        zlmdb.Database.open(str(tmp_path / "global"), maxsize=2**24) as gdb,
        zlmdb.Database.open(str(tmp_path / "mrealm"), maxsize=2**24) as db,
    ):
        yield World(gdb, db)


def test_nodes_that_are_expected_join_when_they_are_paired(world):
    web = world.web_cluster()
    world.node("proxy-a")
    rules = {"proxy-*": {"parallel": 2}, "proxy-big": {"parallel": 4}}
    world.call(world.webs, "expect_nodes", web, rules)
    assert world.published[-1] == "webcluster.on_webcluster_nodes_expected"
    assert world.settle() == ["Node proxy-a has joined web cluster web, which expects it"]
    assert world.call(world.webs, "list_webcluster_nodes", web, True) == ["proxy-a"]
    big, _ = world.node("proxy-big"), world.node("router-a")
    assert world.settle() == ["Node proxy-big has joined web cluster web, which expects it"]
    assert world.call(world.webs, "get_webcluster_node", web, str(big))["parallel"] == 4, "a name goes before a pattern"
    assert world.call(world.webs, "get_expected_nodes", web) == rules


def test_limits_of_routers_are_those_of_their_rule(world):
    routers = world.router_cluster()
    world.call(world.routers, "expect_nodes", routers, {"router-*": {"softlimit": None, "hardlimit": 3}})
    oid = world.node("router-a")
    assert world.settle() == ["Node router-a has joined router cluster routers, which expects it"]
    membership = world.call(world.routers, "get_routercluster_node", routers, str(oid))
    assert (membership["softlimit"], membership["hardlimit"], membership["drained"]) == (None, 3, False)


def test_who_is_a_member_stays_what_it_is_and_nothing_is_written(world):
    web, oid = world.web_cluster(), world.node("proxy-a")
    world.call(world.webs, "add_webcluster_node", web, str(oid), {"parallel": 3})
    world.call(world.webs, "expect_nodes", web, {"proxy-*": {"parallel": 1}})
    world.writes = 0
    assert world.settle() == []
    assert world.writes == 0
    assert world.call(world.webs, "get_webcluster_node", web, str(oid))["parallel"] == 3
    world.call(world.webs, "expect_nodes", web, {})
    assert world.settle() == []
    assert world.call(world.webs, "list_webcluster_nodes", web, True) == ["proxy-a"]


def test_a_cluster_that_is_deleted_expects_nobody(world):
    routers = world.router_cluster()
    world.call(world.routers, "expect_nodes", routers, {"router-*": {}})
    assert len(world.expected_rows()) == 1
    world.call(world.routers, "delete_routercluster", routers)
    world.node("router-a")
    assert world.settle() == []
    assert world.expected_rows() == []


@pytest.mark.parametrize(
    "rules",
    [{"proxy-*": {"paralel": 1}}, {"proxy-*": {"parallel": 0}}, {"": {}}, {"proxy-*": None}, {"a": {"parallel": "1"}}],
)
def test_what_makes_no_sense_is_refused_and_changes_nothing(world, rules):
    web = world.web_cluster()
    world.call(world.webs, "expect_nodes", web, {"one": {}})
    with pytest.raises(ApplicationError) as refused:
        world.call(world.webs, "expect_nodes", web, rules)
    assert refused.value.error == "wamp.error.invalid_argument"
    assert world.call(world.webs, "get_expected_nodes", web) == {"one": {}}


def test_the_release_reads_a_database_in_which_nodes_are_expected(tmp_path):
    """What it would do after the package has been uninstalled: its schema, and nothing of ours."""
    with (
        zlmdb.Database.open(str(tmp_path / "global"), maxsize=2**24) as gdb,
        zlmdb.Database.open(str(tmp_path / "mrealm"), maxsize=2**24) as db,
    ):
        world = World(gdb, db)
        web = world.web_cluster()
        world.call(world.webs, "expect_nodes", web, {"proxy-*": {}})
    with zlmdb.Database.open(str(tmp_path / "mrealm"), maxsize=2**24) as db:
        schema = MrealmSchema.attach(db)
        with db.begin(write=True) as txn:
            cluster = schema.webclusters[txn, uuid.UUID(web)]
            assert cluster.name == "web"
            cluster.name = "web2"
            schema.webclusters[txn, cluster.oid] = cluster
        with db.begin() as txn:
            assert [c.name for c in schema.webclusters.select(txn, return_keys=False)] == ["web2"]


def test_a_cluster_that_is_not_there_expects_nobody(world):
    with pytest.raises(ApplicationError) as refused:
        world.call(world.webs, "expect_nodes", str(uuid.uuid4()), {"proxy-*": {}})
    assert refused.value.error == "crossbar.error.no_such_object"
