"""Placements in real databases, with the release's schemas, its manager of router clusters, and its registration."""

import asyncio
import inspect
import uuid
from types import SimpleNamespace

import pytest
import zlmdb
from autobahn.twisted.wamp import ApplicationSession
from autobahn.wamp.exception import ApplicationError, TypeCheckError
from autobahn.wamp.types import RegisterOptions
from cfxdb.globalschema import GlobalSchema
from cfxdb.mrealm import ApplicationRealm, Node, RouterClusterNodeMembership, WorkerGroupStatus
from cfxdb.mrealmschema import MrealmSchema
from cfxdb.user import User

from crossbar_cluster.control.placements import Placements, drained_limit, undrained_limit
from crossbar_cluster.core.placement import InvalidMove, NoCapacity

MREALM, OTHER_MREALM = uuid.uuid4(), uuid.uuid4()
OWNER = "superuser"
DETAILS = SimpleNamespace(caller_authid=OWNER, caller=1, caller_authrole="owner")
PREFIX = "crossbarfabriccenter.mrealm.routercluster"


class World:
    """Databases, the release's (patched) manager on them, and what it has published."""

    def __init__(self, gdb, db):
        from crossbar.master.cluster.routercluster import RouterClusterManager

        self.gdb, self.gschema = gdb, GlobalSchema.attach(gdb)
        self.db, self.schema = db, MrealmSchema.attach(db)
        self.published, self.writes = [], 0
        controller = SimpleNamespace(personality=None, _reactor=None)
        session = SimpleNamespace(
            config=SimpleNamespace(controller=controller), _mrealm_oid=MREALM, publish=self._publish, nodes={}
        )
        self.manager = RouterClusterManager(session, gdb, self.gschema, db, self.schema)
        self.manager._prefix = PREFIX
        self.placements = Placements(self, self.schema, gdb, self.gschema, MREALM)
        user = User()
        user.oid, user.email, user.pubkey = uuid.uuid4(), OWNER, "00" * 32
        with gdb.begin(write=True) as txn:
            self.gschema.users[txn, user.oid] = user

    def begin(self, write=False):
        self.writes += write
        return self.db.begin(write=write)

    async def _publish(self, topic, payload, options=None):
        self.published.append((topic.removeprefix(f"{PREFIX}."), payload))

    def call(self, procedure, *args):
        result = getattr(self.manager, procedure)(*args, details=DETAILS)
        return asyncio.run(result) if inspect.isawaitable(result) else result

    def node(self, name, mrealm_oid=MREALM):
        node = Node(oid=uuid.uuid4(), pubkey=uuid.uuid4().hex * 2, mrealm_oid=mrealm_oid, authid=name)
        with self.gdb.begin(write=True) as txn:
            self.gschema.nodes[txn, node.oid] = node
        return node.oid

    def unpair(self, oid):
        with self.gdb.begin(write=True) as txn:
            node = self.gschema.nodes[txn, oid]
            node.mrealm_oid = node.authid = node.authextra = None
            self.gschema.nodes[txn, oid] = node

    def cluster(self, *nodes, name="cluster1"):
        oid = self.call("create_routercluster", {"name": name})["oid"]
        for node in nodes:
            self.call("add_routercluster_node", oid, str(node), {})
        return oid

    def group(self, cluster, name="group1", scale=1):
        return self.call("add_routercluster_workergroup", cluster, {"name": name, "scale": scale})["oid"]

    def realm(self, group, status, name="realm1"):
        realm = ApplicationRealm(oid=uuid.uuid4(), name=name, status=status, workergroup_oid=uuid.UUID(group))
        with self.db.begin(write=True) as txn:
            self.schema.arealms[txn, realm.oid] = realm
        return realm.oid

    def change(self, table, key, **values):
        table = getattr(self.schema, table)
        with self.db.begin(write=True) as txn:
            record = table[txn, key]
            for name, value in values.items():
                setattr(record, name, value)
            table[txn, key] = record

    def drop(self, table, key):
        with self.db.begin(write=True) as txn:
            del getattr(self.schema, table)[txn, key]

    def keys(self, table):
        with self.db.begin() as txn:
            return list(getattr(self.schema, table).select(txn, return_values=False))

    def placed(self):
        with self.db.begin() as txn:
            return list(self.schema.router_workergroup_placements.select(txn, return_keys=False))

    def layout(self):
        """Worker -> name of its node; the indexes have been found to say the same as the table."""
        placed = self.placed()
        with self.db.begin() as txn:
            by_name = list(self.schema.idx_clusterplacement_by_workername.select(txn))
            by_node = list(self.schema.idx_workergroup_by_placement.select(txn))
        assert sorted(by_name) == sorted(
            ((p.worker_group_oid, p.cluster_oid, p.node_oid, p.worker_name), p.oid) for p in placed
        )
        assert sorted(by_node) == sorted(((p.cluster_oid, p.node_oid, p.oid), p.oid) for p in placed)
        with self.gdb.begin() as txn:
            return {p.worker_name: self.gschema.nodes[txn, p.node_oid].authid for p in placed}

    def runs(self):
        """All workers have been started: they listen."""
        for placement in self.placed():
            self.change(
                "router_workergroup_placements",
                placement.oid,
                status=WorkerGroupStatus.RUNNING,
                tcp_listening_port=10000,
            )


