"""The manifests beside real processes: what nodes listen on, and what their pods leave them to work with.

A cluster is started with the names, arguments and settings of the rendered manifests, its nodes are paired by the
tokens that `crossbar-cluster secrets` makes, and it is configured by the Job's command with the ConfigMap's
cluster.yaml. As root, each process is confined as its container is: nothing can be written to but the node's directory,
and there is no capability. (That another user than root can do it is for tests of the image to see.)
"""

import asyncio
import json
import os
import shutil
import subprocess
import sysconfig
import time
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest
import pytest_asyncio
import yaml

from crossbar_cluster.lab.cluster import MASTER_CONFIG, MASTER_PORT, Cluster, Node, loopback_cluster
from crossbar_cluster.lab.host import LoopbackHost
from crossbar_cluster.lab.manifests import Manifests, listened_on, pod_spec, uncovered

from .conftest import K8S

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


def can_confine() -> bool:
    if os.geteuid() != 0 or not all(map(shutil.which, ("unshare", "setpriv", "mount"))):
        return False
    return subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode == 0  # not in a container


CONFINED = can_confine()
PROXY = "crossbar-proxy-6c7f9d8b5d-x2x8z"
WITHIN_S = 60.0
#: What listens inside a pod beside these ports: nothing. To be extended only with a rule in networkpolicies.yaml.
NOTHING: dict[str, set[int]] = {}

# The first arguments, up to --, are what can be written to.
CONFINE = """
set -e
mount --bind "$LAB" "$LAB"
mount -o remount,bind,ro "$LAB"
mount -o remount,bind,ro /
while [ "$1" != -- ]; do mount --bind "$1" "$1"; mount -o remount,bind,rw "$1"; shift; done
shift
exec setpriv --no-new-privs --bounding-set=-all --inh-caps=-all -- "$@"
"""


@dataclass(frozen=True)
class PodHost(LoopbackHost):
    """A host whose processes are confined as in a container of the manifests, if the tests are run by root."""

    lab: Path = Path()
    writable: tuple[Path, ...] = ()

    def command(self, argv: list[str]) -> list[str]:
        if not CONFINED:
            return argv
        for path in self.writable:
            path.mkdir(parents=True, exist_ok=True)
        confine = [
            "unshare",
            "--mount",
            "--propagation",
            "private",
            "env",
            f"LAB={self.lab}",
            "sh",
            "-c",
            CONFINE,
            "sh",
        ]
        return [*confine, *map(str, self.writable), "--", *argv]


@dataclass
class Pods:
    """A running cluster of the manifests."""

    manifests: Manifests
    cluster: Cluster
    secrets: dict[str, dict[str, str]]  #: name -> content
    nodes: dict[str, list[Node]] = field(default_factory=dict)  #: component -> nodes

    def add(self, component: str, name: str, host: "PodHost", workload: dict) -> Node:
        """A node whose key nobody but itself sees."""
        [directory] = host.writable
        node = self.cluster.nodes[name] = Node(name, host, directory, cluster_ip=host.address)
        self.settle(workload, node)
        self.nodes[component].append(node)
        return node

    def settle(self, workload: dict, node: Node) -> None:
        """Give a node the settings of its pod: those that are no address; and the files of its Secrets."""
        spec = pod_spec(workload)
        [container] = spec["containers"]
        mounted = self._mounted(spec, node)
        for variable, value in ((e["name"], e["value"]) for e in container["env"] if "value" in e):
            where, _, file = value.rpartition("/")
            if value in mounted or where in mounted:
                node.settings[variable] = str(mounted[value] if value in mounted else mounted[where] / file)
            elif "://" not in value:
                node.settings[variable] = value
        node.settings["HOME"] = str(node.directory)  # as in the image
        [kind, start, _] = container["args"]
        assert (kind, start) == ("master" if node is self.cluster.master else "edge", "start"), "the lab's own command"

    def _mounted(self, spec: dict, node: Node) -> dict[str, Path]:
        """Where a node finds the Secrets that its pod has mounted. Path in the container -> directory."""
        secrets = {volume["name"]: volume["secret"] for volume in spec["volumes"] if "secret" in volume}
        found = {}
        for mount in spec["containers"][0]["volumeMounts"]:
            if secret := secrets.get(mount["name"]):
                content = self.secrets[secret["secretName"]]
                found[mount["mountPath"]] = directory = self.cluster.directory / "secrets" / node.name / mount["name"]
                directory.mkdir(parents=True)
                for item in secret.get("items") or [{"key": key, "path": key} for key in content]:
                    (directory / item["path"]).write_text(content[item["key"]])
        return found

    async def apply(self, host: PodHost) -> subprocess.CompletedProcess[str]:
        """Run the Job."""
        [job], [configmap] = self.manifests.of("Job"), self.manifests.of("ConfigMap")
        command = pod_spec(job)["containers"][0]["args"]  # the entry point of the image runs it as it is
        file = self.cluster.directory / "cluster.yaml"
        file.write_text(configmap["data"]["cluster.yaml"])
        paths = {
            "crossbar-cluster": Path(sysconfig.get_path("scripts")) / "crossbar-cluster",
            "/etc/crossbar/cluster.yaml": file,
            "/run/secrets/superuser/default.priv": self.cluster.directory / "home" / ".crossbar" / "default.priv",
        }
        environment = {
            **os.environ,
            "CROSSBAR_FABRIC_URL": f"ws://{self.cluster.master.host.address}:{MASTER_PORT}/ws",
        }
        argv = host.command([str(paths.get(word, word)) for word in command])
        return await asyncio.to_thread(
            subprocess.run, argv, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )


def made_secrets() -> dict[str, dict[str, str]]:
    """What `crossbar-cluster secrets` makes. Name -> content."""
    command = Path(sysconfig.get_path("scripts")) / "crossbar-cluster"
    made = subprocess.run([str(command), "secrets"], check=True, capture_output=True, text=True).stdout
    return {document["metadata"]["name"]: document["stringData"] for document in yaml.safe_load_all(made)}


@pytest_asyncio.fixture(scope="module")
async def pods(tmp_path_factory):
    manifests = Manifests.read(K8S / "rendered" / "dev.yaml")
    directory = tmp_path_factory.mktemp("pods")
    async with loopback_cluster(directory) as (cluster, network):

        def host(*writable: Path) -> PodHost:
            address = network.host().address
            return PodHost(address, network, lab=directory, writable=writable)

        pods = Pods(manifests, cluster, made_secrets(), {"master": [cluster.master], "router": [], "proxy": []})
        cluster.master.host = cluster.master_host = host(cluster.master.directory, directory / "home")
        pods.settle(manifests.one("StatefulSet", "crossbar-master"), cluster.master)
        for variable in ("HOME", "CROSSBAR_FABRIC_SUPERUSER"):  # the lab has the superuser's key where it wants it
            del cluster.master.settings[variable]
        for workload in manifests.workloads("router"):
            for number in range(workload["spec"]["replicas"]):
                name = f"{workload['metadata']['name']}-{number}"
                pods.add("router", name, host(directory / "hosts" / name), workload)
        proxy = pods.add(
            "proxy", PROXY, host(directory / "hosts" / PROXY), manifests.one("Deployment", "crossbar-proxy")
        )
        keys = directory / "home" / ".crossbar"  # whose superuser the lab is
        keys.mkdir(parents=True)
        for name, text in pods.secrets["crossbar-superuser"].items():
            (keys / name).write_text(text)
        await cluster.boot()
        for nodes in (pods.nodes["router"], pods.nodes["proxy"]):
            for node in nodes:
                assert cluster.master.running.find(f"Node {node.name} has been paired by its token")
        job = await pods.apply(host())
        assert job.returncode == 0, job.stdout
        for realm in ("realm1", "realm2"):
            await cluster.served(realm, proxy, WITHIN_S)
        yield pods


def test_the_lab_configures_a_master_as_the_image_does():
    image = json.loads((K8S.parent / "docker" / "master.json").read_text(encoding="utf-8"))
    assert image["workers"] == MASTER_CONFIG["workers"]


@pytest.mark.parametrize("component", ["master", "router", "proxy"])
async def test_policies_let_somebody_in_wherever_a_node_listens_and_nowhere_else(pods, component):
    allowed = pods.manifests.allowed_ports(component)
    for node in pods.nodes[component]:
        listening = listened_on(node.running.pid)
        at_address = listening.pop(node.host.address, set())
        assert listening == NOTHING, "at an address that no other pod reaches, or that the lab knows nothing of"
        assert uncovered(at_address, allowed) == [], f"{node.name} listens on {sorted(at_address)}"


async def test_probes_find_every_node_ready(pods):
    for component, nodes in pods.nodes.items():
        probe = pod_spec(pods.manifests.workloads(component)[0])["containers"][0]["readinessProbe"]["httpGet"]
        for node in nodes:
            port = int(node.settings["CROSSBAR_HEALTH_PORT"])
            answer, deadline = b"", time.monotonic() + WITHIN_S
            while b" 200 " not in answer.partition(b"\r\n")[0]:
                assert time.monotonic() < deadline, f"{node.name}: {answer}"
                reader, writer = await asyncio.open_connection(node.host.address, port)
                writer.write(f"GET {probe['path']} HTTP/1.0\r\n\r\n".encode())
                answer = await asyncio.wait_for(reader.read(), WITHIN_S)
                writer.close()


@pytest.mark.skipif(not CONFINED, reason="only root, outside of containers, can confine processes (by util-linux)")
async def test_nodes_do_with_what_their_pods_leave_them(pods):
    """They have been started, configured and used by now. That they were confined is what is left to be seen."""
    for nodes in pods.nodes.values():
        for node in nodes:
            process = psutil.Process(node.running.pid)
            tree = [process, *process.children(recursive=True)]
            assert len(tree) > 1
            for each in tree:
                status = Path(f"/proc/{each.pid}/status").read_text()
                for line in ("CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1"):
                    assert line in status, each
                mounts = [line.split() for line in Path(f"/proc/{each.pid}/mounts").read_text().splitlines()]
                options = {mount: flags.split(",")[0] for _, mount, _, flags, *_ in mounts}
                assert options["/"] == options[str(pods.cluster.directory)] == "ro"
                assert options[str(node.directory)] == "rw"
    probe = PodHost("", None, lab=pods.cluster.directory).command(["touch", str(pods.cluster.directory / "new")])
    refused = subprocess.run(probe, capture_output=True, text=True)
    assert refused.returncode != 0 and "Read-only file system" in refused.stderr


async def test_nodes_need_no_more_memory_than_is_asked_for_them(pods):
    """Idle, and all that they share counted for each process: what a container has is less."""
    for component, nodes in pods.nodes.items():
        for workload in pods.manifests.workloads(component):
            requested = pod_spec(workload)["containers"][0]["resources"]["requests"]["memory"]
            for node in nodes:
                process = psutil.Process(node.running.pid)
                used = sum(p.memory_info().rss for p in (process, *process.children(recursive=True)))
                assert used <= int(requested.removesuffix("Mi")) * 2**20, f"{node.name}: {used >> 20} MiB"
