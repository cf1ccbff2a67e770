"""Whatever a manifest names is there, and whatever it selects is what it means."""

from urllib.parse import urlsplit

from crossbar_cluster.lab.manifests import Manifests, pod_labels, pod_spec

#: What `crossbar-cluster secrets` makes.
SECRETS = {
    "crossbar-superuser": {"default.pub", "default.priv"},
    "crossbar-master": {"key.priv"},
    "crossbar-pairing": {"crossbar-router-", "crossbar-proxy-"},
}
ROUTERS = {"crossbar-router-realm1-sfs", "crossbar-router-realm2-sfs"}
ALL = {"crossbar-master", *ROUTERS, "crossbar-proxy", "crossbar-apply"}


def port_names(manifests: Manifests, workload: str) -> dict[str, int]:
    [found] = (w for w in manifests.workloads() if w["metadata"]["name"] == workload)
    return {port["name"]: port["containerPort"] for c in pod_spec(found)["containers"] for port in c.get("ports", [])}


def test_nothing_is_there_twice(manifests):
    names = [(document["kind"], document["metadata"]["name"]) for document in manifests.documents]
    assert len(set(names)) == len(names)


def test_each_workload_selects_its_own_pods_and_no_others(manifests):
    for workload in manifests.of("StatefulSet", "Deployment"):
        assert manifests.selected(workload["spec"]["selector"]) == {workload["metadata"]["name"]}


def test_services_budgets_and_policies_select_what_they_are_for(manifests):
    selected = {
        (d["kind"], d["metadata"]["name"]): manifests.selected(d["spec"].get("podSelector") or d["spec"]["selector"])
        for d in manifests.of("Service", "PodDisruptionBudget", "NetworkPolicy")
    }
    assert selected == {
        ("Service", "crossbar-master"): {"crossbar-master"},
        ("Service", "crossbar-router-realm1"): {"crossbar-router-realm1-sfs"},
        ("Service", "crossbar-router-realm2"): {"crossbar-router-realm2-sfs"},
        ("Service", "crossbar-proxy"): {"crossbar-proxy"},
        ("PodDisruptionBudget", "crossbar-router-realm1"): {"crossbar-router-realm1-sfs"},
        ("PodDisruptionBudget", "crossbar-proxy"): {"crossbar-proxy"},
        ("NetworkPolicy", "crossbar-nobody"): ALL,
        ("NetworkPolicy", "crossbar-master"): {"crossbar-master"},
        ("NetworkPolicy", "crossbar-router"): ROUTERS,
        ("NetworkPolicy", "crossbar-proxy"): {"crossbar-proxy"},
        ("NetworkPolicy", "crossbar-monitoring"): ALL - {"crossbar-apply"},
    }


def test_the_autoscaler_alone_says_how_many_proxies_there_are(manifests):
    [autoscaler] = manifests.of("HorizontalPodAutoscaler")
    target = autoscaler["spec"]["scaleTargetRef"]
    proxies = manifests.one(target["kind"], target["name"])
    assert proxies["apiVersion"] == target["apiVersion"] and "replicas" not in proxies["spec"]
    assert autoscaler["spec"]["minReplicas"] < autoscaler["spec"]["maxReplicas"]
    assert pod_spec(proxies)["containers"][0]["resources"]["requests"]["cpu"], "its measure is a part of this"
    down = autoscaler["spec"]["behavior"]["scaleDown"]
    assert down["policies"] == [{"type": "Pods", "value": 1, "periodSeconds": 300}], "each makes clients connect anew"


def test_a_budget_never_forbids_that_any_pod_goes(manifests):
    """A single pod under a budget keeps its host from being drained for ever."""
    limited = set()
    for budget in manifests.of("PodDisruptionBudget"):
        assert budget["spec"]["maxUnavailable"] == 1 and "minAvailable" not in budget["spec"]
        limited |= manifests.selected(budget["spec"]["selector"])
    assert limited == {w["metadata"]["name"] for w in manifests.workloads() if w["spec"].get("replicas", 2) > 1} - {
        "crossbar-apply"
    }