@pytest.fixture
def world(tmp_path):
    with (
        zlmdb.Database(dbpath=str(tmp_path / "global"), maxsize=2**26, context=object()) as gdb,
        zlmdb.Database(dbpath=str(tmp_path / "mrealm"), maxsize=2**26, context=object()) as db,
    ):
        yield World(gdb, db)


def refused(world, uri, procedure, *args):
    """The call is refused with this error and changes nothing. :returns: its message."""
    tables = ("routerclusters", "routercluster_node_memberships", "router_workergroups")
    before, events = [world.keys(table) for table in tables] + [world.placed()], list(world.published)
    with pytest.raises(ApplicationError) as refusal:
        world.call(procedure, *args)
    assert refusal.value.error == uri
    assert [world.keys(table) for table in tables] + [world.placed()] == before
    assert world.published == events
    return refusal.value.args[0]


# -- settling -----------------------------------------------------------------------------------------------------


def test_a_group_is_configured_before_its_nodes(world):
    cluster = world.cluster()
    world.group(cluster, scale=2)
    assert world.layout() == {}
    (shortfall,) = (world.placements.settle(), world.placements.shortfalls)[1]
    assert (shortfall.group, shortfall.missing) == ("group1", 2)
    world.call("add_routercluster_node", cluster, str(world.node("router1")), {})
    assert world.layout() == {"group1_1": "router1", "group1_2": "router1"}
    world.call("add_routercluster_node", cluster, str(world.node("router2")))
    assert world.layout() == {"group1_1": "router1", "group1_2": "router2"}
    assert [(event, [c["what"] for c in payload]) for event, payload in world.published if "placements" in event] == [
        ("on_placements_changed", ["placed", "placed"]),
        ("on_placements_changed", ["moved"]),
    ]


def test_what_runs_stays_when_a_node_comes(world):
    cluster = world.cluster(world.node("router1"))
    world.group(cluster, scale=2)
    world.runs()
    world.call("add_routercluster_node", cluster, str(world.node("router2")), {})
    assert world.layout() == {"group1_1": "router1", "group1_2": "router1"}


def test_a_new_placement_has_no_port_and_has_not_been_started(world):
    world.group(world.cluster(world.node("router1")))
    (placement,) = world.placed()
    assert (placement.tcp_listening_port, placement.status) == (0, None)
    assert int(placement.changed) > 0


