"""What is put on record of the cluster as it is: a node's address, by its own word, and a router worker's port."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import numpy as np
from cfxdb.mrealm import WorkerGroupStatus

from crossbar_cluster.control.key_files import TooManyDirectories, key_files, read_text
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

    def is_paired(self, pubkey: str, realm: str, authid: str) -> bool:
        """Whether the node with that public key (hex) is paired with the management realm of that name, as that."""
        node = self.by_pubkey(pubkey)
        if node is None or not node.mrealm_oid or node.authid != authid:
            return False
        with self._db.begin() as txn:
            mrealm = self._schema.mrealms[txn, node.mrealm_oid]
        return mrealm is not None and mrealm.name == realm

    def refresh_address(self, pubkey: str, claim: AddressClaim) -> AddressUpdate | None:
        """Put a *proven* node's address on record, if it differs, in one write transaction.

        :returns: None when no node with that key is on record.
        """
        node = self.by_pubkey(pubkey)
        if node is None:
            return None
        said_before = (node.authextra or {}).get("cluster_ip")  # unpairing has that forgotten, and keeps the address
        if not claim.replaces(node.cluster_ip) and (claim.is_default or said_before == claim.address):
            return AddressUpdate(node.authextra, node.cluster_ip, node.cluster_ip)
        with self._db.begin(write=True) as txn:
            # read again: another process of the master may have changed the record since
            node = self._schema.nodes[txn, self._schema.idx_nodes_by_pubkey[txn, pubkey]]
            previous, node.cluster_ip = node.cluster_ip, claim.address
            # a node without authextra does not apply its local configuration, one with any does unless told otherwise
            authextra = {"on_start_apply_config": False} if node.authextra is None else node.authextra
            said = {**claim.authextra, "cluster_ip_since": time.time_ns()}
            node.authextra = {**authextra, **said}
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


def nodes_of(gdb: Any, gschema: Any, mrealm_oid: UUID) -> list[Any]:
    """The records of all nodes that are paired with a management realm."""
    with gdb.begin() as txn:
        return [node for node in gschema.nodes.select(txn, return_keys=False) if node.mrealm_oid == mrealm_oid]


def record_port(db: Any, schema: Any, placement_oid: UUID, node_oid: UUID, port: int, now_ns: int) -> None:
    """Put a router worker's true listening port on record, if another one is, unless it has been moved meanwhile.

    :param db: the management realm's database.
    :param node_oid: the node that the worker listens on.
    """
    with db.begin() as txn:
        placement = schema.router_workergroup_placements[txn, placement_oid]
    if placement is None or placement.node_oid != node_oid or placement.tcp_listening_port == port:
        return
    with db.begin(write=True) as txn:
        placement = schema.router_workergroup_placements[txn, placement_oid]
        if placement is None or placement.node_oid != node_oid:
            return
        placement.tcp_listening_port = port
        placement.status = WorkerGroupStatus.RUNNING
        placement.changed = now_ns
        schema.router_workergroup_placements[txn, placement_oid] = placement


def plain_times(payload: Iterable[Any]) -> None:
    """Replace NumPy times in the dicts of an event's payload by nanoseconds, in place: no serializer takes them."""
    for part in payload:
        for name, value in part.items() if isinstance(part, dict) else ():
            if isinstance(value, np.datetime64):
                part[name] = int(value.astype("datetime64[ns]").astype(int))


def address_in_key_file(pubkey: str, directory: str | None = None) -> AddressClaim | None:
    """The address in the key file that a node of the plain release was paired from.

    Such a node never says where it is. The release takes its address from the ``key.pub`` that it pairs, so that is
    where it is looked up, once, when the record has none.

    :param directory: default: the directory that the master watches (``CROSSBAR_WATCH_TO_PAIR``).
    """
    directory = directory or os.environ.get("CROSSBAR_WATCH_TO_PAIR", "").strip()
    if not directory:
        return None
    try:
        for file in key_files(directory, lambda name: True):
            with suppress(OSError, ValueError, InvalidAddress):
                tags = parse_tags(read_text(file))
                if tags.get("public-key-ed25519") == pubkey and "node-cluster-ip" in tags:
                    return AddressClaim(parse_address(tags["node-cluster-ip"]), is_default=True)
    except (OSError, TooManyDirectories):
        pass
    return None
