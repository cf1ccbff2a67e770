"""What each pod may do, is given, and is told."""

import pytest

from crossbar_cluster.lab.manifests import COMPONENT, Manifests, pod_labels, pod_spec
from crossbar_cluster.node import settings
from crossbar_cluster.node.settings import DRAIN, HEALTH_PORT

NODES = ("StatefulSet", "Deployment")
END_WITHIN_S = 10  # README.md: what a node takes to end once it has drained
ANSWER_WITHIN_S = 3  # README.md: the least that a probe should wait


def containers(manifests: Manifests, *kinds: str) -> list[tuple[dict, dict]]:
    """Workloads of some kinds, or all, each with its only container."""
    found = manifests.of(*kinds) if kinds else manifests.workloads()
    assert found and not any("initContainers" in pod_spec(w) for w in found)
    return [(w, *pod_spec(w)["containers"]) for w in found]


def plain_environment(container: dict) -> dict[str, str]:
    return {e["name"]: e["value"] for e in container["env"] if "value" in e}


def test_there_is_a_master_and_routers_and_proxies_and_the_job(manifests):
    found = {(w["kind"], w["metadata"]["name"], pod_labels(w)[COMPONENT]) for w in manifests.workloads()}
    assert found == {
        ("StatefulSet", "crossbar-master", "master"),
        ("StatefulSet", "crossbar-router-realm1-sfs", "router"),
        ("StatefulSet", "crossbar-router-realm2-sfs", "router"),
        ("Deployment", "crossbar-proxy", "proxy"),
        ("Job", "crossbar-apply", "apply"),
    }


def test_no_pod_may_do_more_than_it_needs(manifests):
    for workload, container in containers(manifests):
        spec, name = pod_spec(workload), workload["metadata"]["name"]
        assert spec["securityContext"] == {
            "runAsNonRoot": True,
            "runAsUser": 1000,
            "runAsGroup": 1000,
            "fsGroup": 1000,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        }, name
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }, name
        assert spec["automountServiceAccountToken"] is False, name
        assert spec["enableServiceLinks"] is False, "variables of Services would begin with CROSSBAR_, too"
        assert not {"hostNetwork", "hostPID", "hostIPC", "serviceAccountName"} & spec.keys(), name
        assert not any("hostPath" in volume or "projected" in volume for volume in spec["volumes"]), name


def test_the_namespace_admits_no_other_pods(manifests):
    [namespace] = manifests.of("Namespace")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    others = [d for d in manifests.documents if d is not namespace]
    assert {d["metadata"]["namespace"] for d in others} == {namespace["metadata"]["name"]}


def test_memory_is_limited_and_cpu_is_not(manifests):
    for workload, container in containers(manifests):
        requests, limits = container["resources"]["requests"], container["resources"]["limits"]
        assert requests.keys() == {"cpu", "memory"} and limits.keys() == {"memory"}, workload["metadata"]["name"]
        assert in_mib(requests["memory"]) < in_mib(limits["memory"])


def in_mib(quantity: str) -> int:
    return int(quantity.removesuffix("Gi")) * 1024 if quantity.endswith("Gi") else int(quantity.removesuffix("Mi"))


def test_what_can_be_written_to_does_not_grow_without_end(manifests):
    for workload, container in containers(manifests):
        claims = [claim["metadata"]["name"] for claim in workload["spec"].get("volumeClaimTemplates", [])]
        volumes = pod_spec(workload)["volumes"]
        limited = [volume["name"] for volume in volumes if volume.get("emptyDir", {}).get("sizeLimit")]
        written = {mount["name"] for mount in container["volumeMounts"] if not mount.get("readOnly")}
        assert written == {*claims, *limited}, workload["metadata"]["name"]
        paths = {mount["mountPath"] for mount in container["volumeMounts"] if not mount.get("readOnly")}
        assert paths == ({"/tmp"} if workload["kind"] == "Job" else {"/tmp", "/node"})


def test_nodes_have_an_identity_that_lasts_as_long_as_their_name(manifests):
    for workload, container in containers(manifests, *NODES):
        [mount] = [mount for mount in container["volumeMounts"] if mount["mountPath"] == "/node"]
        claims = [claim["metadata"]["name"] for claim in workload["spec"].get("volumeClaimTemplates", [])]
        assert (mount["name"] in claims) == (workload["kind"] == "StatefulSet"), workload["metadata"]["name"]


