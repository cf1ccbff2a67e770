"""Nodes that are paired by the keys that they show: one name for one key. On a real database of the release's."""

import asyncio
import os
import uuid
from types import SimpleNamespace

import pytest
import zlmdb
from autobahn.wamp.exception import ApplicationError
from cfxdb.globalschema import GlobalSchema
from cfxdb.mrealm import ManagementRealm, Node
from cfxdb.user import User, UserMrealmRole, UserRole

from crossbar_cluster.control.watched_keys import Watched, WatchedKeys, read
from crossbar_cluster.core.keyfile import parse_tags
from crossbar_cluster.core.rights import names_overlap

MREALM, OWNER = uuid.uuid4(), uuid.uuid4()
MASTER = "ef" * 32


class Log:
    def __init__(self):
        self.lines = []

    def warn(self, text, **values):
        self.lines.append(text.format(**values))

    def info(self, text, **values):
        pass

    debug = info


class Directory:
    """A directory that is watched, and who has been paired by it."""

    def __init__(self, path, db, **changes):
        self.path = path
        path.mkdir(exist_ok=True)
        self.db, self.schema = db, GlobalSchema.attach(db)
        self.log, self.published = Log(), []
        watched = {"directory": path, "pattern": None, "mrealm_oid": MREALM, "owner_oid": OWNER} | changes
        watched = {"management_url": "ws://master:9000/ws", "master_key": MASTER} | watched
        from crossbar.common.key import _write_node_key

        self.keys = WatchedKeys(Watched(**watched), db, self.schema, self._publish, _write_node_key, self.log)

    async def _publish(self, paired):
        self.published.append(paired["authid"])

    def shows(self, folder, key, name=None, text=None):
        (self.path / folder).mkdir(exist_ok=True)
        tags = f"public-key-ed25519: {key}\n" + (f"node-authid: {name}\n" if name else "")
        (self.path / folder / "key.pub").write_text(text if text is not None else f"A title\n\n{tags}")

    def paired(self):
        asyncio.run(self.keys.look())
        with self.db.begin() as txn:
            nodes = self.schema.nodes.select(txn, return_keys=False)
            found = {node.authid: node.pubkey for node in nodes if node.mrealm_oid}
            for name, key in found.items():
                oid = self.schema.idx_nodes_by_authid[txn, (MREALM, name)]
                assert self.schema.nodes[txn, oid].pubkey == key, "it is found by its name"
        return found


@pytest.fixture
def db(tmp_path):
    with zlmdb.Database(dbpath=str(tmp_path / "db"), maxsize=2**24, context=object()) as db:
        yield db


@pytest.fixture
def shown(tmp_path, db):
    return Directory(tmp_path / "shown", db)


def test_a_node_is_paired_by_the_key_that_it_shows(shown):
    shown.shows("one", "aa" * 32, "router1")
    assert shown.paired() == {"router1": "aa" * 32}
    assert shown.published == ["router1"]
    assert shown.paired() == {"router1": "aa" * 32}
    assert shown.published == ["router1"], "once"
    activation = parse_tags((shown.path / "one" / "key.activate").read_text())
    assert activation["master-public-key-ed25519"] == MASTER


def test_the_released_node_can_read_the_activation_file(shown):
    from crossbar.edge.node.node import _parse_activation_file

    shown.shows("one", "aa" * 32, "router1")
    shown.paired()
    tags = _parse_activation_file(str(shown.path / "one" / "key.activate"))
    assert tags["management-url"] == "ws://master:9000/ws" and tags["node-authid"] == "router1"


@pytest.mark.parametrize("name", ["router1", "router1.worker", "a"])
def test_a_name_that_another_key_has_is_refused_and_said_once(shown, name):
    shown.shows("one", "aa" * 32, "router1")
    shown.shows("two", "cc" * 32, "a.b")
    before = shown.paired()
    shown.shows("zero", "bb" * 32, name)
    assert shown.paired() == before
    [line] = shown.log.lines
    assert "zero/key.pub" in line and name in line and ("aa" * 32 in line or "overlap" in line)
    shown.paired()
    assert len(shown.log.lines) == 1
    (shown.path / "zero" / "key.pub").unlink()
    shown.paired()
    shown.shows("zero", "bb" * 32, name)
    shown.paired()
    assert len(shown.log.lines) == 2, "it is back"


def test_of_two_that_show_one_name_at_once_the_first_is_paired(shown):
    shown.shows("b", "bb" * 32, "router1")
    shown.shows("a", "aa" * 32, "router1")
    assert shown.paired() == {"router1": "aa" * 32}
    assert len(shown.log.lines) == 1