def test_groups_of_several_clusters_share_nodes_by_load(world):
    nodes = [world.node(f"router{n}") for n in range(1, 5)]
    for name in ("cluster1", "cluster2"):
        world.group(world.cluster(*nodes, name=name), scale=2)
    assert sorted(world.layout().values()) == ["router1", "router2", "router3", "router4"]
    assert sorted(world.layout()) == ["group1_1", "group1_2", "group1_3", "group1_4"]


def test_the_settled_state_writes_nothing(world):
    world.group(world.cluster(world.node("router1"), world.node("router2")), scale=2)
    world.writes = 0
    assert world.placements.settle() == []
    assert world.writes == 0


def test_a_changed_scale_is_followed(world):
    group = world.group(world.cluster(world.node("router1"), world.node("router2")), scale=1)
    world.change("router_workergroups", uuid.UUID(group), scale=2)
    (change,) = world.placements.settle()
    assert str(change) == "Router worker group1_2 of worker group group1 is placed on node router2"
    world.change("router_workergroups", uuid.UUID(group), scale=1)
    (change,) = world.placements.settle()
    assert str(change) == "Router worker group1_2 of worker group group1 is removed from node router2"
    assert world.layout() == {"group1_1": "router1"}


def test_a_scaled_group_is_told_and_announced(world):
    cluster = world.cluster(world.node("router1"), world.node("router2"))
    group = world.group(cluster)
    before = world.call("get_routercluster_workergroup", cluster, group)
    world.published.clear()
    placed = {"group": "group1", "worker": "group1_2", "what": "placed", "from_node": None, "to_node": "router2"}
    removed = {**placed, "what": "removed", "from_node": "router2", "to_node": None}
    for scale, change in ((2, placed), (1, removed)):
        answer = world.call("scale_workergroup", cluster, group, scale)
        told = answer["workergroup"]
        assert told == world.call("get_routercluster_workergroup", cluster, group)
        assert {**told, "scale": 1, "changed": None} == {**before, "changed": None}
        assert told["scale"] == scale
        assert told["changed"] > before["changed"]
        assert (answer["changes"], answer["missing"]) == ([change], 0)
        assert world.published == [("on_workergroup_scaled", told), ("on_placements_changed", [change])]
        world.published.clear()


def test_of_a_group_that_shrinks_goes_what_is_on_a_node_that_is_away(world):
    away, there = world.node("router1"), world.node("router2")
    cluster = world.cluster(away, there)
    group = world.group(cluster, scale=2)
    world.runs()
    world.manager._session.plane = SimpleNamespace(is_online=lambda node_oid: node_oid != away)
    (change,) = world.call("scale_workergroup", cluster, group, 1)["changes"]
    assert (change["worker"], change["from_node"]) == ("group1_1", "router1")


def test_the_same_scale_again_changes_nothing(world):
    cluster = world.cluster(world.node("router1"))
    group = world.group(cluster, scale=2)
    before, events = world.call("get_routercluster_workergroup", cluster, group), list(world.published)
    assert world.call("scale_workergroup", cluster, group, 2) == {"workergroup": before, "changes": [], "missing": 0}
    assert world.published == events


def test_a_group_is_scaled_beyond_what_its_nodes_may_take(world):
    cluster = world.cluster()
    world.call("add_routercluster_node", cluster, str(world.node("router1")), {"hardlimit": 2})
    group = world.group(cluster)
    world.group(world.cluster(name="without_nodes"), "other", scale=7)
    answer = world.call("scale_workergroup", cluster, group, 5)
    assert (len(answer["changes"]), answer["missing"]) == (1, 3)
    world.call("add_routercluster_node", cluster, str(world.node("router2")), {})
    assert len(world.layout()) == 5
    assert world.call("scale_workergroup", cluster, group, 5)["missing"] == 0