def test_services_lead_to_ports_that_there_are(manifests):
    for service in manifests.of("Service"):
        [workload] = manifests.selected(service["spec"]["selector"])
        for port in service["spec"].get("ports", []):
            assert port["targetPort"] in port_names(manifests, workload)
    for workload in manifests.of("StatefulSet"):
        service = manifests.one("Service", workload["spec"]["serviceName"])
        assert manifests.selected(service["spec"]["selector"]) == {workload["metadata"]["name"]}


def test_routers_are_found_whether_ready_or_not_and_so_is_the_master(manifests):
    for name in ("crossbar-master", "crossbar-router-realm1", "crossbar-router-realm2"):
        assert manifests.one("Service", name)["spec"]["publishNotReadyAddresses"] is True
    assert "publishNotReadyAddresses" not in manifests.one("Service", "crossbar-proxy")["spec"]


def test_the_url_of_the_master_leads_to_its_service(manifests):
    urls = {
        entry["value"]: workload["metadata"]["name"]
        for workload in manifests.workloads()
        for entry in pod_spec(workload)["containers"][0]["env"]
        if entry["name"] == "CROSSBAR_FABRIC_URL"
    }
    [url] = map(urlsplit, urls)
    service = manifests.one("Service", url.hostname)
    assert (url.scheme, url.path) == ("ws", "/ws")
    assert url.port in {port["port"] for port in service["spec"]["ports"]}


def test_every_volume_that_is_mounted_and_every_object_that_it_names_is_there(manifests):
    configmaps = {c["metadata"]["name"]: set(c["data"]) for c in manifests.of("ConfigMap")}
    used = set()
    for workload in manifests.workloads():
        spec = pod_spec(workload)
        claims = {claim["metadata"]["name"] for claim in workload["spec"].get("volumeClaimTemplates", [])}
        volumes = {volume["name"] for volume in spec["volumes"]}
        assert not claims & volumes
        [container] = spec["containers"]
        assert {mount["name"] for mount in container["volumeMounts"]} == claims | volumes
        for volume in spec["volumes"]:
            if secret := volume.get("secret"):
                assert {item["key"] for item in secret.get("items", ())} <= SECRETS[secret["secretName"]]
            elif "configMap" in volume:
                assert configmaps[volume["configMap"]["name"]]
                used.add(volume["configMap"]["name"])
            else:
                assert "emptyDir" in volume, "no claim of a single pod"
    assert used == set(configmaps), "none is left over"


def test_the_job_applies_files_that_it_is_given(manifests):
    [job] = manifests.of("Job")
    [container] = pod_spec(job)["containers"]
    volumes = {volume["name"]: volume for volume in pod_spec(job)["volumes"]}
    files = set()
    for mount in container["volumeMounts"]:
        volume = volumes[mount["name"]]
        if "configMap" in volume:
            names = manifests.one("ConfigMap", volume["configMap"]["name"])["data"]
            files |= {f"{mount['mountPath']}/{name}" for name in names}
        if "secret" in volume:
            files |= {f"{mount['mountPath']}/{item['path']}" for item in volume["secret"]["items"]}
    command = container["args"]  # run by the image's entry point as it is
    assert command[:2] == ["crossbar-cluster", "apply"]
    assert {command[2], command[command.index("--key") + 1]} == files


def test_every_pod_says_what_it_is(manifests):
    for document in manifests.documents:
        assert document["metadata"]["labels"]["app.kubernetes.io/part-of"] == "crossbar-cluster"
        assert document["metadata"]["labels"]["app.kubernetes.io/name"] == "crossbar"
    for workload in manifests.workloads():
        assert pod_labels(workload).items() >= workload["metadata"]["labels"].items()
