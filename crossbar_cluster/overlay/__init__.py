"""Finds the patches of crossbar-cluster, checks them against the release, applies them.

`startup` runs in every Python process (from the ``.pth`` file), so the names below are imported only when asked for.
"""

TYPE_CHECKING = False  # what typing.TYPE_CHECKING is, without importing typing
if TYPE_CHECKING:
    from crossbar_cluster.overlay.errors import PatchFailed, SwitchError, UnsupportedRelease
    from crossbar_cluster.overlay.installer import install
    from crossbar_cluster.overlay.record import Record

__all__ = ("PatchFailed", "Record", "SwitchError", "UnsupportedRelease", "install")

_HOMES = {
    "PatchFailed": "errors",
    "SwitchError": "errors",
    "UnsupportedRelease": "errors",
    "Record": "record",
    "install": "installer",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
