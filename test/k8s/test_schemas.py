"""Every manifest is what two versions of Kubernetes take, and nothing that they would drop in silence."""

from collections.abc import Callable
from operator import setitem

import kubernetes_validate
import pytest
from kubernetes_validate.utils import all_versions

NEWEST = all_versions()[-2:]


@pytest.mark.parametrize("version", NEWEST)
def test_every_manifest_is_valid(manifests, version):
    assert len(manifests.documents) > 10
    for document in manifests.documents:
        kubernetes_validate.validate(document, version, strict=True)


BREAKS: dict[str, tuple[str, Callable]] = {
    "a field that there is not": (
        "StatefulSet",
        lambda d: setitem(d["spec"]["template"]["spec"], "securtyContext", {}),
    ),
    "text for a number": ("StatefulSet", lambda d: setitem(d["spec"], "replicas", "two")),
    "a part that is missing": ("Deployment", lambda d: d["spec"].pop("selector")),
    "a mapping for a list": ("NetworkPolicy", lambda d: setitem(d["spec"], "policyTypes", {"Ingress": True})),
    "a field of another version": ("HorizontalPodAutoscaler", lambda d: setitem(d["spec"], "targetCPUUtilization", 1)),
}


@pytest.mark.parametrize("version", NEWEST)
@pytest.mark.parametrize("what", BREAKS)
def test_what_is_broken_is_rejected(manifests, what, version):
    kind, break_it = BREAKS[what]
    document = manifests.of(kind)[0]
    kubernetes_validate.validate(document, version, strict=True)
    break_it(document)
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(document, version, strict=True)


@pytest.mark.parametrize("version", NEWEST)
def test_a_kind_that_there_is_not_is_rejected(manifests, version):
    document = {**manifests.of("HorizontalPodAutoscaler")[0], "apiVersion": "autoscaling/v2beta2"}
    with pytest.raises(kubernetes_validate.SchemaNotFoundError):
        kubernetes_validate.validate(document, version, strict=True)
