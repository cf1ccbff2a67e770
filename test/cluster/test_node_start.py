"""What a node does with CROSSBAR_NODE_CLUSTER_IP at its start, and what its key files say of it: nothing."""

import os
import subprocess

import pytest

from crossbar_cluster.lab.cluster import crossbar_command


def crossbar(cbdir, *argv, **environment):
    """Run ``crossbar edge ...`` to its end, at most 60 s. :returns: exit code and output."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("CROSSBAR_NODE") and k != "CROSSBAR_FABRIC_URL"}
    done = subprocess.run(
        [crossbar_command(), "edge", *argv, f"--cbdir={cbdir}"],
        env={**env, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
    )
    return done.returncode, done.stdout


@pytest.mark.parametrize("value", ["http://10.0.0.1", "10.0.0.1:10000", "10.0.0.1 10.0.0.2", "x" * 300, "0.0.0.0"])
def test_a_node_does_not_start_at_an_address_that_is_none(tmp_path, value):
    code, output = crossbar(tmp_path, "start", CROSSBAR_NODE_CLUSTER_IP=value)
    assert code == 1
    assert "Traceback" not in output
    message = output[output.index("Cannot start this node") :]
    assert "CROSSBAR_NODE_CLUSTER_IP" in message
    assert value[:50] in message
    assert "expected an IPv4 address" in message and "IPv6" in message and "host name" in message
    assert not (tmp_path / "node.pid").exists() and not (tmp_path / "key.priv").exists(), "nothing was begun"


@pytest.mark.parametrize(
    "variable",
    ["CROSSBAR_CLUSTER_LISTEN", "CROSSBAR_CLUSTER_UNPROVEN_PROXIES", "CROSSBAR_CLUSTER_UNPROVEN_ROUTERS"],
)
def test_a_node_does_not_start_with_a_switch_that_means_nothing(tmp_path, variable):
    code, output = crossbar(tmp_path, "start", **{variable: "maybe"})
    assert code == 1
    assert f"Cannot start this node: {variable}: 'maybe' means nothing here. Use '" in output
    assert "Traceback" not in output


def test_new_keys_carry_no_address(tmp_path):
    code, output = crossbar(tmp_path, "keys", CROSSBAR_NODE_CLUSTER_IP="10.0.0.1", CROSSBAR_NODE_ID="router1")
    assert code == 0, output
    for file in ("key.pub", "key.priv"):
        text = (tmp_path / file).read_text()
        assert "node-authid: router1" in text
        assert "cluster-ip" not in text and "10.0.0.1" not in text


def test_old_keys_with_an_address_load_and_a_public_key_made_anew_has_none(tmp_path):
    code, output = crossbar(tmp_path, "keys", CROSSBAR_NODE_CLUSTER_IP="10.0.0.1", CROSSBAR_CLUSTER="off")
    assert code == 0, output
    private = (tmp_path / "key.priv").read_text()
    assert "node-cluster-ip: 10.0.0.1" in private
    public_key = next(line for line in private.splitlines() if line.startswith("public-key-ed25519"))

    code, output = crossbar(tmp_path, "keys")
    assert code == 0, output
    (tmp_path / "key.pub").unlink()
    code, output = crossbar(tmp_path, "keys")
    assert code == 0, output
    made_anew = (tmp_path / "key.pub").read_text()
    assert public_key in made_anew and "cluster-ip" not in made_anew
    assert (tmp_path / "key.priv").read_text() == private, "an old private key is left as it is"


async def test_pairing_puts_no_address_on_record_and_none_into_the_activation_file(lab):
    """The nodes of the lab were paired from their keys before they ever joined; one of them never did."""
    from crossbar_cluster.lab.cluster import Node

    late = Node("late", lab.network.host(), lab.cluster.watched / "late", lab.cluster.patched)
    await lab.cluster.run(late, "edge", "keys", f"--cbdir={late.cbdir}")
    for file in ("key.pub", "key.priv"):  # as the release writes them
        text = (late.cbdir / file).read_text()
        (late.cbdir / file).write_text(text.replace("public-key", "node-cluster-ip: 10.9.9.9\npublic-key", 1))
    await lab.cluster.master.running.line("Auto-paired node.*authid=late", timeout_s=60)
    record = await lab.cluster.record(late)
    assert record["cluster_ip"] is None
    assert not record["authextra"].get("cluster_ip")
    activation = (late.cbdir / "key.activate").read_text()
    assert "node-authid: late" in activation
    assert "cluster-ip" not in activation
