"""The rendered manifests. Tests of what they say need no kubectl: that they are up to date is a test of its own."""

from pathlib import Path

import pytest

from crossbar_cluster.lab.manifests import Manifests

K8S = Path(__file__).resolve().parents[2] / "k8s"
OVERLAYS = sorted(folder.name for folder in (K8S / "overlays").iterdir())


@pytest.fixture(params=OVERLAYS)
def overlay(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def manifests(overlay: str) -> Manifests:
    """Read anew for each test, which may change it."""
    return Manifests.read(K8S / "rendered" / f"{overlay}.yaml")
