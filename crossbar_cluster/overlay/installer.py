"""Checks the release and registers the patches: one wrapt post-import hook for every released module that changes."""

import functools
import importlib
import sys
from collections.abc import Sequence
from importlib import metadata
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import ClassVar

from wrapt import register_post_import_hook

from crossbar_cluster.overlay.apply import applied_count, apply_records
from crossbar_cluster.overlay.clock import arm_clock
from crossbar_cluster.overlay.discover import PATCHES, patch_modules
from crossbar_cluster.overlay.errors import PatchFailed, UnsupportedRelease, refuse
from crossbar_cluster.overlay.record import Record, records_of

SUPPORTED_RELEASES = ("26.10.1",)

_registered: dict[str, str] = {}  # released module -> patch module


def install(package: str = PATCHES) -> None:
    """Have every module of the release that has a patch in `package` patched: now if it is loaded, else when it is.

    Raises UnsupportedRelease, or PatchFailed for a module that is loaded already; in a process of crossbar itself the
    process ends instead. A second call changes nothing.
    """
    check_release()
    arm_clock()
    for released, patch in patch_modules(package).items():
        if _registered.get(released) == patch:
            continue
        if getattr(getattr(sys.modules.get(released), "__spec__", None), "_initializing", False):
            raise PatchFailed("install() was called while the module was being imported", target=released)
        _registered[released] = patch
        register_post_import_hook(functools.partial(_patch, patch), released)


def check_release() -> None:
    """Refuse any release but those that the patches are written for."""
    version = installed_release()
    if version in SUPPORTED_RELEASES:
        return
    supported = ", ".join(SUPPORTED_RELEASES)
    refuse(
        UnsupportedRelease(
            f"crossbar-cluster: the installed crossbar is {version or 'not known to this Python'}; the patches are"
            f" written for {supported}.\n  Either install that release: pip install crossbar=={SUPPORTED_RELEASES[-1]}"
            f"\n  or set CROSSBAR_CLUSTER=off to run the installed release as it is, without the patches."
        )
    )


def installed_release() -> str | None:
    """The version of the installed crossbar, without importing it."""
    try:
        return metadata.version("crossbar")
    except metadata.PackageNotFoundError:
        return None


def load_records(released: str, patch: str) -> list[Record]:
    """Import the patch module of a released module and return its records; PatchFailed if that cannot be done."""
    try:
        return records_of(importlib.import_module(patch), released)
    except Exception as error:
        raise _described(error, released, patch) from error


def _patch(patch: str, module: ModuleType) -> None:
    """The post-import hook: the released module has been executed; whoever imports it has not got it yet."""
    released = module.__name__
    try:
        records = load_records(released, patch)
        try:
            apply_records(records, module)
        except Exception as error:
            raise _described(error, released, patch) from error
    except PatchFailed as failure:
        _Refused.remember(released, failure)
        refuse(failure)


def _described(error: Exception, released: str, patch: str) -> PatchFailed:
    file = getattr(sys.modules.get(patch), "__file__", None) or f"{patch.replace('.', '/')}.py"
    if isinstance(error, PatchFailed):
        return PatchFailed(error.reason, target=error.target or released, file=error.file or file)
    return PatchFailed(f"{type(error).__name__}: {error}", target=released, file=file)


class _Refused:
    """Repeats the failure when a module that could not be patched is imported again.

    wrapt fires a hook once. A second attempt, after some `except` has hidden the first one's failure, would get the
    released module without its patch.
    """

    failures: ClassVar[dict[str, PatchFailed]] = {}

    @classmethod
    def remember(cls, released: str, failure: PatchFailed) -> None:
        if not cls.failures:
            sys.meta_path.insert(0, cls())
        cls.failures[released] = failure

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name in self.failures:
            raise self.failures[name]
        return None


def status() -> dict[str, int]:
    """Released module -> how many patches have been applied to it in this process (0: it is not loaded)."""
    return {name: applied_count(sys.modules[name]) if name in sys.modules else 0 for name in _registered}