@pytest.mark.parametrize("scale", [0, -1, 129, True])
def test_a_bad_scale_is_refused(world, scale):
    cluster = world.cluster(world.node("router1"))
    group = world.group(cluster)
    says = refused(world, "wamp.error.invalid_configuration", "scale_workergroup", cluster, group, scale)
    assert repr(scale) in says and "from 1 to 128" in says
    assert world.call("get_routercluster_workergroup", cluster, group)["scale"] == 1


def test_a_group_is_scaled_in_its_own_cluster_only(world):
    first, second = world.cluster(name="first"), world.cluster(name="second")
    group = world.group(first)
    for cluster, which, uri, word in (
        (second, group, "crossbar.error.no_such_object", "group1 is not in router cluster"),
        (str(uuid.uuid4()), group, "crossbar.error.no_such_object", "no router cluster"),
        (first, str(uuid.uuid4()), "crossbar.error.no_such_object", "no worker group"),
        ("no oid", group, "wamp.error.invalid_argument", "routercluster_oid"),
        (first, "no oid", "wamp.error.invalid_argument", "workergroup_oid"),
    ):
        assert word in refused(world, uri, "scale_workergroup", cluster, which, 2)


def test_workers_of_an_unpaired_node_move_if_there_is_another(world):
    gone = world.node("router1")
    cluster = world.cluster(gone)
    world.group(cluster)
    world.runs()
    (before,) = world.placed()
    world.unpair(gone)
    assert world.placements.settle() == []
    assert world.placements.shortfalls[0].stranded[0].worker == "group1_1"
    assert world.placed() == [before]
    world.call("add_routercluster_node", cluster, str(world.node("router2")), {})
    assert world.layout() == {"group1_1": "router2"}
    (after,) = world.placed()
    assert (after.oid, after.tcp_listening_port) == (before.oid, 0)


def test_nodes_of_another_management_realm_get_nothing(world):
    foreign = world.node("foreign", OTHER_MREALM)
    cluster = world.cluster()
    world.group(cluster)
    key = (uuid.UUID(cluster), foreign)
    with world.db.begin(write=True) as txn:
        world.schema.routercluster_node_memberships[txn, key] = RouterClusterNodeMembership(*key)
    assert world.placements.settle() == []
    assert world.layout() == {}


@pytest.mark.parametrize("status", [ApplicationRealm.STATUS_RUNNING, ApplicationRealm.STATUS_STOPPED])
@pytest.mark.parametrize("table", ["routerclusters", "router_workergroups"])
def test_what_the_release_has_left_behind_goes_unless_a_realm_stands_on_it(world, table, status):
    node = world.node("router1")
    cluster = world.cluster(node)
    group = world.group(cluster)
    world.realm(group, status)
    world.drop(table, uuid.UUID(cluster if table == "routerclusters" else group))
    in_use = status == ApplicationRealm.STATUS_RUNNING
    changes = world.placements.settle()
    assert [(c.worker, c.what, c.from_node) for c in changes] == (
        [] if in_use else [("group1_1", "removed", "router1")]
    )
    assert len(world.placed()) == in_use
    assert world.layout() == ({"group1_1": "router1"} if in_use else {})
    if table == "routerclusters":
        assert world.keys("routercluster_node_memberships") == []
        assert len(world.keys("router_workergroups")) == in_use
    elif in_use:
        world.group(cluster)
        assert set(world.layout()) == {"group1_1", "group1_2"}, "its name is still taken"
    world.writes = 0
    assert world.placements.settle() == []
    assert world.writes == 0


def test_a_failed_write_changes_nothing_at_all(world, monkeypatch):
    cluster = world.cluster()
    world.group(cluster, scale=3)
    monkeypatch.setattr("crossbar_cluster.control.placements.uuid4", iter([uuid.uuid4()]).__next__)
    key = (uuid.UUID(cluster), world.node("router1"))
    with world.db.begin(write=True) as txn:
        world.schema.routercluster_node_memberships[txn, key] = RouterClusterNodeMembership(*key)
    with pytest.raises(StopIteration):
        world.placements.settle()
    assert world.layout() == {}


