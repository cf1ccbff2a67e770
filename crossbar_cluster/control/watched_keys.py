"""Pairs the nodes whose ``key.pub`` is found below the directory that the master watches (CROSSBAR_WATCH_TO_PAIR).

In the domain controller, in place of the release's own watch. Looks every 10 s, from the start until the controller's
session ends. A file that cannot be used stops no other, and a name that another key has is refused; both are said once,
and again if it goes away and comes back.
"""

from __future__ import annotations

import os
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from cfxdb.mrealm import Node

from crossbar_cluster.control.key_files import TooManyDirectories, key_files, read_text
from crossbar_cluster.control.node_names import NameTaken, refuse_taken_name
from crossbar_cluster.core.keyfile import parse_tags
from crossbar_cluster.core.master_key import KEY_TAG, MASTER_TAG, is_key
from crossbar_cluster.core.news import News
from crossbar_cluster.core.rights import is_node_name

ACTIVATION_FILE = "key.activate"
LOOK_EVERY_S = 10.0


class Unusable(Exception):
    """A key file that says nothing that a node could be paired by. The message says why."""


@dataclass(frozen=True)
class ShownKey:
    """What a key file says."""

    directory: str  #: where it is
    pubkey: str  #: hex
    name: str | None  #: as which the node wants to be paired; None: it does not say


@dataclass(frozen=True)
class Watched:
    """What is watched, and what nodes are paired with."""

    directory: Path
    pattern: str | None  #: of the names of directories in it that count
    mrealm_oid: UUID
    owner_oid: UUID
    management_url: str | None  #: for activation files; None: none are written
    master_key: str | None  #: hex, for the same


class WatchedKeys:
    """Looks for keys, and pairs nodes.

    :param db: the global database (zlmdb), with its ``GlobalSchema``.
    :param publish: tells of a node that has been paired. :param write: writes a key file, as the release does.
    """

    def __init__(
        self,
        watched: Watched,
        db: Any,
        schema: Any,
        publish: Callable[[dict[str, Any]], Awaitable[Any]],
        write: Callable[[str, Mapping[str, Any], str], None],
        log: Any,
    ) -> None:
        self._watched = watched
        self._db, self._schema = db, schema
        self._publish, self._write = publish, write
        self._log = log
        self._told = News()
        self._problems: list[str] = []

    async def look(self) -> None:
        """Pair what is new. Raises nothing: what goes wrong is logged, and tried again with the next look."""
        self._problems = []
        for file in self._files():
            try:
                shown = read(file)
                if not self._is_known(shown.pubkey):
                    await self._pair(shown)
            except (NameTaken, Unusable) as e:
                self._problems.append(f"{file}: {e}")
            except Exception as e:
                self._problems.append(f"{file}: {e!r}")
        for problem in self._told.of(self._problems):
            self._log.warn("No node is paired by {problem}", problem=problem)

    def _files(self) -> Iterator[str]:
        """All key files, in the order of their names, so that of two with one name the same one is always first."""
        directory = str(self._watched.directory)
        try:
            yield from key_files(directory, self._counts)
        except OSError as e:
            self._problems.append(f"{directory}: it cannot be read: {e}")
        except TooManyDirectories as e:
            self._problems.append(f"{directory}: {e}")

    def _counts(self, name: str) -> bool:
        return self._watched.pattern is None or re.match(self._watched.pattern, name) is not None

    def _is_known(self, pubkey: str) -> bool:
        """Whether a node with that key is on record; also one that has been unpaired, which stays so."""
        with self._db.begin() as txn:
            return bool(self._schema.idx_nodes_by_pubkey[txn, pubkey])

    async def _pair(self, shown: ShownKey) -> None:
        watched, node = self._watched, Node()
        node.oid, node.pubkey = uuid4(), shown.pubkey
        node.authid = shown.name or f"node-{str(node.oid)[:8]}"
        node.owner_oid, node.mrealm_oid = watched.owner_oid, watched.mrealm_oid
        # without an address: the node says it, once it has proven its key
        node.authextra = {"node_oid": str(node.oid), "cluster_ip": None, "mrealm_oid": str(node.mrealm_oid)}
        with self._db.begin(write=True) as txn:  # another process of the master pairs nodes as well
            if self._schema.idx_nodes_by_pubkey[txn, shown.pubkey]:
                return
            refuse_taken_name(self._schema, txn, watched.mrealm_oid, node.authid, shown.pubkey)
            self._schema.nodes[txn, node.oid] = node
        self._log.info(
            "Auto-paired node with pubkey={pubkey}, oid={oid}, authid={authid}, by {directory}",
            pubkey=node.pubkey,
            oid=str(node.oid),
            authid=node.authid,
            directory=shown.directory,
        )
        self._activate(shown, node)
        await self._publish(node.marshal())

    def _activate(self, shown: ShownKey, node: Any) -> None:
        """Write the activation file that a node finds beside its key, where the master may write."""
        file = os.path.join(shown.directory, ACTIVATION_FILE)
        if self._watched.management_url is None or os.path.lexists(file):
            return
        tags = {
            "management-url": self._watched.management_url,
            "management-realm": "default",
            "management-realm-oid": str(node.mrealm_oid),
            "node-oid": str(node.oid),
            "node-authid": str(node.authid),
            KEY_TAG: node.pubkey,
        }
        # in the title: nodes of the release, and of versions before, refuse a tag that they do not know
        key = f"{MASTER_TAG}: {self._watched.master_key}\n" if self._watched.master_key else ""
        try:
            self._write(file, tags, f"Crossbar.io node activation\n{key}\n")
        except OSError as e:
            self._log.info("No activation file is written for node {node}: {error}", node=node.authid, error=e)


def read(file: str) -> ShownKey:
    """Read a key file. :raises Unusable:"""
    try:
        text = read_text(file)
    except (OSError, UnicodeDecodeError) as e:
        raise Unusable(f"it cannot be read: {e}") from None
    except ValueError as e:
        raise Unusable(str(e)) from None
    tags = parse_tags(text)
    pubkey, name = tags.get(KEY_TAG, "").lower(), tags.get("node-authid")
    if not is_key(pubkey):
        raise Unusable("it holds no public key (64 hexadecimal digits)")
    if name is not None and not is_node_name(name):
        raise Unusable(f"{name[:80]!r} cannot be a node's name")
    return ShownKey(os.path.dirname(file), pubkey, name)
