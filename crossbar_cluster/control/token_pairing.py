"""Pairing of new nodes by a secret token, on the master: who is entitled, and the record of a node that has proven it.

Triggered by the HELLO of a node that nobody has paired. Two steps, as with everything a node says: at HELLO it is only
found out whether the offer is good, so that the node gets a challenge; after the node has proven its key, and before
WELCOME, it is paired. A key that the master has ever known is none of this: who has been unpaired stays so.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

from cfxdb.mrealm import Node

from crossbar_cluster.control.authentication import NODE_ROLE, heard, peer_in
from crossbar_cluster.control.node_names import NameTaken, refuse_taken_name
from crossbar_cluster.control.pairing import tell_of_pairing
from crossbar_cluster.core.metrics import CLAIMS_REJECTED, METRICS
from crossbar_cluster.core.pairing_token import InvalidToken, NotEntitled, Offer, entitles, parse_tokens

#: Names a directory of files: each one's name is the beginning of the names of the nodes that its tokens pair.
VARIABLE = "CROSSBAR_CLUSTER_PAIRING_TOKENS"
#: What is on record, in the authextra of a node that has been paired by a token.
PAIRED_BY = "paired_by"
TOKEN = "token"
_MREALM = "default"  # the release pairs by itself with this one only, too


def read_tokens(directory: Path) -> tuple[dict[str, tuple[str, ...]], list[str]]:
    """Read anew each time, so that tokens can be changed without a restart.

    :returns: the tokens, by the prefix of the names that they are good for; and which files hold none, and why.
    :raises OSError: the directory cannot be read.
    """
    tokens, problems = {}, []
    for file in sorted(directory.iterdir()):
        if file.name.startswith(".") or not file.is_file():  # Kubernetes keeps folders such as ..data beside them
            continue
        try:
            tokens[file.name] = parse_tokens(file.read_text(encoding="utf-8"))
        except (InvalidToken, OSError, UnicodeDecodeError) as e:
            problems.append(f"{file}: {e}")
    return tokens, problems


class TokenPairing:
    """Pairs new nodes with the default management realm.

    :param db: the global database (zlmdb).
    :param schema: its ``GlobalSchema``.
    """

    def __init__(self, db: Any, schema: Any, environ: Mapping[str, str] = os.environ) -> None:
        self._db, self._schema = db, schema
        self._directory = environ.get(VARIABLE, "").strip()

    def offer_of(self, pubkey: Any, authextra: Any) -> Offer | None:
        """The offer of a node that can be paired by it; None: it makes none, or this master knows its key.

        Writes nothing. :raises NotEntitled: the offer is not good; the message is for the node's operator.
        """
        offer = Offer.from_authextra(authextra)
        if offer is None:
            return None
        with self._db.begin() as txn:
            if self._schema.idx_nodes_by_pubkey[txn, pubkey]:
                return None
        if not self._directory:
            raise NotEntitled(f"it pairs no nodes by token: {VARIABLE} is not set there")
        try:
            tokens, problems = read_tokens(Path(self._directory))
        except OSError as e:
            raise NotEntitled("its tokens cannot be read: its log says why", f"{VARIABLE}: {e}") from None
        if not entitles(offer, pubkey, tokens):
            why = f"it has no such token for a node named {offer.name}"
            raise NotEntitled(why, "; ".join([why, *problems]))
        with self._db.begin() as txn:
            self._refuse_taken_name(txn, self._mrealm(txn), offer.name, pubkey)
        return offer

    def pair(self, pubkey: str, authextra: Any) -> str | None:
        """Pair a node that has proven its key. :returns: its name; None: there is nothing to be paired.

        Looks at everything again, since a proof may be long in coming. :raises NotEntitled: it is not any more.
        """
        offer = self.offer_of(pubkey, authextra)
        if offer is None:
            return None
        with self._db.begin(write=True) as txn:  # another process of the master may have been quicker
            if self._schema.idx_nodes_by_pubkey[txn, pubkey]:
                return None
            mrealm = self._mrealm(txn)
            self._refuse_taken_name(txn, mrealm, offer.name, pubkey)
            node = Node()
            node.oid, node.pubkey, node.authid = uuid4(), pubkey, offer.name
            node.owner_oid, node.mrealm_oid = mrealm.owner, mrealm.oid
            node.authextra = {"node_oid": str(node.oid), "mrealm_oid": str(mrealm.oid), PAIRED_BY: TOKEN}
            self._schema.nodes[txn, node.oid] = node
        return offer.name

    def _mrealm(self, txn: Any) -> Any:
        oid = self._schema.idx_mrealms_by_name[txn, _MREALM]
        mrealm = self._schema.mrealms[txn, oid] if oid else None
        if mrealm is None:
            raise NotEntitled(f"it has no management realm {_MREALM!r} yet")
        return mrealm

    def _refuse_taken_name(self, txn: Any, mrealm: Any, name: str, pubkey: str) -> None:
        try:
            refuse_taken_name(self._schema, txn, mrealm.oid, name, pubkey)
        except NameTaken as e:
            # not that one's key: who asks has proven none yet
            raise NotEntitled(
                f"a node named {name} is paired there, with another key. If that one is gone for good, unpair it: "
                f"`crossbar-cluster unpair {name}`"
                if e.taken == name
                else f"a node named {e.taken} is paired there: choose another name",
                str(e),
            ) from None


def login_of_new_node(
    log: Any, pairing: TokenPairing, pubkey: Any, details: Mapping[str, Any]
) -> dict[str, Any] | None:
    """How a node logs in that can be paired as soon as it has proven its key, as the dynamic authenticator says it.

    None: it offers nothing, or need not be paired. :param details: of the HELLO. :raises NotEntitled:
    """
    try:
        offer = pairing.offer_of(pubkey, details.get("authextra"))
    except NotEntitled as e:
        METRICS.count(CLAIMS_REJECTED, "not_entitled")
        text = "A node at {peer} that offers a pairing token is not paired: {why}"
        log.info(text, peer=peer_in(details), why=e.detail)
        raise
    if offer is None:
        return None
    heard(log, offer.name, details)
    return {
        "pubkey": pubkey,
        "realm": _MREALM,
        "authid": offer.name,
        "role": NODE_ROLE,
        "extra": None,
        "cache": False,
    }


def pair_new_node(authenticator: Any, db: Any, schema: Any, pubkey: str, authextra: Any) -> None:
    """Pair a node that has proven its key, if it is entitled to that and not known, and tell the control planes.

    Nothing in here lets a node in: whoever is not paired after this is refused.
    """
    try:
        name = TokenPairing(db, schema).pair(pubkey, authextra)
    except NotEntitled as e:
        authenticator.log.info("A node that offers a pairing token is not paired: {why}", why=e.detail)
        return
    except Exception as e:
        authenticator.log.error(
            "A node that has a pairing token could not be paired: {error!r}. Check that the master's database "
            "directory is writable and not full.",
            error=e,
        )
        return
    if name:
        authenticator.log.info("Node {name} has been paired by its token, with key {key}", name=name, key=pubkey)
        tell_of_pairing(authenticator)
