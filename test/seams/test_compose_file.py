"""Who can write what in docker-compose.yml: each node its own volumes, and nobody those of another."""

from collections import defaultdict
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
MASTER = "crossbar_master"


@pytest.fixture(scope="module")
def services():
    return yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))["services"]


def mounts(service):
    """Volume, path and whether it can be written to, of each mount of a service."""
    for mount in service.get("volumes", ()):
        source, path, *mode = mount.split(":")
        yield source, path, mode != ["ro"]


def nodes(services):
    return {name: service for name, service in services.items() if "CROSSBAR_NODE_ID" in service.get("environment", {})}


def test_no_volume_can_be_written_by_two_services(services):
    writers = defaultdict(set)
    for name, service in services.items():
        for volume, _, writable in mounts(service):
            if writable:
                writers[volume].add(name)
    assert {volume: names for volume, names in writers.items() if len(names) > 1} == {}


def test_each_node_shows_its_key_in_a_place_that_the_master_watches(services):
    master = services[MASTER]
    watched = master["environment"]["CROSSBAR_WATCH_TO_PAIR"]
    seen = {volume for volume, path, writable in mounts(master) if path.startswith(f"{watched}/") and not writable}
    assert len(nodes(services)) == 4
    for name, node in nodes(services).items():
        shown_in = node["environment"]["CROSSBAR_CLUSTER_SHOW_KEY_IN"]
        [shown] = [volume for volume, path, writable in mounts(node) if path == shown_in and writable]
        assert shown in seen, name


def test_each_node_is_told_its_master_s_key_by_the_master_alone(services):
    master = services[MASTER]
    shown_in = master["environment"]["CROSSBAR_CLUSTER_SHOW_KEY_IN"]
    [shown] = [volume for volume, path, writable in mounts(master) if path == shown_in and writable]
    for name, node in nodes(services).items():
        [path] = [path for volume, path, writable in mounts(node) if volume == shown and not writable]
        assert node["environment"]["CROSSBAR_CLUSTER_MASTER_KEY"] == f"{path}/key.pub", name