# -- moving and draining ------------------------------------------------------------------------------------------


def test_a_moved_placement_is_the_same_one_elsewhere(world):
    first, second = world.node("router1"), world.node("router2")
    world.group(world.cluster(first, second), scale=2)
    world.runs()
    before = {p.worker_name: p for p in world.placed()}
    (change,) = world.placements.move(first)
    assert str(change) == "Router worker group1_1 of worker group group1 is moved from node router1 to node router2"
    assert world.layout() == {"group1_1": "router2", "group1_2": "router2"}
    moved = next(p for p in world.placed() if p.worker_name == "group1_1")
    assert moved.oid == before["group1_1"].oid
    assert (moved.tcp_listening_port, moved.status) == (0, WorkerGroupStatus.STOPPED)
    assert moved.changed > before["group1_1"].changed
    assert before["group1_2"] in world.placed()
    assert world.placements.settle() == [], "what an operator has moved stays where it is"


def test_a_move_that_cannot_be_completed_changes_nothing(world):
    first, second = world.node("router1"), world.node("router2")
    world.group(world.cluster(first, second, name="both"), "movable")
    world.group(world.cluster(first, name="only"), "stuck")
    assert world.layout()["movable_1"] == world.layout()["stuck_1"] == "router1"
    before = world.placed()
    for change in (lambda: world.placements.move(first), lambda: world.placements.drain(first)):
        with pytest.raises(NoCapacity, match=r"stuck_1 .worker group stuck. cannot be moved from node router1"):
            change()
        assert world.placed() == before
        assert {m.hardlimit for m in memberships(world)} == {None}


def memberships(world):
    with world.db.begin() as txn:
        return list(world.schema.routercluster_node_memberships.select(txn, return_keys=False))


def test_a_move_to_a_named_node(world):
    first, second, third = (world.node(f"router{n}") for n in (1, 2, 3))
    world.group(world.cluster(first, second, third))
    world.placements.move(first, third)
    assert world.layout() == {"group1_1": "router3"}
    with pytest.raises(InvalidMove, match="not in its router cluster"):
        world.placements.move(third, uuid.uuid4())


@pytest.mark.parametrize("limit", [None, 1, 7])
def test_a_drained_node_gets_nothing_until_it_is_undrained(world, limit):
    first, second = world.node("router1"), world.node("router2")
    cluster = world.cluster(second)
    world.call("add_routercluster_node", cluster, str(first), {"hardlimit": limit})
    world.group(cluster, "group1")
    assert world.layout() == {"group1_1": "router1"}
    world.placements.drain(first)
    world.placements.drain(first)
    assert world.layout() == {"group1_1": "router2"}
    world.group(cluster, "group2", scale=2)
    assert set(world.layout().values()) == {"router2"}
    told = world.call("get_routercluster_node", cluster, str(first))
    assert (told["hardlimit"], told["drained"]) == (limit, True)
    world.placements.undrain(first)
    world.placements.undrain(first)
    told = world.call("get_routercluster_node", cluster, str(first))
    assert (told["hardlimit"], told["drained"]) == (limit, False)
    assert world.layout()["group1_1"] == "router2", "it does not come back by itself"
    assert "router1" in world.layout().values(), "of what has not been started, a part does"


def test_a_node_added_again_stays_drained(world):
    first, second = world.node("router1"), world.node("router2")
    cluster = world.cluster(first, second)
    world.placements.drain(first)
    told = world.call("add_routercluster_node", cluster, str(first), {"hardlimit": 3})
    assert (told["hardlimit"], told["drained"]) == (3, True)
    world.group(cluster, scale=2)
    assert set(world.layout().values()) == {"router2"}


def test_a_node_added_with_a_hard_limit_of_0_is_drained(world):
    cluster = world.cluster()
    world.call("add_routercluster_node", cluster, str(world.node("router1")), {"hardlimit": 0})
    world.group(cluster)
    assert world.layout() == {}