@pytest.mark.parametrize(
    "text", ["", "nonsense", "A title\n\nwhat: is this\n", "x\n\npublic-key-ed25519: zz\n", "x" * 2**17], ids=range(5)
)
def test_a_file_that_is_malformed_stops_no_other(shown, text):
    shown.shows("a", None, text=text)
    shown.shows("b", "bb" * 32, "router1")
    assert shown.paired() == {"router1": "bb" * 32}
    [line] = shown.log.lines
    assert "a/key.pub" in line


def test_what_is_no_file_of_text_stops_no_other_either(shown):
    for number, made in enumerate(("bytes", "directory", "pipe", "dangling")):
        folder = shown.path / f"{number}"
        folder.mkdir()
        file = folder / "key.pub"
        if made == "bytes":
            file.write_bytes(b"\xff\xfe" * 9)
        elif made == "directory":
            file.mkdir()
        elif made == "pipe":
            os.mkfifo(file)
        else:
            file.symlink_to("nowhere")
    shown.shows("z", "bb" * 32, "router1")
    assert shown.paired() == {"router1": "bb" * 32}


@pytest.mark.parametrize("name", ["a b", "a#b", ".a", "a.", "a..b", "x" * 300])
def test_what_cannot_be_a_name_is_refused(shown, name):
    shown.shows("one", "aa" * 32, name)
    assert shown.paired() == {}
    assert "cannot be a node's name" in shown.log.lines[0]


def test_a_node_that_says_no_name_gets_one(shown):
    shown.shows("one", "aa" * 32)
    [name] = shown.paired()
    assert name.startswith("node-")


def test_who_has_been_unpaired_stays_so(shown):
    node = Node()
    node.oid, node.pubkey = uuid.uuid4(), "aa" * 32
    with shown.db.begin(write=True) as txn:
        shown.schema.nodes[txn, node.oid] = node
    shown.shows("one", "aa" * 32, "router1")
    assert shown.paired() == {} and not shown.log.lines


def test_where_nothing_can_be_written_nodes_are_paired_all_the_same(shown, monkeypatch):
    def read_only(*args):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(shown.keys, "_write", read_only)
    shown.shows("one", "aa" * 32, "router1")
    assert shown.paired() == {"router1": "aa" * 32} and not shown.log.lines


def test_only_directories_of_the_pattern_count(tmp_path, db):
    shown = Directory(tmp_path / "shown", db, pattern="r")
    shown.shows("x", "aa" * 32, "a")
    shown.shows("r1", "bb" * 32, "b")
    assert shown.paired() == {"b": "bb" * 32}


def test_the_files_of_the_release_and_of_nodes_today_are_read(tmp_path, monkeypatch):
    from crossbar.common.key import _maybe_generate_node_key

    monkeypatch.setenv("CROSSBAR_NODE_ID", "router1")
    _maybe_generate_node_key(str(tmp_path))
    assert read(str(tmp_path / "key.pub")).name == "router1"


# -- by a user's call -------------------------------------------------------------------------------------------------


@pytest.fixture
def pair(db):
    """The released manager's `pair_node`, with our patches, as a user calls it."""
    from crossbar.master.mrealm.mrealm import MrealmManager

    schema = GlobalSchema.attach(db)
    user, mrealm = User(), ManagementRealm()
    user.oid, user.email, user.pubkey = OWNER, "superuser", "00" * 32
    mrealm.oid, mrealm.name, mrealm.owner = MREALM, "default", OWNER
    with db.begin(write=True) as txn:
        schema.users[txn, user.oid] = user
        schema.mrealms[txn, mrealm.oid] = mrealm
        schema.users_mrealm_roles[txn, (OWNER, MREALM)] = UserMrealmRole([UserRole.OWNER])

    async def publish(*args, **kwargs):
        pass

    manager = MrealmManager.__new__(MrealmManager)
    manager.db, manager.schema, manager._session = db, schema, SimpleNamespace(publish=publish)
    manager.log = SimpleNamespace(info=lambda *a, **k: None, debug=lambda *a, **k: None)
    details = SimpleNamespace(caller_authrole="user", caller_authid="superuser")
    assert MrealmManager.pair_node._wampuris, "still a procedure"
    return lambda key, name: asyncio.run(manager.pair_node(key, "default", name, {}, details=details))


def test_a_user_s_call_is_refused_a_name_that_another_key_has(pair, shown):
    assert pair("aa" * 32, "router1")["authid"] == "router1"
    for name in ("router1", "router1.x"):
        with pytest.raises(ApplicationError) as refused:
            pair("bb" * 32, name)
        assert refused.value.error == "fabric.node-name-taken" and "router1" in str(refused.value)
    assert shown.paired() == {"router1": "aa" * 32}


def test_names_overlap_up_to_a_dot():
    assert names_overlap("a", "a.b") and names_overlap("a.b", "a") and names_overlap("a", "a")
    assert not names_overlap("a", "ab") and not names_overlap("a.b", "a.c")
