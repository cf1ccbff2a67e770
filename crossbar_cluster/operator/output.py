"""Where the commands print: on a terminal in its width, anywhere else without one, so that a line stays a line."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import click
from rich.console import Console

from crossbar_cluster.operator.master import CannotAsk, Refused

#: Exit codes. What a command could say of the cluster is 0 or 1.
REFUSED = 1
CANNOT_ASK = 2
PENDING = 3
INTERRUPTED = 128 + signal.SIGINT

_UNLIMITED = 10_000

_T = TypeVar("_T")


def make_console() -> Console:
    """A console on stdout."""
    return Console(width=None if sys.stdout.isatty() else _UNLIMITED, highlight=False)


def run(work: Callable[[], Coroutine[Any, Any, _T]], interrupted: int = INTERRUPTED) -> _T:
    """Run ``work`` to its end. What keeps it from one is a line on stderr and the command's exit code.

    :param interrupted: exit code when Ctrl-C ends it.
    """
    try:
        return asyncio.run(work())
    except CannotAsk as e:
        click.echo(str(e), err=True)
        sys.exit(CANNOT_ASK)
    except Refused as e:
        click.echo(f"The master refuses: {e}", err=True)
        sys.exit(REFUSED)
    except KeyboardInterrupt:
        sys.exit(interrupted)
