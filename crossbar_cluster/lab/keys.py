"""Makes the keys of a cluster as `crossbar edge keys` and `crossbar shell init` do, all in one process.

Each of these commands needs two seconds of a CPU to start, and a cluster would need one for each node. Run as a module,
with a JSON document as its argument: ``superuser``, a directory or null, and ``nodes``: ``cbdir`` and ``environ`` of
each.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from crossbar_cluster.operator.cluster_secrets import make_superuser

#: Variables of a node that go into its key files.
VARIABLES = ("CROSSBAR_NODE_ID", "CROSSBAR_NODE_CLUSTER_IP")


def wanted(superuser: Path | None, nodes: Iterable[tuple[Path, Mapping[str, str]]]) -> str:
    """The document. :param nodes: directory (cbdir) and environment of each."""
    document = {
        "superuser": None if superuser is None else str(superuser),
        "nodes": [
            {"cbdir": str(cbdir), "environ": {v: environ[v] for v in VARIABLES if v in environ}}
            for cbdir, environ in nodes
        ],
    }
    return json.dumps(document)


def make(document: Any) -> None:
    """Make what is not there yet."""
    if document["superuser"]:
        directory = Path(document["superuser"])
        directory.mkdir(parents=True, exist_ok=True)
        make_superuser(directory)
    from crossbar.common.key import _maybe_generate_node_key

    for node in document["nodes"]:
        Path(node["cbdir"]).mkdir(parents=True, exist_ok=True)
        for variable in VARIABLES:
            os.environ.pop(variable, None)
        os.environ.update(node["environ"])
        _maybe_generate_node_key(node["cbdir"])


if __name__ == "__main__":
    make(json.loads(sys.argv[1]))
