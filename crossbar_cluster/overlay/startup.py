"""Arms the patches. Imported by the distribution's ``.pth`` file in every Python process of the installation.

Most of those processes never import `crossbar`, so this module imports nothing that the interpreter has not loaded
already, and does nothing but put one finder on `sys.meta_path`. The first execution of the package `crossbar` takes
the finder off and calls the installer. Whether the patches are wanted is decided then, from CROSSBAR_CLUSTER.
"""

import os
import sys

TYPE_CHECKING = False  # what typing.TYPE_CHECKING is, without importing typing
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

VARIABLE = "CROSSBAR_CLUSTER"
ON = ("on", "1", "yes", "true")
OFF = ("off", "0", "no", "false")

# The node controller starts router workers with an environment that inherits PYTHONPATH, which it sets from its own
# sys.path, and no other variable. An entry in sys.path that names no file is therefore what carries "off" to them.
MARKER = "/" + VARIABLE + "=off"


def switched_on() -> bool:
    """Whether the patches are wanted in this process: the environment's word, then the marker's, then yes."""
    value = os.environ.get(VARIABLE, "").strip().lower()
    if value in ON:
        return True
    if value in OFF:
        return False
    if value:
        from crossbar_cluster.overlay.errors import SwitchError, refuse

        refuse(
            SwitchError(
                f"crossbar-cluster: the environment variable {VARIABLE} is {os.environ[VARIABLE]!r}; accepted are"
                f" {', '.join(ON)} (apply the patches, the default) and {', '.join(OFF)} (run the release as it is)."
            )
        )
    return MARKER not in sys.path


def wanted() -> bool:
    """`switched_on`, where a switch that means nothing is for others to refuse."""
    return os.environ.get(VARIABLE, "").strip().lower() not in OFF and MARKER not in sys.path


def activate() -> None:
    """Install the patches if they are wanted, then take the finder off. A refusal leaves it, to refuse again."""
    if switched_on():
        while MARKER in sys.path:  # an explicit "on" must reach the workers too
            sys.path.remove(MARKER)
        from crossbar_cluster.overlay.installer import install

        install()
    elif MARKER not in sys.path:
        sys.path.append(MARKER)
    disarm()


def disarm() -> None:
    """Take the finder off, so that importing `crossbar` does what it does without this distribution."""
    sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, CrossbarFinder)]


class CrossbarFinder:
    """Calls `activate` just before the package `crossbar` is executed. Looking for its spec alone does nothing."""

    def find_spec(
        self, name: str, path: "Sequence[str] | None" = None, target: "ModuleType | None" = None
    ) -> "ModuleSpec | None":
        if name != "crossbar":
            return None
        # Only the finders behind this one are asked: none of them can come back here, so there is no endless loop.
        for finder in sys.meta_path[sys.meta_path.index(self) + 1 :]:
            find = getattr(finder, "find_spec", None)
            spec: ModuleSpec | None = find(name, path, target) if find else None
            if spec is not None:
                return activate_first(spec)
        return None


def activate_first(spec: "ModuleSpec") -> "ModuleSpec":
    """Give the spec's own loader, made for this one import, an `exec_module` that activates the patches first.

    An attribute of the instance, not a wrapper around it: the module must keep a loader of the usual type, which
    importlib.resources and pkgutil look at.
    """
    loader = spec.loader
    if loader is not None:  # None is a namespace package: a folder named crossbar, not the release

        def exec_module(module: "ModuleType") -> None:
            del loader.exec_module
            activate()
            loader.exec_module(module)

        loader.exec_module = exec_module  # type: ignore[method-assign]
    return spec


def arm() -> None:
    """Put the finder first, once. With `crossbar` imported already there is nothing to wait for."""
    if "crossbar" in sys.modules:
        activate()
    elif not any(isinstance(finder, CrossbarFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, CrossbarFinder())


arm()