@pytest.mark.parametrize("limit", [None, 1, 2, 128])
def test_the_former_limit_can_be_told_from_the_stored_one(limit):
    drained = drained_limit(limit)
    stored = RouterClusterNodeMembership.parse(RouterClusterNodeMembership(MREALM, MREALM, None, drained).marshal())
    assert stored.hardlimit < 0
    assert drained_limit(stored.hardlimit) == drained
    assert undrained_limit(stored.hardlimit) == limit == undrained_limit(limit)


def test_a_node_of_no_cluster_cannot_be_drained(world):
    with pytest.raises(InvalidMove, match="node router1 is in no router cluster"):
        world.placements.drain(world.node("router1"))


# -- management calls ---------------------------------------------------------------------------------------------


def test_an_added_group_is_told_and_announced_as_by_the_release(world):
    cluster = world.cluster(world.node("router1"))
    added = world.call("add_routercluster_workergroup", cluster, {"name": "group1", "scale": 1, "cluster_oid": cluster})
    assert {**added, "oid": None, "changed": None} == {
        "oid": None, "label": None, "description": None, "tags": None, "cluster_oid": cluster,
        "name": "group1", "scale": 1, "status": "STOPPED", "changed": None,
    }  # fmt: skip
    assert ("on_workergroup_added", added) in world.published
    assert world.call("get_routercluster_workergroup", cluster, added["oid"]) == added
    assert world.call("add_routercluster_workergroup", cluster, {})["name"].startswith("cwg_")


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"name": "g", "scale": 0}, "scale"),
        ({"name": "g", "scale": 129}, "scale"),
        ({"name": "g", "scale": True}, "scale"),
        ({"name": "g", "scale": "2"}, "scale"),
        ({"name": "a.b"}, "name"),
        ({"name": "a b"}, "name"),
        ({"name": "a" * 65}, "name"),
        ({"name": 7}, "name"),
        ({"label": 7}, "label"),
    ],
)
def test_a_bad_group_is_refused(world, config, says):
    assert says in refused(
        world, "wamp.error.invalid_configuration", "add_routercluster_workergroup", world.cluster(), config
    )


def test_a_second_group_of_a_name_is_refused(world):
    cluster = world.cluster()
    world.group(cluster)
    config = {"name": "group1"}
    assert "group1" in refused(world, "crossbar.error.already_exists", "add_routercluster_workergroup", cluster, config)
    refused(world, "crossbar.error.no_such_object", "add_routercluster_workergroup", str(uuid.uuid4()), config)
    refused(world, "wamp.error.invalid_argument", "add_routercluster_workergroup", "no oid", config)


@pytest.mark.parametrize("config", [{"hardlimit": -1}, {"softlimit": "2"}, {"hardlimit": True}, "2"])
def test_bad_limits_are_refused(world, config):
    cluster, node = world.cluster(), world.node("router1")
    refused(world, "wamp.error.invalid_configuration", "add_routercluster_node", cluster, str(node), config)


@pytest.mark.parametrize(
    "status", [ApplicationRealm.STATUS_STARTING, ApplicationRealm.STATUS_RUNNING, ApplicationRealm.STATUS_STOPPING]
)
def test_what_a_realm_stands_on_is_not_removed(world, status):
    cluster = world.cluster(world.node("router1"))
    group = world.group(cluster)
    realm = world.realm(group, status, name="realm-x")
    for procedure, args in (("remove_routercluster_workergroup", [group]), ("delete_routercluster", [])):
        says = refused(world, "crossbar.error.dependent_objects", procedure, cluster, *args)
        assert f"realm-x ({ApplicationRealm.STATUS_BY_CODE[status]}): stop it first" in says
    world.change("arealms", realm, status=ApplicationRealm.STATUS_STOPPED)
    world.call("remove_routercluster_workergroup", cluster, group)
    assert world.layout() == {}
    world.call("delete_routercluster", cluster)
    assert world.keys("routercluster_node_memberships") == world.keys("routerclusters") == []


