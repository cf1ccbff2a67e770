"""How many descriptors a process may use for what. Pure.

The last ones are for what keeps everybody served: looks at backends, links, the uplink, health. Those before them are
for the connections of clients that have been let in to their routers; what is accepted gets the rest. So whoever fills
a proxy with connections takes nothing from those that are joined.
"""

from __future__ import annotations

from dataclasses import dataclass

#: More is of no use, and some programs walk through all numbers up to the limit.
MOST = 2**20
#: What a proxy worker has open before any client comes, about.
BASE = 40


@dataclass(frozen=True)
class Budget:
    """What a limit on descriptors allows."""

    limit: int

    @property
    def reserved(self) -> int:
        """For the process's own needs."""
        return max(16, min(self.limit // 8, 128))

    @property
    def usable(self) -> int:
        """Descriptors below this number are for clients, and their connections to routers."""
        return max(0, self.limit - self.reserved)

    @property
    def acceptable(self) -> int:
        """Connections are accepted while a descriptor below this number is free: each of them needs another one."""
        return max(0, self.usable - max(8, min(self.limit // 16, 256)))

    @property
    def clients(self) -> int:
        """How many clients a proxy can have: each has one connection to it, and one to its router."""
        return max(0, (self.acceptable - BASE) // 2)


def raised(soft: int, hard: int) -> int:
    """What the soft limit is to be; a negative hard limit is none."""
    return max(soft, min(hard if hard >= 0 else MOST, MOST))
