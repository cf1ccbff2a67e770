"""The node's own word on its address: read from its environment, checked at start, sent at every connect."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any

from crossbar_cluster.core.address import VARIABLE, AddressClaim, InvalidAddress, describe

#: Variables that a worker needs of its node, whatever else it inherits. (Router workers are started with
#: ``PYTHONPATH`` and nothing more.)
PASSED_TO_WORKERS = (VARIABLE, "CROSSBAR_CLUSTER")


def refuse_invalid_address(environ: Mapping[str, str]) -> None:
    """Keep a node from starting at an address that is none. :raises SystemExit: with a message for the operator."""
    try:
        AddressClaim.from_environment(environ)
    except InvalidAddress as e:
        print(f"Cannot start this node: {e}", file=sys.stderr)
        raise SystemExit(1) from None


def claim_in_authextra(authextra: Mapping[str, Any] | None) -> dict[str, Any]:
    """``authextra`` with this node's claim to its address added, read anew from the environment."""
    return {**(authextra or {}), **AddressClaim.from_environment(os.environ).authextra}


def unheard_claim(authextra: Mapping[str, Any] | None) -> str | None:
    """What to tell the operator when the master's record is not what this node said; None when it is.

    :param authextra: of the WELCOME: the node's authextra as the master has it on record.
    """
    claim = AddressClaim.from_environment(os.environ)
    recorded = (authextra or {}).get("cluster_ip")
    if claim.is_default or recorded == claim.address:
        return None
    return (
        f"the master has {describe(recorded)} on record as this node's address, not {claim.address} (from {VARIABLE}): "
        "either it runs without crossbar-cluster, or it refused the address; its log says which"
    )


def pass_to_worker(worker_environ: MutableMapping[str, str]) -> None:
    """Add what a worker needs of this node's environment to its own; what is there already stays."""
    for variable in PASSED_TO_WORKERS:
        if variable in os.environ:
            worker_environ.setdefault(variable, os.environ[variable])


def listening_interface() -> str:
    """The interface a router worker's listener needs so that the node's address reaches it: "" for all of IPv4.

    An IPv6 address, and a host name that has no other, need "::", which takes IPv4 connections as well (Linux:
    ``net.ipv6.bindv6only`` = 0, its default). Looks a host name up, and waits for it.
    """
    try:
        found = socket.getaddrinfo(AddressClaim.from_environment(os.environ).address, None, type=socket.SOCK_STREAM)
    except (OSError, InvalidAddress):
        return ""  # a name that nobody knows yet, or an address that the node's controller has told of already
    return "::" if {family for family, *_ in found} == {socket.AF_INET6} else ""
