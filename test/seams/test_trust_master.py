"""The command `crossbar-cluster trust-master`: an operator's word on which master is a node's."""

import os

import pytest
from click.testing import CliRunner

from crossbar_cluster.node.known_master import FILE, known_master
from crossbar_cluster.operator.trust_master import trust_master

ONE, OTHER = "ab" * 32, "cd" * 32


@pytest.fixture
def say(tmp_path, monkeypatch):
    for variable in ("CROSSBAR_CLUSTER_MASTER_KEY", "CROSSBAR_CLUSTER_PAIRING_TOKEN_FILE"):
        monkeypatch.delenv(variable, raising=False)

    def say(*argv):
        done = CliRunner().invoke(trust_master, [*argv, "--cbdir", str(tmp_path)])
        return done.exit_code, done.output

    return say


def test_a_key_is_kept_replaced_and_forgotten(say, tmp_path):
    assert say()[0] == 0 and "next master that proves any key" in say()[1]
    assert say(ONE) == (0, f"This node takes the master with key {ONE} for its own (file).\n")
    (tmp_path / "key.pub").write_text(f"A title\n\npublic-key-ed25519: {OTHER}\n")
    assert say(str(tmp_path / "key.pub"))[0] == 0
    assert known_master(str(tmp_path), {}).keys == {OTHER}
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600
    assert say("--forget")[0] == 0 and not (tmp_path / FILE).exists()


def test_it_says_so_where_something_else_decides(say, monkeypatch):
    monkeypatch.setenv("CROSSBAR_CLUSTER_MASTER_KEY", OTHER)
    code, said = say(ONE)
    assert code == 1 and "variable has precedence" in said and OTHER in said


@pytest.mark.parametrize("argv", [("nonsense",), ("ab",), (ONE, "--forget")])
def test_what_makes_no_sense_is_wrong_usage(say, tmp_path, argv):
    assert say(*argv)[0] == 2
    assert not (tmp_path / FILE).exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root writes for others")
def test_what_root_writes_belongs_to_whom_the_directory_belongs_to(say, tmp_path):
    os.chown(tmp_path, 1000, 1000)
    assert say(ONE)[0] == 0
    assert (tmp_path / FILE).stat().st_uid == 1000