def test_a_deleted_cluster_takes_everything_with_it_and_nothing_else(world):
    nodes = world.node("router1"), world.node("router2")
    doomed, kept = world.cluster(*nodes, name="doomed"), world.cluster(*nodes, name="kept")
    world.group(doomed, "gone", scale=2)
    world.group(kept, "stays", scale=2)
    world.call("delete_routercluster", doomed)
    assert set(world.layout()) == {"stays_1", "stays_2"}
    assert [key[0] for key in world.keys("routercluster_node_memberships")] == [uuid.UUID(kept)] * 2
    assert len(world.keys("router_workergroups")) == 1


def test_a_group_is_removed_by_its_own_cluster_only(world):
    first, second = world.cluster(name="first"), world.cluster(name="second")
    group = world.group(first)
    refused(world, "crossbar.error.no_such_object", "remove_routercluster_workergroup", second, group)


def test_a_group_that_no_realm_stands_on_leaves_a_cluster_that_runs(world):
    cluster = world.cluster(world.node("router1"))
    used, unused = world.group(cluster, "used"), world.group(cluster, "unused")
    world.realm(used, ApplicationRealm.STATUS_RUNNING)
    world.change("routerclusters", uuid.UUID(cluster), status=ApplicationRealm.STATUS_RUNNING)
    refused(world, "crossbar.error.dependent_objects", "remove_routercluster_workergroup", cluster, used)
    removed = world.call("remove_routercluster_workergroup", cluster, unused)
    assert ("on_workergroup_removed", removed) in world.published
    assert removed["name"] == "unused"
    assert set(world.layout()) == {"used_1"}
    world.change("routerclusters", uuid.UUID(cluster), owner_oid=uuid.uuid4())
    third = world.group(cluster, "third")
    refused(world, "wamp.error.not_authorized", "remove_routercluster_workergroup", cluster, third)


def test_workers_leave_a_removed_node(world):
    first, second = world.node("router1"), world.node("router2")
    cluster = world.cluster(first, second)
    world.group(cluster)
    world.runs()
    world.call("remove_routercluster_node", cluster, str(first))
    assert world.layout() == {"group1_1": "router2"}
    world.call("remove_routercluster_node", cluster, str(second))
    assert world.layout() == {"group1_1": "router2"}, "there is no better place"


def test_a_node_that_is_paired_no_more_can_be_removed(world):
    node = world.node("router1")
    cluster = world.cluster(node)
    world.unpair(node)
    removed = world.call("remove_routercluster_node", cluster, str(node))
    assert removed["node_oid"] == str(node)
    assert world.published[-1] == ("on_routercluster_node_removed", removed)
    assert world.keys("routercluster_node_memberships") == []
    refused(world, "crossbar.error.no_such_object", "remove_routercluster_node", cluster, str(node))


def test_nodes_of_other_clusters_are_not_listed(world):
    nodes = {name: world.node(name) for name in ("router1", "router2")}
    clusters = {name: world.cluster(oid, name=f"cluster_{name}") for name, oid in nodes.items()}
    for name, cluster in clusters.items():
        assert world.call("list_routercluster_nodes", cluster, True) == [name]
        assert world.call("list_routercluster_nodes", cluster) == [str(nodes[name])]
    world.manager._session.nodes = {str(nodes["router1"]): SimpleNamespace(status="online")}
    assert world.call("list_routercluster_nodes", clusters["router1"], True, "online") == ["router1"]
    assert world.call("list_routercluster_nodes", clusters["router2"], True, "online") == []


