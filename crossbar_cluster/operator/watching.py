"""Watches a cluster on a terminal: asks every second, repaints every second, and goes on when the master goes away.

Ends when it is interrupted, or when the master could not be asked even once and trying again leads nowhere.
"""

from __future__ import annotations

import asyncio
import time

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from crossbar_cluster.operator.document import Status
from crossbar_cluster.operator.master import CannotAsk, Master
from crossbar_cluster.operator.view import duration, show_status

REPAINT_S = 1.0
PAUSE_S = 1.0  #: between an answer, or a failure, and the next question
STALE_S = 3.0  #: an answer of that age is no longer shown as the present state


class Watching:
    """What the master said last, when, and what is wrong since."""

    def __init__(self, master: Master, console: Console) -> None:
        self._master = master
        self._console = console
        self._said: Status | None = None
        self._said_at = time.monotonic()
        self._problem = ""

    async def run(self) -> None:
        """Repaint until interrupted. :raises CannotAsk: nothing has been seen yet, and never will be."""
        # what does not fit is left out while it runs; the last look stands there in full
        with Live(console=self._console, auto_refresh=False, vertical_overflow="ellipsis") as live:
            asking = asyncio.create_task(self._ask())
            try:
                while not asking.done():
                    live.update(self.look(), refresh=True)
                    await asyncio.wait({asking}, timeout=REPAINT_S)
                asking.result()
            finally:
                asking.cancel()
                await asyncio.wait({asking})

    async def _ask(self) -> None:
        while True:
            try:
                async with self._master.session() as session:
                    while True:
                        self._said, self._said_at = await session.cluster_status(), time.monotonic()
                        self._problem = ""
                        await asyncio.sleep(PAUSE_S)
            except CannotAsk as e:
                if e.lasting and self._said is None:
                    raise
                self._problem = str(e)
            await asyncio.sleep(PAUSE_S)

    def look(self) -> RenderableType:
        """What is known now; what the master said last stays, marked as such, while it does not answer."""
        if self._said is None:
            return Text(f"{self._problem} Trying again." if self._problem else f"Asking {self._master.url} ...")
        silent_s = time.monotonic() - self._said_at
        if not self._problem and silent_s < STALE_S:
            return show_status(self._said)
        return Group(
            Text(f"no answer for {duration(silent_s)}", "bold red"),
            Text(f"  {self._problem or 'Waiting.'} Trying again. The last answer was:\n"),
            show_status(self._said),
        )
