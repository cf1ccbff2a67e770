"""What stands where the release has a polling monitor: started and stopped by its manager, and idle in between.

The control plane sees in the database what is starting and what is stopping.
"""

from __future__ import annotations


class IdleMonitor:
    """Takes the released monitor's place; to be mixed in before it."""

    _running = False

    @property
    def is_started(self) -> bool:
        return self._running

    def start(self) -> None:
        self._running = True

    def stop(self) -> None:
        self._running = False

    def _check_and_apply(self) -> None:
        """Nothing is left to do for it."""