def test_placements_are_moved_by_name_or_object_id(world):
    first, second = world.node("router1"), world.node("router2")
    cluster = world.cluster(first, second)
    world.group(cluster)
    there = {"group": "group1", "worker": "group1_1", "what": "moved", "from_node": "router1", "to_node": "router2"}
    back = {**there, "from_node": "router2", "to_node": "router1"}
    assert world.call("move_placements", "router1", "router2") == [there]
    assert world.published[-1] == ("on_placements_changed", [there])
    assert world.call("move_placements", str(second), str(first)) == [back]
    assert world.call("drain_node", "router1") == [there]
    assert "undrain" in refused(world, "crossbar.error.no_capacity", "move_placements", "router2")
    assert world.call("undrain_node", "router1") == []
    assert world.published[-1] == ("on_placements_changed", [])
    assert world.call("move_placements", "router2") == [back]


def test_what_was_placed_on_a_node_that_is_paired_no_more_is_moved_by_its_object_id(world):
    first, second = world.node("router1"), world.node("router2")
    cluster = world.cluster(first)
    world.group(cluster)
    world.unpair(first)
    world.call("add_routercluster_node", cluster, str(second), {"hardlimit": 0})
    world.change("routercluster_node_memberships", (uuid.UUID(cluster), second), hardlimit=None)
    (change,) = world.call("move_placements", str(first))
    assert (change["from_node"], change["to_node"]) == (str(first), "router2")


@pytest.mark.parametrize("procedure", ["move_placements", "drain_node", "undrain_node"])
def test_calls_for_nodes_that_cannot_be_meant(world, procedure):
    world.node("foreign", OTHER_MREALM)
    for node in ("router9", "foreign", str(uuid.uuid4())):
        assert repr(node) in refused(world, "crossbar.error.no_such_object", procedure, node)
    world.node("router1")
    if procedure != "move_placements":
        assert "router1" in refused(world, "crossbar.error.invalid_argument", procedure, "router1")


# -- registration -------------------------------------------------------------------------------------------------


def test_each_procedure_is_registered_once_and_checks_types(world):
    session = ApplicationSession()
    session._transport = SimpleNamespace(send=lambda message: None)
    session.register(world.manager, prefix=f"{PREFIX}.", options=RegisterOptions(details_arg="details"))
    endpoints = {request.procedure: request.endpoint for request in session._register_reqs.values()}
    assert len(endpoints) == len(session._register_reqs)
    from crossbar.master.cluster.routercluster import RouterClusterManager

    released = RouterClusterManager.__bases__[-1]
    names = {name for name, member in vars(released).items() if hasattr(member, "_wampuris")}
    assert len(names) > 10
    added = {"move_placements", "drain_node", "undrain_node", "scale_workergroup"}
    added |= {"expect_nodes", "get_expected_nodes"}
    assert set(endpoints) == {f"{PREFIX}.{name}" for name in names | added}
    for name, arguments in (
        ("drain_node", [7]),
        ("add_routercluster_workergroup", ["oid", "no dictionary"]),
        ("scale_workergroup", ["oid", "oid", "2"]),
    ):
        endpoint = endpoints[f"{PREFIX}.{name}"]
        assert endpoint.details_arg == "details"
        with pytest.raises(TypeCheckError):
            asyncio.run(endpoint.fn(endpoint.obj, *arguments, details=DETAILS))


def test_positions_of_parameters_are_those_of_the_release():
    from crossbar.master.cluster.routercluster import RouterClusterManager

    mixin, released = RouterClusterManager.__bases__
    for name in [name for name in vars(mixin) if name in vars(released) and not name.startswith("__")]:
        assert list(inspect.signature(vars(mixin)[name]).parameters) == list(
            inspect.signature(vars(released)[name]).parameters
        )


def test_the_monitor_does_nothing():
    from crossbar.master.cluster.routercluster import RouterClusterMonitor

    monitor = RouterClusterMonitor(SimpleNamespace(), uuid.uuid4())
    assert not monitor.is_started
    monitor.start()
    assert monitor.is_started
    assert monitor._loop is None
    monitor.stop()
    assert not monitor.is_started
