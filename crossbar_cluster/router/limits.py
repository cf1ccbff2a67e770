"""How much clients may have on a realm of this router (stub)."""

from __future__ import annotations

from typing import Any


class RealmLimits:
    """:param router: the release's ``Router``."""

    def __init__(self, router: Any, reactor: Any) -> None:
        self._router = router

    def joined(self, session: Any) -> None:
        pass

    def may_call(self, session: Any, call: Any) -> bool:
        return True

    def may_register(self, session: Any, register: Any) -> bool:
        return True
