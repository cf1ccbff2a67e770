"""A master that is given its key: it has the same one again when it has lost its disk, and its nodes know it.

Called before the node's key files are read; nothing happens where they are there already. As a program, with the node's
directory: the same before the node starts, for whoever has to show its public key by then.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nacl.exceptions import CryptoError
from nacl.signing import SigningKey

from crossbar_cluster.core.keyfile import parse_tags

#: Names a file with a private key, as `key.priv` is one.
VARIABLE = "CROSSBAR_CLUSTER_KEY_FILE"
_PRIVATE, _PUBLIC = "private-key-ed25519", "public-key-ed25519"
KEY_FILE = "key.priv"


def take_given_key(cbdir: str, log: Any, environ: Mapping[str, str] | None = None) -> None:
    """Put the key that is given in place, if this node has none. What is given need not be there.

    :raises SystemExit: it cannot be read, or is no key that the release loads: a master with another key is one that no
        node knows. Nothing is put in place then, so that it is enough to correct what is given.
    """
    given = (os.environ if environ is None else environ).get(VARIABLE, "").strip()
    if not given or not os.path.exists(given):
        return
    own = Path(cbdir) / KEY_FILE
    try:
        text = Path(given).read_text(encoding="utf-8")
        public = _checked(text)
        if own.exists():
            _compare(own, public, given, log)
            return
        _check_beside(own.with_name("key.pub"), public)
        _put(text, own, given)
    except (OSError, ValueError) as e:
        raise SystemExit(f"Cannot start this node: {VARIABLE}: {given} cannot be used: {e}") from None
    log.info("This node has taken the key that {file} gives it: {key}", file=given, key=public)


def _checked(text: str) -> str:
    """The public key of a private key file's text. :raises ValueError: the file is none, in words for people."""
    lines = text.splitlines()
    title = next((at for at, line in enumerate(lines) if not line.strip()), None)
    if title is None:
        raise ValueError("it does not begin with a title line and an empty line")
    for number, line in enumerate(lines[title:], title + 1):
        if line.strip() and ":" not in line:  # not shown: it may be part of a private key
            raise ValueError(f"line {number} is no 'tag: value'")
    tags = parse_tags("\n".join(lines[title:]))
    missing = [tag for tag in (_PRIVATE, _PUBLIC, "creator", "created-at", "machine-id") if tag not in tags]
    if missing:
        raise ValueError(f"below the title line it lacks {', '.join(missing)}")
    try:
        public = SigningKey(bytes.fromhex(tags[_PRIVATE])).verify_key.encode().hex()
    except (CryptoError, ValueError):
        raise ValueError(f"its {_PRIVATE} is no private key (64 hexadecimal digits)") from None
    if tags[_PUBLIC] != public:
        raise ValueError(f"its {_PUBLIC} is not the public key of its {_PRIVATE}")
    return public


def _check_beside(file: Path, public: str) -> None:
    has = parse_tags(file.read_text(encoding="utf-8")).get(_PUBLIC) if file.exists() else public
    if has != public:
        raise ValueError(f"{file} is there, of another key ({has}): delete it, so that the key that is given is taken")


def _put(text: str, own: Path, given: str) -> None:
    """Put a private key file in place, once the release has loaded it elsewhere. :raises ValueError: it does not."""
    from crossbar.common.key import _maybe_generate_node_key

    with tempfile.TemporaryDirectory(prefix=".given-", dir=own.parent) as directory:
        new = Path(directory) / KEY_FILE
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as writing:
            writing.write(text)
            writing.flush()
            os.fsync(writing.fileno())
        try:
            _maybe_generate_node_key(directory)
        except Exception as e:  # whatever the release says of a file
            raise ValueError(str(e).replace(str(new), given)) from None
        os.replace(new, own)


def _compare(own: Path, given: str, file: str, log: Any) -> None:
    has = parse_tags(own.read_text(encoding="utf-8")).get(_PUBLIC)
    if has != given:
        log.warn(
            "This node keeps its own key {key}, in {own}, although {file} gives it {given}: nodes whose pairing token "
            "carries that one take it for somebody else. Unless the key is being changed: if {file} is of a Secret "
            "(crossbar-master), delete that Secret, or replace it by this node's own key.priv. To take the key that is "
            "given instead: delete key.priv and key.pub beside it, and restart.",
            key=has,
            own=str(own),
            file=file,
            given=given,
        )


def _main(cbdir: str) -> None:
    import txaio

    txaio.use_twisted()
    txaio.start_logging(out=sys.stdout, level="info")
    take_given_key(cbdir, txaio.make_logger())


if __name__ == "__main__":
    _main(sys.argv[1])
