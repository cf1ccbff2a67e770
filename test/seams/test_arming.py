"""`crossbar-cluster check` says whether anything applies the patches: sources that fit are of no use by themselves."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CHECK = "from crossbar_cluster.cli import main; main(['check', '--json'])"
PURELIB = sysconfig.get_path("purelib")


def findings(done: subprocess.CompletedProcess[str]) -> dict[str, dict[str, str]]:
    return {finding["target"]: finding for finding in json.loads(done.stdout)}


def test_it_is_armed_here(run):
    done = run("crossbar-cluster", "check", "--json")
    assert findings(done)["crossbar-cluster.pth"]["state"] == "ok"


def test_switched_off_is_meant_and_said(run):
    done = run("crossbar-cluster", "check", "--json", CROSSBAR_CLUSTER="off")
    finding = findings(done)["crossbar-cluster.pth"]
    assert finding["state"] == "ok" and "CROSSBAR_CLUSTER" in finding["detail"]


def test_a_python_that_reads_no_pth_files_is_told_of(run):
    """``python -S``: everything can be imported, as PYTHONPATH says where it is, and nothing is patched."""
    done = run("-S", code=CHECK, check=False, PYTHONPATH=os.pathsep.join((str(ROOT), PURELIB)))
    assert done.returncode == 1, done.stderr
    finding = findings(done)["crossbar-cluster.pth"]
    assert finding["state"] == "unarmed" and "-S" in finding["detail"]
    assert {f["state"] for name, f in findings(done).items() if name != "crossbar-cluster.pth"} == {"ok"}


@pytest.mark.slow
def test_pip_install_target_is_told_of(tmp_path):
    """Its folder is in PYTHONPATH, where no .pth file is read."""
    env, target = tmp_path / "env", tmp_path / "target"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", env], check=True)
    site = next(env.glob("lib/python*/site-packages"))
    (site / "zz-parent.pth").write_text(PURELIB + "\n")  # whose own .pth files are not read
    source = tmp_path / "source"
    source.mkdir()
    for name in ("crossbar", "crossbar_cluster"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ROOT.iterdir():
        if file.is_file():
            shutil.copy(file, source)
    python = str(env / "bin" / "python")
    pip = [python, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--target", str(target), str(source)], check=True, capture_output=True, timeout=200)
    assert (target / "crossbar-cluster.pth").exists(), "it is there, and not read"
    done = subprocess.run(
        [python, "-c", CHECK],
        env={k: v for k, v in os.environ.items() if k != "CROSSBAR_CLUSTER"} | {"PYTHONPATH": str(target)},
        cwd=tmp_path, capture_output=True, text=True, timeout=100,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert findings(done)["crossbar-cluster.pth"]["state"] == "unarmed"
