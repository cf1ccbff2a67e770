"""What the master does with a node's word on its address: hears it at HELLO, believes it after the node's proof.

The release asks its dynamic authenticator at HELLO, before the challenge exists: whoever knows a node's public key gets
that far. So `heard` only logs, and `proven` writes; it is called between a verified signature and WELCOME, directly in
the process that verified it. It is no WAMP procedure: users of the master may call those.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from autobahn.wamp.types import Accept, Deny
from nacl.encoding import HexEncoder

from crossbar_cluster.control.records import AddressUpdate, NodeRecords, address_in_key_file
from crossbar_cluster.core.address import VARIABLE, AddressClaim, InvalidAddress, describe
from crossbar_cluster.core.metrics import ADDRESS_CHANGES, CLAIMS_REJECTED, METRICS
from crossbar_cluster.core.uplink_proof import knows_in

NODE_ROLE = "node"
#: In the authextra of a node's session, beside what is on record: where the node has the master's key from.
KNOWS_MASTER_BY = "knows_master_by"


def heard(log: Any, authid: str, details: Mapping[str, Any]) -> None:
    """Say that a node asked to authenticate, from where, and which address it names. Changes nothing.

    :param details: of the HELLO, as the dynamic authenticator gets them.
    """
    authextra = details.get("authextra")
    claimed = authextra.get("cluster_ip") if isinstance(authextra, Mapping) else None
    log.info(
        "Node authentication received: node {authid} at {peer} says cluster_ip={claimed}",
        authid=authid,
        peer=peer_in(details),
        claimed=None if claimed is None else describe(claimed),
    )


def peer_in(details: Mapping[str, Any]) -> str:
    """Where a HELLO came from, for a log line."""
    transport = details.get("transport")
    peer = transport.get("peer") if isinstance(transport, Mapping) else None
    return peer if isinstance(peer, str) and peer.isprintable() and len(peer) <= 80 else describe(peer)


def proven(log: Any, records: NodeRecords, pubkey: str, authid: str, authextra: Any) -> dict[str, Any] | None:
    """Refresh the record of a node that has proven its key.

    Nothing in here keeps the node from joining: without a valid address, or with a database that cannot be written,
    the record stays as it is and the log says so.

    :param authextra: of the node's HELLO.
    :returns: the node's authextra on record, for its WELCOME; None when the record has none.
    """
    try:
        claim = AddressClaim.from_authextra(authextra)
    except InvalidAddress as e:
        METRICS.count(CLAIMS_REJECTED, "invalid_address")
        log.warn(
            "Node {authid} authenticated with an invalid cluster address, its record stays as it is: {error}. "
            "Set {variable} on that node and restart it.",
            authid=authid,
            error=str(e),
            variable=VARIABLE,
        )
        return _authextra_on_record(records, pubkey)
    try:
        claim = claim or _claim_of_released_node(log, records, pubkey, authid)
        update = records.refresh_address(pubkey, claim) if claim else None
    except Exception as e:
        log.error(
            "Node {authid}: its cluster address {address} could not be put on record, the old one stays: {error!r}. "
            "Check that the master's database directory is writable and not full.",
            authid=authid,
            address=claim.address if claim else None,
            error=e,
        )
        update = None
    if update is None:
        return _authextra_on_record(records, pubkey)
    _tell(log, authid, update)
    return update.authextra


def _authextra_on_record(records: NodeRecords, pubkey: str) -> dict[str, Any] | None:
    node = records.by_pubkey(pubkey)
    return None if node is None else node.authextra


def _claim_of_released_node(log: Any, records: NodeRecords, pubkey: str, authid: str) -> AddressClaim | None:
    node = records.by_pubkey(pubkey)
    recorded = node.cluster_ip if node else None
    claim = None if recorded else address_in_key_file(pubkey)
    address = recorded or (claim.address if claim else None)
    log.warn(
        "Node {authid} runs without crossbar-cluster and does not say where it is: it is taken to be at {address}. "
        "Install crossbar-cluster on it so that the cluster follows it to a new address.",
        authid=authid,
        address=address or "no known address, and cannot be reached",
    )
    return claim


def _tell(log: Any, authid: str, update: AddressUpdate) -> None:
    if update.address == update.previous:
        return
    if update.previous:
        METRICS.count(ADDRESS_CHANGES)
        log.info(
            "Node {authid} cluster IP changed from {previous} to {address} - updating database during authentication",
            authid=authid,
            previous=update.previous,
            address=update.address,
        )
    else:
        log.info("Node {authid} cluster IP is {address} - put on record", authid=authid, address=update.address)
    if update.shared_with:
        log.warn(
            "Node {authid} is on record at {address}, and so is {others}. That is right on one host; on several, "
            "one of them has moved and not been back since, or {variable} is wrong.",
            authid=authid,
            address=update.address,
            others=", ".join(update.shared_with),
            variable=VARIABLE,
        )


def confirm(pending: Any, result: Any) -> Any:
    """Let a node's proof take effect: the second half of a node's authentication on the master.

    Race: this runs synchronously between the verified signature and WELCOME, in the process of the authenticator
    (its session object is what the pending authentication called at HELLO). The record is therefore written before
    anybody can see the node's session, and never for a session that failed its challenge.

    :param pending: the pending authentication whose signature has been checked.
    :param result: what came of the check. Anything but an accepted node passes through untouched.
    :returns: the node, with its authextra on record; or a refusal, if it has been unpaired since its HELLO.
    """
    authenticator = pending._authenticator_session
    if isinstance(result, Deny) and pending._authrole == NODE_ROLE and hasattr(authenticator, "node_proven"):
        METRICS.count(CLAIMS_REJECTED, "unproven")
    if not isinstance(result, Accept) or result.authrole != NODE_ROLE or not hasattr(authenticator, "node_proven"):
        return result
    pubkey = pending._verify_key.encode(encoder=HexEncoder).decode("ascii")
    authextra = pending._session_details.get("authextra")
    authenticator.pair_proven(pubkey, authextra)
    refusal = authenticator.refusal(pubkey, result.realm, result.authid)
    if refusal is not None:  # the release has looked it up at HELLO; a proof may be long in coming
        return refusal
    on_record = authenticator.node_proven(pubkey, result.authid, authextra)
    knows = knows_in(authextra)
    if on_record is not None and knows:  # a node that has none on record gets none: it acts on whether it has any
        on_record = {**on_record, KNOWS_MASTER_BY: knows}
    return Accept(
        realm=result.realm,
        authid=result.authid,
        authrole=result.authrole,
        authmethod=result.authmethod,
        authprovider=result.authprovider,
        authextra=on_record,
    )
