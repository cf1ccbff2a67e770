"""Names of nodes: each belongs to one key, whoever pairs the node, and however."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from autobahn.wamp.exception import ApplicationError

from crossbar_cluster.core.rights import is_node_name, names_overlap

#: Error for whoever wants to pair a node by such a name.
NAME_TAKEN = "fabric.node-name-taken"


class NameTaken(Exception):
    """Another node has the name, or one that its rights would overlap with. The message says which, and what to do.

    :ivar taken: that node's name.
    """

    def __init__(self, message: str, taken: str) -> None:
        super().__init__(message)
        self.taken = taken


def refuse_taken_name(schema: Any, txn: Any, mrealm_oid: UUID, name: str, pubkey: str) -> None:
    """Let a node be paired by a name that no other key has.

    :param schema: the ``GlobalSchema``, read in ``txn``.
    :param pubkey: of the node that is to be paired (hex).
    :raises NameTaken:
    """
    index = schema.idx_nodes_by_authid
    after = UUID(int=mrealm_oid.int + 1)
    for (_, taken), oid in list(index.select(txn, from_key=(mrealm_oid, ""), to_key=(after, ""))):
        if not names_overlap(taken, name):
            continue
        node = schema.nodes[txn, oid]
        if node is None or node.pubkey.lower() == pubkey.lower():
            continue
        if taken == name:
            raise NameTaken(
                f"a node named {name} is paired already, with key {node.pubkey}. If that one is gone for good: "
                f"`crossbar-cluster unpair {name}`",
                taken,
            )
        raise NameTaken(
            f"a node named {taken} is paired, and what a node named {name} may do would overlap with that: one name "
            "may not be another one's beginning, up to a dot",
            taken,
        )


def refuse_pairing(db: Any, schema: Any, pubkey: Any, realm: Any, name: Any) -> None:
    """Let a user pair a node by a name that it can have. What else may be wrong is the release's to say.

    :param realm: name of the management realm.
    :raises ApplicationError: `NAME_TAKEN`, or ``wamp.error.invalid_argument``.
    """
    if not isinstance(name, str) or not is_node_name(name) or not isinstance(pubkey, str):
        raise ApplicationError(ApplicationError.INVALID_ARGUMENT, f"{str(name)[:80]!r} cannot be a node's name")
    with db.begin() as txn:
        mrealm_oid = schema.idx_mrealms_by_name[txn, realm]
        if not mrealm_oid:
            return
        try:
            refuse_taken_name(schema, txn, mrealm_oid, name, pubkey)
        except NameTaken as e:
            raise ApplicationError(NAME_TAKEN, str(e)) from None
