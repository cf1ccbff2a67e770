"""The node's own word on its address: read from its environment, checked at start, sent at every connect."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any

from crossbar_cluster.core.address import VARIABLE, AddressClaim, InvalidAddress, describe
from crossbar_cluster.node import known_master, pairing_offer, settings

#: Variables that a worker needs of its node, whatever else it inherits. (Router workers are started with
#: ``PYTHONPATH`` and nothing more.)
PASSED_TO_WORKERS = (VARIABLE, "CROSSBAR_CLUSTER", *(setting.variable for setting in settings.OF_WORKERS))


def refuse_invalid_environment(environ: Mapping[str, str]) -> None:
    """Keep a node from starting at an address that is none, or with a switch that means nothing.

    :raises SystemExit: with a message for the operator.
    """
    try:
        AddressClaim.from_environment(environ)
        settings.check(environ)
        pairing_offer.check(environ)
        known_master.check(environ)
    except (InvalidAddress, settings.InvalidSetting) as e:
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


def listening_interface(log: Any) -> str:
    """The interface that a router worker's listener is bound to: the node's address, if that is one of this host's.

    Else, and where `settings.LISTEN` says so, all interfaces: "" is all of IPv4. A host name may stand for other
    addresses on other networks, so it is not bound to; nor is the default address, which is nobody's word.

    An IPv6 address of another host, and a host name that has no other, need "::", which takes IPv4 connections as well
    (Linux: ``net.ipv6.bindv6only`` = 0, its default). Looks a host name up, and waits for it.
    """
    try:
        claim = AddressClaim.from_environment(os.environ)
        found = socket.getaddrinfo(claim.address, None, type=socket.SOCK_STREAM)
    except (OSError, InvalidAddress):
        return ""  # a name that nobody knows yet, or an address that the node's controller has told of already
    if settings.LISTEN.read(os.environ) == "address" and not claim.is_default:
        if _is_local(claim.address):
            return claim.address
        log.info(
            "Listening for proxies on all interfaces: {address} is no IP address of this host", address=claim.address
        )
    return "::" if {family for family, *_ in found} == {socket.AF_INET6} else ""


def _is_local(address: str) -> bool:
    """Whether that is an IP address, and one that this host has."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        socket.inet_pton(family, address)
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.bind((address, 0))
    except OSError:
        return False
    return True
