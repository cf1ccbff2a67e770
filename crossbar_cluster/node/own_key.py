"""A master that is given its key: it has the same one again when it has lost its disk, and its nodes know it.

Called before the node's key files are read; nothing happens where they are there already.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from crossbar_cluster.core.keyfile import parse_tags

#: Names a file with a private key, as `key.priv` is one.
VARIABLE = "CROSSBAR_CLUSTER_KEY_FILE"
_PRIVATE, _PUBLIC = "private-key-ed25519", "public-key-ed25519"
KEY_FILE = "key.priv"


def take_given_key(cbdir: str, log: Any, environ: Mapping[str, str] | None = None) -> None:
    """Put the key that is given in place, if this node has none. What is given need not be there.

    :raises SystemExit: it cannot be read, or is no key: a master with another key is one that no node knows.
    """
    given = (os.environ if environ is None else environ).get(VARIABLE, "").strip()
    if not given or not os.path.exists(given):
        return
    try:
        text = Path(given).read_text(encoding="utf-8")
        tags = parse_tags(text)
        if len(bytes.fromhex(tags[_PRIVATE])) != 32:
            raise ValueError("it is no private key")
        own = Path(cbdir) / KEY_FILE
        if own.exists():
            _compare(own, tags[_PUBLIC], given, log)
            return
        new = own.with_name(f".{KEY_FILE}.given")
        new.unlink(missing_ok=True)
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as writing:
            writing.write(text)
            writing.flush()
            os.fsync(writing.fileno())
        os.replace(new, own)
    except (KeyError, OSError, UnicodeDecodeError, ValueError) as e:
        raise SystemExit(f"Cannot start this node: {VARIABLE}: {given} cannot be used: {e!r}") from None
    log.info("This node has taken the key that {file} gives it: {key}", file=given, key=tags[_PUBLIC])


def _compare(own: Path, given: str, file: str, log: Any) -> None:
    has = parse_tags(own.read_text(encoding="utf-8")).get(_PUBLIC)
    if has != given:
        log.warn(
            "This node keeps its own key {key}, in {own}, although {file} gives it {given}: nodes whose pairing token "
            "carries that one take it for somebody else.",
            key=has,
            own=str(own),
            file=file,
            given=given,
        )
