"""Where something came from, as coarse as addresses cost money: /24 of IPv4, /48 of IPv6."""

from __future__ import annotations

import ipaddress
from functools import lru_cache

UNKNOWN = ""


@lru_cache(maxsize=8192)
def subnet(host: str) -> str:
    """The subnet of an IP address in text; a name stands for itself, in lower case."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host.lower()[:64]
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    prefix = 24 if address.version == 4 else 48
    return str(ipaddress.ip_network((address, prefix), strict=False))


def claimed_subnet(addresses: tuple[str, ...]) -> str:
    """The subnet that the first of these multiaddrs names; `UNKNOWN` where none names any."""
    for text in addresses:
        parts = text.split("/")
        if len(parts) > 2 and parts[1] in {"ip4", "ip6", "dns", "dns4", "dns6"}:
            return subnet(parts[2])
    return UNKNOWN
