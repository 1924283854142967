"""Which hosts a worker dials for a neighbour.

The neighbour names the host and port of its engine. A worker that dialled whatever it is told would
probe its operator's network for a stranger. So a host counts where the neighbour is seen (the other
end of its own, authenticated connection) or where its signed record says that it is; and an address
that is not public counts only where the neighbour is seen, unless the operator trusts records there
too (`worker.dial_private`). Anything else goes through a tunnel, which asks no address of anybody.

Names are looked up here, and what is dialled is the address that was checked.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterable

_NAT64 = ipaddress.ip_network("64:ff9b::/96")
"""Like 6to4 and Teredo, stands for an IPv4 address, which may be a private one."""

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def parse_host(host: str) -> Address | None:
    """The address that `host` is, an IPv4 one also where it is written as IPv6; None for a name."""
    try:
        found = ipaddress.ip_address(host)
    except ValueError:
        return None
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return mapped or found


def announced_hosts(addresses: Iterable[str]) -> frozenset[str]:
    """Hosts of multiaddrs such as `/ip4/203.0.113.5/tcp/4001`, as they are written."""
    parts = (address.split("/") for address in addresses)
    kinds = ("ip4", "ip6", "dns", "dns4", "dns6")
    return frozenset(part[2].lower() for part in parts if len(part) > 2 and part[1] in kinds)


def may_look_up(host: str, announced: Collection[str]) -> bool:
    """Whether a name may be looked up for a neighbour: only one that its record has."""
    return host.lower() in announced


def may_dial(
    address: Address,
    *,
    seen: Address | None,
    said: Collection[Address],
    private: bool,
) -> bool:
    """Whether to dial `address` for a neighbour that is connected from `seen` and whose record says
    that it is at `said`. `private`: the operator trusts records about private addresses."""
    if seen is not None and address == seen:
        return True
    if address.is_multicast or address.is_unspecified or address not in said:
        return False
    return private or _is_public(address)


def _is_public(address: Address) -> bool:
    if isinstance(address, ipaddress.IPv6Address):
        translated = address in _NAT64 or address.sixtofour or address.teredo
        return address.is_global and not translated
    return address.is_global
