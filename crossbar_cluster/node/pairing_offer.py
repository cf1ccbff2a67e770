"""What a node that nobody has paired offers the master to be paired: a code that only who knows a token can make."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from crossbar_cluster.core.pairing_token import NAME_RULE, InvalidToken, Offer, code_of, is_name, parse_tokens
from crossbar_cluster.node.settings import InvalidSetting

#: Names a file with the token.
VARIABLE = "CROSSBAR_CLUSTER_PAIRING_TOKEN_FILE"
NAME_VARIABLE = "CROSSBAR_NODE_ID"


def has_token(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether this node is to be paired by a token."""
    return bool(environ.get(VARIABLE, "").strip())


def offer_in_authextra(
    authextra: Mapping[str, Any] | None, log: Any, environ: Mapping[str, str] = os.environ
) -> dict[str, Any]:
    """``authextra`` of a HELLO with the offer added, if there is a token; read anew at every connect."""
    authextra = dict(authextra or {})
    pubkey = authextra.get("pubkey")
    if not has_token(environ) or not pubkey:
        return authextra
    try:
        return {**authextra, **_offer(environ, pubkey).authextra}
    except InvalidSetting as e:  # the node may be paired already, and then needs no token
        log.warn("{error}", error=str(e))
        return authextra


def check(environ: Mapping[str, str]) -> None:
    """:raises InvalidSetting: there is to be a token, and cannot be one."""
    if has_token(environ):
        _offer(environ, "")


def _offer(environ: Mapping[str, str], pubkey: str) -> Offer:
    file = environ[VARIABLE].strip()
    try:
        token = parse_tokens(Path(file).read_text(encoding="utf-8"))[0]
    except (InvalidToken, OSError, UnicodeDecodeError) as e:
        raise InvalidSetting(f"{VARIABLE}: {file} cannot be used: {e}") from None
    name = environ.get(NAME_VARIABLE, "").strip() or socket.gethostname()
    if not is_name(name):
        raise InvalidSetting(
            f"{VARIABLE} is set, so that this node is paired by its name, but {name!r} cannot be one: it has to have "
            f"{NAME_RULE}. Set {NAME_VARIABLE}."
        )
    return Offer(name, code_of(token, name, pubkey))
