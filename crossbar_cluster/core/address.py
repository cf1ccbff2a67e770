"""A node's cluster address: what counts as one, who says so, and when it goes on record.

The node reads it from its environment (`AddressClaim.from_environment`), sends it when it authenticates
(`AddressClaim.authextra`), and the master decides (`AddressClaim.replaces`) whether its record of the node changes.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

VARIABLE = "CROSSBAR_NODE_CLUSTER_IP"
DEFAULT_ADDRESS = "127.0.0.1"
ACCEPTED = "an IPv4 address (10.0.0.7), an IPv6 address (fd00::7) or a host name (router1.example.org), without a port"

# RFC 1123 section 2.1 (letters, digits, inner hyphens, at most 63 to a label). The underscore is no part of it; it is
# accepted because docker-compose names containers with it and its name server answers for them.
_LABEL = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)")
_NUMBER = re.compile(r"[0-9]+|0[xX][0-9A-Fa-f]*")
_MAX_NAME_LENGTH = 253


class InvalidAddress(ValueError):
    """A value that is no cluster address. The message names the value and what is accepted."""


def parse_address(value: object) -> str:
    """The address in ``value`` in its one canonical spelling: lower case, IPv6 compressed (RFC 5952).

    :raises InvalidAddress: it is not a string, or none of IPv4, IPv6 and host name, or an address that no other host
        can reach (unspecified, multicast, with a zone).
    """
    if not isinstance(value, str):
        raise InvalidAddress(f"{describe(value)} is no address: expected {ACCEPTED}")
    try:
        ip = ipaddress.ip_address(value)
    except ValueError:
        return _parse_name(value)
    if "%" in value or not _reachable(ip):
        raise InvalidAddress(f"{describe(value)} is no address that another host can reach: expected {ACCEPTED}")
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped:
        return f"::ffff:{ip.ipv4_mapped}"  # RFC 5952, section 5; Python spells it so only since 3.13
    return ip.compressed


def _reachable(ip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    if isinstance(ip, ipaddress.IPv6Address):
        # a link-local address leads nowhere without the zone, which means something on its own host only
        mapped = ip.ipv4_mapped
        return not (ip.is_unspecified or ip.is_multicast or ip.is_link_local) and (mapped is None or _reachable(mapped))
    return not (ip.is_unspecified or ip.is_multicast or ip.is_reserved)  # reserved: 240.0.0.0/4 with the broadcast


def _parse_name(value: str) -> str:
    labels = value.removesuffix(".").split(".")
    # a name whose last label is a number would be taken for an IPv4 address by some resolvers and not by others
    valid = len(value) <= _MAX_NAME_LENGTH and all(map(_LABEL.fullmatch, labels)) and not _NUMBER.fullmatch(labels[-1])
    if not valid or not value.isascii():
        raise InvalidAddress(f"{describe(value)} is no address: expected {ACCEPTED}")
    return value.lower()


def describe(value: object) -> str:
    """``value`` for a log line: quoted, on one line, at most 80 characters, whatever a stranger sent."""
    text = ascii(value)
    return text if len(text) <= 80 else f"{text[:60]}... ({len(text)} characters)"


@dataclass(frozen=True)
class AddressClaim:
    """What a node says of its own address."""

    address: str  #: parsed (see `parse_address`)
    is_default: bool  #: nobody set it: it is `DEFAULT_ADDRESS` for want of anything better

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> AddressClaim:
        """The claim of the node that runs with ``environ``.

        :raises InvalidAddress: the variable holds no address; the message names it, its value and what is accepted.
        """
        value = environ.get(VARIABLE, "").strip()
        if not value:
            return cls(DEFAULT_ADDRESS, is_default=True)
        try:
            return cls(parse_address(value), is_default=False)
        except InvalidAddress as e:
            raise InvalidAddress(f"{VARIABLE}: {e}") from None

    @classmethod
    def from_authextra(cls, authextra: Any) -> AddressClaim | None:
        """The claim in the authextra of a HELLO; None when there is none (a node without crossbar-cluster).

        :raises InvalidAddress: there is one, and it is no address.
        """
        if not isinstance(authextra, Mapping) or "cluster_ip" not in authextra:
            return None
        address = parse_address(authextra["cluster_ip"])
        # without a word on its source, only the default itself is taken for the default
        source = authextra.get("cluster_ip_source", "default" if address == DEFAULT_ADDRESS else "environment")
        return cls(address, is_default=source != "environment")

    @property
    def authextra(self) -> dict[str, str]:
        """The claim as it travels in the authextra of a HELLO."""
        return {"cluster_ip": self.address, "cluster_ip_source": self.source}

    @property
    def source(self) -> str:
        """Where the address comes from: ``"environment"`` or ``"default"``."""
        return "default" if self.is_default else "environment"

    def replaces(self, recorded: str | None) -> bool:
        """Whether this claim changes the address on record: a default never replaces one."""
        return self.address != recorded and not (self.is_default and recorded)
