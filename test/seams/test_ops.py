"""The alert rules and the dashboard: sound, and about metrics that there are."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from crossbar_cluster.core.metrics import CATALOG

OPS = Path(__file__).resolve().parents[2] / "ops"
DASHBOARD = OPS / "grafana" / "crossbar-cluster.json"
ALERTS = OPS / "prometheus" / "alerts.yml"


@pytest.mark.parametrize(
    ("what", "file"),
    [
        (("check", "rules"), "alerts.yml"),
        (("test", "rules"), "alerts.test.yml"),
        (("check", "config"), "prometheus.yml"),
    ],
)
def test_promtool_finds_nothing_wrong(what, file):
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed (Debian: apt install prometheus)")
    done = subprocess.run(["promtool", *what, str(OPS / "prometheus" / file)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("file", [ALERTS, DASHBOARD], ids=lambda file: file.name)
def test_every_metric_that_is_named_is_exposed(file):
    named = set(re.findall(r"crossbar_cluster_\w+", file.read_text(encoding="utf-8")))
    exposed = {*CATALOG, *(f"{m.name}_bucket" for m in CATALOG.values() if m.kind == "histogram")}
    assert named and named <= exposed


def test_the_dashboard_has_no_panels_on_top_of_each_other():
    panels = json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        cells = {(at["x"] + i, at["y"] + j) for i in range(at["w"]) for j in range(at["h"])}
        assert not taken & cells and at["x"] + at["w"] <= 24, panel["title"]
        taken |= cells
    assert len({panel["id"] for panel in panels}) == len(panels)
