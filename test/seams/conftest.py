"""Processes to look at the patches in: what the `.pth` file arms can only be seen in a fresh interpreter."""

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session", autouse=True)
def interruptible() -> None:
    """Programs started here hear of SIGINT even where the tests run in the background, which ignores it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def root() -> Path:
    return ROOT


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """run(*arguments, code=..., check=True, **env): a program of this environment, or Python with the code."""

    def runner(*arguments: str, code: str = "", check: bool = True, **env: str) -> subprocess.CompletedProcess[str]:
        if code:
            command = [sys.executable, *arguments, "-c", textwrap.dedent(code)]
        elif arguments[0] in ("crossbar", "crossbar-cluster"):
            command = [os.path.join(os.path.dirname(sys.executable), arguments[0]), *arguments[1:]]
        else:
            command = [sys.executable, *arguments]
        clean = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "CROSSBAR_CLUSTER")}
        done = subprocess.run(command, cwd=tmp_path, env={**clean, **env}, capture_output=True, text=True, timeout=100)
        if check:
            assert done.returncode == 0, done.stdout + done.stderr
        return done

    return runner


@pytest.fixture
def release() -> Path:
    """The folder of the released package `crossbar`."""
    from crossbar_cluster.overlay.fingerprint import package_folder

    return package_folder()


@pytest.fixture
def pretend_release(tmp_path: Path, release: Path) -> Callable[..., Path]:
    """pretend_release(version, copy=False): a folder for PYTHONPATH with that version of crossbar, which is a link to
    the installed package, or a copy of its sources that the test may change."""

    def make(version: str, copy: bool = False) -> Path:
        folder = tmp_path / "pretended"
        info = folder / f"crossbar-{version}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: crossbar\nVersion: {version}\n")
        if copy:
            for source in release.rglob("*.py"):
                target = folder / "crossbar" / source.relative_to(release)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(source.read_bytes())
        else:
            (folder / "crossbar").symlink_to(release)
        return folder

    return make


@pytest.fixture
def patch_package(tmp_path: Path) -> Callable[..., Path]:
    """patch_package({"node/main.py": code}): a folder for PYTHONPATH with a patch package `trial`."""

    def make(files: dict[str, str]) -> Path:
        folder = tmp_path / "patches"
        (folder / "trial").mkdir(parents=True)
        (folder / "trial" / "__init__.py").touch()
        for name, code in files.items():
            file = folder / "trial" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(textwrap.dedent(code))
        return folder

    return make
