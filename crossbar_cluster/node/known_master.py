"""Whom a node takes for its master: the public key, and where it has it from.

Read anew at every connect, so that an operator's word counts at once. In this order, and the first that says anything
decides: the variable, the pairing token, the node's own file (of the first use, or of an operator's), the activation
file. A token that cannot be read says nothing where there is one of these files. Who has none of all these takes the
first master that proves a key, and keeps that key in its file.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from crossbar_cluster.core.keyfile import parse_tags
from crossbar_cluster.core.master_key import KEY_TAG, MASTER_TAG, is_key, keys_in
from crossbar_cluster.core.pairing_token import InvalidToken, master_keys_of, parse_tokens
from crossbar_cluster.node import pairing_offer
from crossbar_cluster.node.settings import InvalidSetting

#: Keys, or the absolute path of a file with them.
VARIABLE = "CROSSBAR_CLUSTER_MASTER_KEY"
FILE = "master.pub"
ACTIVATION_FILE = "key.activate"
_TEXT = """\
The master of this node: nobody else may manage it. See `crossbar-cluster trust-master --help`.

{tag}: {key}
"""


@dataclass(frozen=True)
class KnownMaster:
    """The keys that a node takes for its master's, and where it has them from (for people, and for `status`)."""

    keys: frozenset[str] = frozenset()
    source: str = "nothing"

    @property
    def shown(self) -> str:
        return " or ".join(sorted(self.keys))


def known_master(cbdir: str, environ: Mapping[str, str] | None = None) -> KnownMaster:
    """What is known now. :raises InvalidSetting: what is to say it is not there, or says something else."""
    environ = os.environ if environ is None else environ
    if configured := environ.get(VARIABLE, "").strip():
        return KnownMaster(_configured(configured), "variable")
    try:
        if keys := _keys_of_token(cbdir, environ):
            return KnownMaster(keys, "pairing token")
    except InvalidSetting:  # a node that is paired already needs no token
        if (kept := _of_files(cbdir)).keys:
            return kept
        raise
    return _of_files(cbdir)


def _of_files(cbdir: str) -> KnownMaster:
    """What the node's directory says. :raises InvalidSetting: a file of it says something else."""
    for file, tag, source in ((FILE, KEY_TAG, "file"), (ACTIVATION_FILE, MASTER_TAG, "activation file")):
        if key := _tag(Path(cbdir) / file, tag):
            return KnownMaster(frozenset({key}), source)
    return KnownMaster()


def check(environ: Mapping[str, str]) -> None:
    """:raises InvalidSetting: the variable holds something that is no key, nor the name of a file.

    That the file is there is not demanded: whoever makes it may come later.
    """
    configured = environ.get(VARIABLE, "").strip()
    if configured and not os.path.isabs(configured):
        _configured(configured)


def remember(cbdir: str, key: str) -> Path:
    """Keep a master's key in the node's file, in place of whatever is there. :returns: the file. :raises OSError:

    The file belongs to whom the directory belongs to: an operator who is root writes it for a node that is not.
    """
    file = Path(cbdir) / FILE
    new = file.with_name(f".{FILE}.{os.getpid()}")
    with contextlib.suppress(FileNotFoundError):
        new.unlink()
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as writing:
        if os.geteuid() == 0:
            owner = os.stat(cbdir)
            os.fchown(descriptor, owner.st_uid, owner.st_gid)
        writing.write(_TEXT.format(tag=KEY_TAG, key=key))
        writing.flush()
        os.fsync(writing.fileno())
    os.replace(new, file)
    return file


def _configured(value: str) -> frozenset[str]:
    try:
        return keys_in(Path(value).read_text(encoding="utf-8") if os.path.isabs(value) else value)
    except (OSError, UnicodeDecodeError, ValueError) as e:
        shown = value if len(value) <= 80 else f"{value[:80]}..."
        raise InvalidSetting(f"{VARIABLE}: {shown!r} cannot be used: {e}") from None


def _keys_of_token(cbdir: str, environ: Mapping[str, str]) -> frozenset[str]:
    """The keys that the tokens carry; where one of them carries none, that of the node's own file as well."""
    if not pairing_offer.has_token(environ):
        return frozenset()
    try:
        text = Path(environ[pairing_offer.VARIABLE].strip()).read_text(encoding="utf-8")
        tokens = parse_tokens(text)
    except (InvalidToken, OSError, UnicodeDecodeError) as e:
        raise InvalidSetting(f"{pairing_offer.VARIABLE}: the master's key cannot be read there: {e}") from None
    keys = master_keys_of(tokens)
    if keys and not all(master_keys_of([token]) for token in tokens):
        with contextlib.suppress(InvalidSetting):
            if kept := _tag(Path(cbdir) / FILE, KEY_TAG):
                keys |= {kept}
    return keys


def _tag(file: Path, tag: str) -> str | None:
    """:raises InvalidSetting: there is such a file, and it cannot be read, or holds something that is no key."""
    try:
        key = parse_tags(file.read_text(encoding="utf-8")).get(tag)
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as e:
        raise InvalidSetting(f"{file} cannot be read: {e}") from None
    if key is None and file.name == ACTIVATION_FILE:  # a master that says no key has written it
        return None
    if not is_key(key):
        raise InvalidSetting(f"{file} holds no {tag}: put it right by `crossbar-cluster trust-master`, or delete it")
    return key
