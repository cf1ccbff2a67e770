"""The image's entry point: with which keys a node starts. The node is a stand-in, `crossbar keys` is not."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from crossbar_cluster.core.keyfile import parse_tags

ENTRYPOINT = Path(__file__).resolve().parents[2] / "docker" / "entrypoint.sh"
BIN = Path(sys.executable).parent
STAND_IN = f"""\
#!/bin/sh
[ "${{2:-}}" != keys ] || exec {BIN}/crossbar "$@"
echo started "$@"
"""


@pytest.fixture
def start(tmp_path):
    """Run the entry point. :returns: a function of what to start and variables, which gives what has been run."""
    (tmp_path / "bin").mkdir()
    stand_in = tmp_path / "bin" / "crossbar"
    stand_in.write_text(STAND_IN)
    stand_in.chmod(0o755)
    (tmp_path / "node").mkdir()
    (tmp_path / "node" / "config.json").write_text("{}")
    (tmp_path / "shown").mkdir()

    def start(kind, **variables):
        environ = {key: value for key, value in os.environ.items() if not key.startswith("CROSSBAR_")} | {
            "PATH": f"{tmp_path / 'bin'}:{BIN}:{os.environ['PATH']}",
            "CROSSBAR_DIR": str(tmp_path / "node"),
            "CROSSBAR_NODE_ID": "node1",
            "CROSSBAR_CLUSTER_SHOW_KEY_IN": str(tmp_path / "shown"),
            **variables,
        }
        command = ["sh", str(ENTRYPOINT), kind, "start"]
        return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)

    return start


def key_in(file):
    return parse_tags(file.read_text())["public-key-ed25519"]


def given(tmp_path):
    (tmp_path / "given").mkdir()
    command = [BIN / "crossbar", "master", "keys", f"--cbdir={tmp_path / 'given'}"]
    subprocess.run(command, check=True, capture_output=True)
    return tmp_path / "given" / "key.priv"


def test_a_master_shows_the_key_that_it_is_given(start, tmp_path):
    file = given(tmp_path)
    done = start("master", CROSSBAR_CLUSTER_KEY_FILE=str(file))
    assert done.returncode == 0 and "started master start" in done.stdout, done.stderr
    assert key_in(tmp_path / "shown" / "key.pub") == key_in(tmp_path / "node" / "key.priv") == key_in(file)


def test_a_master_that_is_given_no_good_key_does_not_start_and_shows_none(start, tmp_path):
    file = given(tmp_path)
    file.write_text("nonsense")
    done = start("master", CROSSBAR_CLUSTER_KEY_FILE=str(file))
    assert done.returncode != 0 and "started" not in done.stdout
    assert f"CROSSBAR_CLUSTER_KEY_FILE: {file} cannot be used" in done.stdout + done.stderr
    assert not list((tmp_path / "shown").iterdir()) and not (tmp_path / "node" / "key.priv").exists()


@pytest.mark.parametrize(("kind", "shown"), [("master", "key.pub"), ("edge", "node1/key.pub")])
def test_a_public_key_file_that_is_missing_is_made_anew(start, tmp_path, kind, shown):
    assert start(kind).returncode == 0
    made = key_in(tmp_path / "node" / "key.priv")
    (tmp_path / "node" / "key.pub").unlink()
    done = start(kind)
    assert done.returncode == 0 and f"started {kind} start" in done.stdout, done.stderr
    assert key_in(tmp_path / "shown" / shown) == key_in(tmp_path / "node" / "key.priv") == made
