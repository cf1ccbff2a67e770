"""A short fingerprint of a configuration, so that two sides can compare it without sending it."""

from __future__ import annotations

import hashlib
import json
from typing import Any


def digest(config: Any) -> str:
    """SHA-256 (hex) of a configuration of plain values, whatever the order of its keys."""
    canonical = json.dumps(config, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode("utf-8")).hexdigest()
