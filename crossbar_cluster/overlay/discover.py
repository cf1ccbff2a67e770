"""Finds the patch modules on disk, without importing them."""

import importlib
import os
from collections.abc import Iterable
from pathlib import Path

PATCHES = "crossbar_cluster.patches"


def patch_modules(package: str = PATCHES) -> dict[str, str]:
    """Released module -> name of the module that patches it, sorted."""
    return {
        "crossbar." + dotted: f"{package}.{dotted}"
        for dotted in sorted(set(_below(importlib.import_module(package).__path__)))
    }


def _below(folders: Iterable[str]) -> Iterable[str]:
    for top in folders:
        for folder, inner, files in os.walk(top):
            inner[:] = [name for name in inner if name.isidentifier() and name != "__pycache__"]
            parts = Path(folder).relative_to(top).parts
            for file in files:
                stem, ext = os.path.splitext(file)
                if ext == ".py" and stem != "__init__":
                    yield ".".join((*parts, stem))


def checkout_root() -> Path | None:
    """The folder of the checkout that this code runs from; None in an ordinary install."""
    root = Path(__file__).resolve().parents[2]
    ours = root / "crossbar"
    if (root / "setup.py").is_file() and ours.is_dir() and not (ours / "__init__.py").exists():
        return root
    return None