def test_only_the_job_has_the_users_private_key_and_each_node_its_own_token_only(manifests):
    given = {}
    for workload, container in containers(manifests):
        assert "envFrom" not in container and "secretKeyRef" not in str(container), "secrets are files"
        for volume in pod_spec(workload)["volumes"]:
            if secret := volume.get("secret"):
                assert secret["defaultMode"] == 0o440, "for the group of fsGroup, and nobody else"
                [mount] = [m for m in container["volumeMounts"] if m["name"] == volume["name"]]
                assert mount["readOnly"] is True
                files = tuple((i["key"], f"{mount['mountPath']}/{i['path']}") for i in secret.get("items", ()))
                given.setdefault(workload["metadata"]["name"], {})[secret["secretName"]] = files or mount["mountPath"]
    router = {"crossbar-pairing": (("crossbar-router-", "/run/secrets/pairing/token"),)}
    assert given == {
        "crossbar-master": {
            "crossbar-superuser": (("default.pub", "/run/secrets/superuser/default.pub"),),
            "crossbar-pairing": "/run/secrets/pairing",
            "crossbar-master": "/run/secrets/master",
        },
        "crossbar-router-realm1-sfs": router,
        "crossbar-router-realm2-sfs": router,
        "crossbar-proxy": {"crossbar-pairing": (("crossbar-proxy-", "/run/secrets/pairing/token"),)},
        "crossbar-apply": {"crossbar-superuser": (("default.priv", "/run/secrets/superuser/default.priv"),)},
    }


def test_what_nodes_are_told_makes_sense_to_them(manifests):
    for workload, container in containers(manifests, *NODES):
        environment = plain_environment(container)
        settings.check(environment)
        fields = {e["name"]: e["valueFrom"]["fieldRef"]["fieldPath"] for e in container["env"] if "valueFrom" in e}
        pairing = {
            "CROSSBAR_CLUSTER_PAIRING_TOKEN_FILE": "/run/secrets/pairing/token",
            "CROSSBAR_CLUSTER_PAIRING_TOKENS": "/run/secrets/pairing",
            "CROSSBAR_FABRIC_SUPERUSER": "/run/secrets/superuser/default.pub",
        }
        files = {name: environment[name] for name in pairing if name in environment}
        if workload["metadata"]["name"] == "crossbar-master":
            assert container["args"] == ["master", "start", "--cbdir=/node/.crossbar"]
            assert fields == {} and len(files) == 2 and "CROSSBAR_CLUSTER_PAIRING_TOKEN_FILE" not in files
        else:
            assert container["args"] == ["edge", "start", "--cbdir=/node/.crossbar"]
            assert fields == {"CROSSBAR_NODE_ID": "metadata.name", "CROSSBAR_NODE_CLUSTER_IP": "status.podIP"}
            assert list(files) == ["CROSSBAR_CLUSTER_PAIRING_TOKEN_FILE"]
        assert files.items() <= pairing.items()
        assert "command" not in container, "the image's entry point makes a node's key"


def test_probes_ask_the_health_port_and_wait_for_workers_that_hang(manifests):
    for _, container in containers(manifests, *NODES):
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        probes = {probe: container[f"{probe}Probe"] for probe in ("startup", "liveness", "readiness")}
        paths = {name: probe["httpGet"]["path"] for name, probe in probes.items()}
        assert paths == {"startup": "/healthz", "liveness": "/healthz", "readiness": "/readyz"}
        for probe in probes.values():
            assert ports[probe["httpGet"]["port"]] == HEALTH_PORT.read(plain_environment(container))
            assert probe["timeoutSeconds"] >= ANSWER_WITHIN_S


def test_a_node_has_the_time_to_drain_and_a_proxy_leaves_its_service_first(manifests):
    for workload, container in containers(manifests, *NODES):
        is_proxy = pod_labels(workload)[COMPONENT] == "proxy"
        assert ("lifecycle" in container) == is_proxy, "only a proxy is reached through a Service"
        stop_s = 0
        if is_proxy:
            command, seconds = container["lifecycle"]["preStop"]["exec"]["command"]
            assert command == "sleep"
            stop_s = int(seconds)
            assert stop_s >= 5
        needed_s = stop_s + DRAIN.read(plain_environment(container)) + END_WITHIN_S
        assert pod_spec(workload)["terminationGracePeriodSeconds"] >= needed_s


def test_all_pods_run_one_image_that_is_not_pulled_again(manifests, overlay):
    images = {container["image"] for _, container in containers(manifests)}
    assert (
        images
        == {
            "dev": {"crossbar-cluster:latest"},
            "gke": {"registry.example.com/crossbar-cluster:1.0.0"},
        }[overlay]
    )
    assert {container["imagePullPolicy"] for _, container in containers(manifests)} == {"IfNotPresent"}


@pytest.mark.parametrize("component", ["router", "proxy"])
def test_what_there_are_several_of_is_spread(manifests, overlay, component):
    for workload in manifests.workloads(component):
        constraints = pod_spec(workload).get("topologySpreadConstraints", [])
        if workload["spec"].get("replicas") == 1:
            assert constraints == []
            continue
        over = ["kubernetes.io/hostname", "topology.kubernetes.io/zone"][: 2 if overlay == "gke" else 1]
        assert [constraint["topologyKey"] for constraint in constraints] == over
        for constraint in constraints:
            assert manifests.selected(constraint["labelSelector"]) == {workload["metadata"]["name"]}
