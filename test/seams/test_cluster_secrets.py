"""The secrets that `crossbar-cluster secrets` makes: what a master and its nodes take, and others each time."""

import subprocess
import sysconfig
from pathlib import Path

import pytest
import yaml

from crossbar_cluster.core.keyfile import parse_tags
from crossbar_cluster.core.pairing_token import parse_tokens

COMMAND = str(Path(sysconfig.get_path("scripts")) / "crossbar-cluster")


def made(*options: str) -> dict[str, dict[str, str]]:
    """Name of a Secret -> its content."""
    done = subprocess.run([COMMAND, "secrets", *options], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    documents = list(yaml.safe_load_all(done.stdout))
    assert {document["kind"] for document in documents} == {"Secret"}
    return {document["metadata"]["name"]: document["stringData"] for document in documents}


@pytest.fixture(scope="module")
def secrets():
    return made()


def test_a_key_pair_of_a_superuser(secrets):
    keys = secrets["crossbar-superuser"]
    private, public = parse_tags(keys["default.priv"]), parse_tags(keys["default.pub"])
    assert len(bytes.fromhex(private["private-key-ed25519"])) == 32
    assert private["public-key-ed25519"] == public["public-key-ed25519"]
    assert private["user-id"] and "private-key-ed25519" not in public


def test_a_token_for_each_kind_of_node(secrets):
    tokens = secrets["crossbar-pairing"]
    assert tokens.keys() == {"crossbar-router-", "crossbar-proxy-"}
    assert len({parse_tokens(token) for token in tokens.values()}) == 2


def test_a_key_of_the_master_by_which_nodes_know_it(secrets, tmp_path):
    from crossbar_cluster.node.known_master import known_master

    text = secrets["crossbar-master"]["key.priv"]
    tags = parse_tags(text)
    public = tags["public-key-ed25519"]
    assert not {"node-authid", "node-cluster-ip"} & tags.keys() and tags["machine-id"] == "unknown"
    for token in secrets["crossbar-pairing"].values():
        (tmp_path / "token").write_text(token)
        known = known_master(str(tmp_path), {"CROSSBAR_CLUSTER_PAIRING_TOKEN_FILE": str(tmp_path / "token")})
        assert (known.keys, known.source) == ({public}, "pairing token")


def test_every_run_makes_others(secrets):
    others = made("--token", "node-")
    assert others["crossbar-pairing"].keys() == {"node-"}
    assert others["crossbar-master"]["key.priv"] != secrets["crossbar-master"]["key.priv"]
    assert others["crossbar-superuser"]["default.priv"] != secrets["crossbar-superuser"]["default.priv"]
