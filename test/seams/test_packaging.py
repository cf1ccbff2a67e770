"""Every way of installing puts the `.pth` file into site-packages, and uninstalling takes it out again.

The fresh environments see the packages of this one through a path line in a `.pth` file, so nothing is downloaded.
`.pth` files inside a folder named that way are not read: this environment's own crossbar-cluster does not leak in.
"""

import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

LOCAL = ("--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check")
LOOK = """
import crossbar.node.main as main, crossbar_cluster, sys
from crossbar_cluster.overlay.discover import checkout_root, patch_modules
from crossbar_cluster.overlay.installer import status
assert hasattr(main._run_command_version, "__wrapped__")
print("LOOK", crossbar_cluster.__file__, checkout_root() is not None, len(patch_modules()), len(status()))
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """A copy of the checkout: building leaves folders behind."""
    root = Path(__file__).resolve().parents[2]
    copy = tmp_path_factory.mktemp("source") / "crossbar-cluster"
    copy.mkdir()
    for name in ("crossbar", "crossbar_cluster"):
        shutil.copytree(root / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for file in root.iterdir():
        if file.is_file():
            shutil.copy(file, copy)
    return copy


@pytest.fixture
def fresh(tmp_path) -> Callable[..., str]:
    """fresh(program, *arguments): runs a program in a new environment, or its pip for `pip`."""
    env = tmp_path / "env"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", env], check=True)
    site = next(env.glob("lib/python*/site-packages"))
    (site / "zz-parent.pth").write_text(sysconfig.get_path("purelib") + "\n")

    def runner(program: str, *arguments: str) -> str:
        python = str(env / "bin" / "python")
        command = [python, "-m", "pip"] if program == "pip" else [str(env / "bin" / program)]
        done = subprocess.run([*command, *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=200)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    runner.site = site  # type: ignore[attr-defined]
    return runner


def patch_count(source: Path) -> int:
    return len(list((source / "crossbar").rglob("*.py")))


@pytest.mark.parametrize("way", ["wheel", "plain", "editable"])
def test_install_and_uninstall(fresh, source, tmp_path, way):
    if way == "wheel":
        fresh("pip", "wheel", *LOCAL, "-w", str(tmp_path), str(source))
        fresh("pip", "install", *LOCAL, str(next(tmp_path.glob("*.whl"))))
    else:
        fresh("pip", "install", *LOCAL, *(["-e"] if way == "editable" else []), str(source))
    assert (fresh.site / "crossbar-cluster.pth").read_text() == (source / "crossbar-cluster.pth").read_text()
    home, in_checkout, found, registered = fresh("python", "-c", LOOK).rpartition("LOOK ")[2].split()
    assert home.startswith(str(source if way == "editable" else fresh.site))
    assert in_checkout == str(way == "editable")
    assert int(found) == int(registered) == patch_count(source)
    assert fresh("crossbar-cluster", "--version").endswith("1.0.0\n")
    if way != "editable":
        assert (fresh.site / "crossbar_cluster" / "overlay" / "fingerprints.json").exists()
        assert (fresh.site / "crossbar_cluster" / "py.typed").exists()

    fresh("pip", "uninstall", "-y", "crossbar-cluster")
    assert sorted(path.name for path in fresh.site.iterdir() if "crossbar" in path.name) == []
    code = "import crossbar.node.main as main; print(hasattr(main._run_command_version, '__wrapped__'))"
    assert fresh("python", "-c", code).strip() == "False"


def test_editable_install_finds_a_new_patch_folder(fresh, source, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(source, copy)
    fresh("pip", "install", *LOCAL, "-e", str(copy))
    new = copy / "crossbar" / "newly" / "made.py"
    new.parent.mkdir()
    new.touch()
    code = "from crossbar_cluster.overlay.discover import patch_modules; print(sorted(patch_modules()))"
    assert "crossbar.newly.made" in fresh("python", "-c", code)


def test_half_removed_install_breaks_no_python(fresh, source):
    fresh("pip", "install", *LOCAL, str(source))
    shutil.rmtree(fresh.site / "crossbar_cluster")
    assert fresh("python", "-c", "print('fine')") == "fine\n"


def test_sdist_carries_everything(source, tmp_path):
    """What is built from the sdist is what is built from the checkout."""
    copy = tmp_path / "copy"
    shutil.copytree(source, copy)
    build = "import sys; from setuptools import build_meta as b; getattr(b, sys.argv[1])(sys.argv[2])"

    def made(command: str, cwd: Path, out: Path) -> Path:
        subprocess.run([sys.executable, "-c", build, command, out], cwd=cwd, check=True, capture_output=True)
        return next(out.iterdir())

    with tarfile.open(made("build_sdist", copy, tmp_path / "sdist")) as archive:
        archive.extractall(tmp_path / "unpacked", filter="data")
    unpacked = next((tmp_path / "unpacked").iterdir())
    assert (unpacked / "pyproject.toml").exists() and (unpacked / "MANIFEST.in").exists()
    wheels = []
    for number, folder in enumerate((copy, unpacked)):
        out = tmp_path / f"wheel{number}"
        out.mkdir()
        with zipfile.ZipFile(made("build_wheel", folder, out)) as wheel:
            wheels.append(sorted(wheel.namelist()))
    assert wheels[0] == wheels[1]
    assert sum(name.startswith("crossbar_cluster/patches/") for name in wheels[0]) == patch_count(source) + 1
    assert not [name for name in wheels[0] if name.startswith("crossbar/")]
