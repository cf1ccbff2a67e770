"""The node records in the master's global database, as far as a node's own word changes them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crossbar_cluster.core.address import AddressClaim, InvalidAddress, parse_address
from crossbar_cluster.core.keyfile import parse_tags


@dataclass(frozen=True)
class AddressUpdate:
    """What became of a node's claim to an address."""

    authextra: dict[str, Any] | None  #: the node's authextra on record, now
    previous: str | None  #: the address that was on record
    address: str | None  #: the address that is on record now
    shared_with: tuple[str, ...] = ()  #: if it is news: authids of other nodes of the realm at the same address


class NodeRecords:
    """Read and refresh node records.

    :param db: the global database (zlmdb).
    :param schema: its ``GlobalSchema``.
    """

    def __init__(self, db: Any, schema: Any) -> None:
        self._db = db
        self._schema = schema

    def by_pubkey(self, pubkey: str) -> Any:
        """The record of the node with that public key (hex); None when there is none."""
        with self._db.begin() as txn:
            oid = self._schema.idx_nodes_by_pubkey[txn, pubkey]
            return self._schema.nodes[txn, oid] if oid else None

    def refresh_address(self, pubkey: str, claim: AddressClaim) -> AddressUpdate | None:
        """Put a *proven* node's address on record, if it differs, in one write transaction.

        :returns: None when no node with that key is on record.
        """
        node = self.by_pubkey(pubkey)
        if node is None:
            return None
        if not claim.replaces(node.cluster_ip):
            return AddressUpdate(node.authextra, node.cluster_ip, node.cluster_ip)
        with self._db.begin(write=True) as txn:
            # read again: another process of the master may have changed the record since
            node = self._schema.nodes[txn, self._schema.idx_nodes_by_pubkey[txn, pubkey]]
            previous, node.cluster_ip = node.cluster_ip, claim.address
            # a node without authextra does not apply its local configuration, one with any does unless told otherwise
            authextra = {"on_start_apply_config": False} if node.authextra is None else node.authextra
            node.authextra = {**authextra, "cluster_ip": claim.address}
            self._schema.nodes[txn, node.oid] = node
            shared_with = () if claim.is_default else self._others_at(txn, node)
        return AddressUpdate(node.authextra, previous, node.cluster_ip, shared_with)

    def _others_at(self, txn: Any, node: Any) -> tuple[str, ...]:
        others = self._schema.nodes.select(txn, return_keys=False)
        return tuple(
            sorted(
                str(other.authid)
                for other in others
                if other.oid != node.oid and other.mrealm_oid == node.mrealm_oid and other.cluster_ip == node.cluster_ip
            )
        )


def address_in_key_file(pubkey: str, directory: str | None = None) -> AddressClaim | None:
    """The address in the key file that a node of the plain release was paired from.

    Such a node never says where it is. The release takes its address from the ``key.pub`` that it pairs, so that is
    where it is looked up, once, when the record has none.

    :param directory: default: the directory that the master watches (``CROSSBAR_WATCH_TO_PAIR``).
    """
    directory = directory or os.environ.get("CROSSBAR_WATCH_TO_PAIR", "").strip()
    if not directory:
        return None
    folders = (Path(folder) for folder, _, files in os.walk(directory, followlinks=True) if "key.pub" in files)
    for key_file in (folder / "key.pub" for folder in folders):
        try:
            tags = parse_tags(key_file.read_text(encoding="utf-8"))
            if tags.get("public-key-ed25519") == pubkey and "node-cluster-ip" in tags:
                return AddressClaim(parse_address(tags["node-cluster-ip"]), is_default=True)
        except (OSError, UnicodeDecodeError, InvalidAddress):
            continue
    return None
