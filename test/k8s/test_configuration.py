"""cluster.yaml, as the Job applies it, is about the pods that there are; and policies let in who needs it."""

import fnmatch

import pytest

from crossbar_cluster.lab.manifests import COMPONENT, Manifests, NotUnderstood, Peer, pod_labels, pod_spec, uncovered
from crossbar_cluster.operator.apply.reading import Description, Invalid, read

MASTER, ROUTERS, WEB, HEALTH = range(9000, 9001), range(10000, 10101), range(8080, 8081), range(9090, 9091)
COMPONENTS = ("master", "router", "proxy", "apply")
HERE = "crossbar"


def described(manifests: Manifests) -> Description:
    [configmap] = manifests.of("ConfigMap")
    return read(configmap["data"]["cluster.yaml"])


def node_names(manifests: Manifests) -> dict[str, list[str]]:
    """Workload -> names as its pods have them."""
    return {
        w["metadata"]["name"]: [f"{w['metadata']['name']}-{i}" for i in range(w["spec"]["replicas"])]
        if w["kind"] == "StatefulSet"
        else [f"{w['metadata']['name']}-{of_replicaset}" for of_replicaset in ("6c7f9d8b5d-x2x8z", "5d4f-00000")]
        for w in manifests.of("StatefulSet", "Deployment")
    }


def test_the_parser_would_tell_what_is_wrong(manifests):
    [configmap] = manifests.of("ConfigMap")
    with pytest.raises(Invalid):
        read(configmap["data"]["cluster.yaml"].replace("group1: {scale", "group1: {scales"))


def test_the_patterns_mean_each_pod_once_and_the_scale_is_that_of_the_pods(manifests):
    description = described(manifests)
    patterns = {
        (kind, name): list(cluster.nodes)
        for kind, clusters in (("routers", description.routerclusters), ("proxies", description.webclusters))
        for name, cluster in clusters.items()
    }
    meant = {
        workload: {
            cluster: [name for name in names if any(fnmatch.fnmatchcase(name, rule) for rule in rules)]
            for cluster, rules in patterns.items()
        }
        for workload, names in node_names(manifests).items()
    }
    names = node_names(manifests)
    for workload, cluster in {
        "crossbar-router-realm1-sfs": ("routers", "routers_realm1"),
        "crossbar-router-realm2-sfs": ("routers", "routers_realm2"),
        "crossbar-proxy": ("proxies", "web"),
        "crossbar-master": None,
    }.items():
        assert meant[workload] == {each: names[workload] if each == cluster else [] for each in patterns}
    for name, cluster in description.routerclusters.items():
        [scale] = cluster.groups.values()
        assert scale == len(names[f"crossbar-router-{name.removeprefix('routers_')}-sfs"])


def test_the_token_that_a_pod_has_is_for_its_name(manifests):
    names = node_names(manifests)
    for workload in (*manifests.workloads("router"), *manifests.workloads("proxy")):
        [key] = [
            item["key"]
            for volume in pod_spec(workload)["volumes"]
            if volume.get("secret", {}).get("secretName") == "crossbar-pairing"
            for item in volume["secret"]["items"]
        ]
        assert all(name.startswith(key) for name in names[workload["metadata"]["name"]])


def test_the_web_cluster_listens_where_the_service_leads(manifests):
    [web] = described(manifests).webclusters.values()
    [port] = manifests.one("Service", "crossbar-proxy")["spec"]["ports"]
    [container] = pod_spec(manifests.one("Deployment", "crossbar-proxy"))["containers"]
    assert {p["name"]: p["containerPort"] for p in container["ports"]}[port["targetPort"]] == web.endpoint.port
    assert range(web.endpoint.port, web.endpoint.port + 1) in manifests.allowed_ports("proxy")
    assert set(web.services) == {"ws"}


def peers(manifests: Manifests) -> dict[str, Peer]:
    found = {c: Peer(pod_labels(manifests.workloads(c)[0]), HERE) for c in COMPONENTS}
    impostor = dict(found["router"].labels)
    return found | {
        "operator": Peer({"crossbar-cluster/operator": "true"}, HERE),
        "stranger": Peer({"app": "something"}, HERE),
        "router elsewhere": Peer(impostor, "default"),
        "half a router": Peer({COMPONENT: "router"}, HERE),
        "monitoring": Peer({"app": "prometheus"}, "monitoring"),
    }


def test_who_may_connect_to_what(manifests):
    may = {
        who: {c: sorted(map(str, manifests.allowed(peer, c))) for c in COMPONENTS}
        for who, peer in peers(manifests).items()
    }
    master, routers, web, health = ([str(ports)] for ports in (MASTER, ROUTERS, WEB, HEALTH))
    stranger = {"master": [], "router": [], "proxy": web, "apply": []}
    assert may == {
        "master": stranger,
        "router": stranger | {"master": master, "router": routers},
        "proxy": stranger | {"master": master, "router": routers},
        "apply": stranger | {"master": master},
        "operator": stranger | {"master": master},
        "stranger": stranger,
        "router elsewhere": stranger,
        "half a router": stranger,
        "monitoring": {"master": health, "router": health, "proxy": sorted(web + health), "apply": []},
    }


def test_what_no_policy_is_about_is_no_answer(manifests):
    manifests.documents = [d for d in manifests.documents if d["kind"] != "NetworkPolicy"]
    with pytest.raises(NotUnderstood, match="everything is allowed"):
        manifests.allowed_ports("master")


def test_ports_and_rules_are_compared_both_ways():
    assert uncovered({8080, 9090}, [WEB, HEALTH]) == []
    assert uncovered({8080, 9090, 7000}, [WEB, HEALTH]) == [
        "port 7000 is listened on, and 0 rules let somebody in there"
    ]
    assert uncovered({8080}, [WEB, HEALTH]) == ["somebody is let in at 9090 to 9090, where nobody listens"]
    assert uncovered({8080}, [WEB, WEB]) == ["port 8080 is listened on, and 2 rules let somebody in there"]
