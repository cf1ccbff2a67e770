"""What the overlay raises, and how it stops a process that must not run."""

import os
import sys
from typing import NoReturn


class UnsupportedRelease(ImportError):
    """The installed crossbar is not one that the patches are written for."""


class SwitchError(ImportError):
    """The environment variable CROSSBAR_CLUSTER holds a value that means nothing."""


class PatchFailed(RuntimeError):
    """A patch does not fit the release.

    Not an ImportError, although it is raised by an import: the release imports some modules in a
    ``try: ... except ImportError``, and would go on without the patch.
    """

    def __init__(self, reason: str, *, target: str = "", file: str = "") -> None:
        super().__init__(reason)
        self.reason, self.target, self.file = reason, target, file

    def __str__(self) -> str:
        where = f" {self.target}" if self.target else ""
        by = f"\n  patch file: {self.file}" if self.file else ""
        return (
            f"crossbar-cluster: cannot patch{where}: {self.reason}{by}\n"
            "  Run `crossbar-cluster check` to compare all patches with the installed release."
        )


def is_crossbar_process() -> bool:
    """Whether this process is the `crossbar` command or a worker (`python -m crossbar.worker.main`)."""
    program = os.path.basename(sys.argv[0]) if sys.argv else ""
    if program in ("crossbar", "crossbar.exe", "crossbar-script.py"):
        return True
    # While `-m package.module` imports the package, argv[0] is "-m"; afterwards it is the module's file.
    if program == "-m" and len(sys.orig_argv) >= len(sys.argv):
        return sys.orig_argv[-len(sys.argv)].endswith("crossbar.worker.main")
    main = getattr(sys.modules.get("__main__"), "__spec__", None)
    return getattr(main, "name", None) == "crossbar.worker.main"


def refuse(error: Exception) -> NoReturn:
    """Do not let the process go on: an operator gets the message and exit code 1, a program gets the exception."""
    if not is_crossbar_process():
        raise error
    print(error, file=sys.stderr, flush=True)
    # sys.modules holds the reactor only where one was installed. Under a running one Twisted would catch SystemExit
    # and go on, with one half of the patches missing.
    if getattr(sys.modules.get("twisted.internet.reactor"), "running", False):
        os._exit(1)
    raise SystemExit(1)
