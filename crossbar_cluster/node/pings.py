"""How soon a node and its master notice that the other has gone without a word (silent loss, no RST).

Both ends of the management uplink ask by WebSocket pings: with the settings here, whoever has heard nothing of the
other for 9 s drops the connection. Work ends with the settings: `crossbar_cluster.node.uplink` gives them to the node's
connections, `quicken_master` puts them into the master's configuration, once, when that has been read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from crossbar._util import merge_config

PING_EVERY_S = 4
PING_ANSWER_WITHIN_S = 5  #: both together stay below 10 s, with some room for a busy machine

_MASTER_OPTIONS = {"auto_ping_interval": PING_EVERY_S * 1000, "auto_ping_timeout": PING_ANSWER_WITHIN_S * 1000}


def quicken_master(config: dict[str, Any], builtin: Mapping[str, Any], own_file: Path | None) -> None:
    """Set the pings of the master's WebSocket listeners, in place, except where the operator's own file speaks of them.

    :param config: the effective configuration.
    :param builtin: the built-in one.
    :param own_file: the operator's, which has been merged into it.
    """
    own = json.loads(own_file.read_text(encoding="utf-8")) if own_file else {}
    _quicken(config, merge_config(_without_pings(builtin), own))


def _without_pings(config: Any) -> Any:
    if isinstance(config, Mapping):
        return {key: _without_pings(value) for key, value in config.items() if key not in _MASTER_OPTIONS}
    if isinstance(config, list):
        return [_without_pings(value) for value in config]
    return config


def _quicken(config: Any, chosen: Any) -> None:
    """:param chosen: as ``config``, had the built-in part not spoken of pings: what it says is the operator's word."""
    if isinstance(config, dict) and isinstance(chosen, Mapping):
        for key, value in config.items():
            said = chosen.get(key) or {}
            if key == "options" and config.get("type") == "websocket":
                value.update({name: ms for name, ms in _MASTER_OPTIONS.items() if name in value and name not in said})
            else:
                _quicken(value, said)
    elif isinstance(config, list) and isinstance(chosen, list):
        for part, same in zip(config, chosen, strict=False):
            _quicken(part, same)
