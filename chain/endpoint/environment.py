"""HTTP clients and what the environment says about them: proxies and certificates.

`HTTP_PROXY`, `SSL_CERT_FILE` and their like are for hosts elsewhere. What is on this machine is
asked directly: a proxy would be handed bearer tokens and prompts, and could answer in its place.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from typing import TypeVar

import httpx

from chain.errors import InvalidInput

Client = TypeVar("Client")


def is_loopback(host: str) -> bool:
    """Whether a host name or address, without port, means this machine only."""
    address = _address(host)
    if address is None:
        return host.lower().rstrip(".") == "localhost"
    return address.is_loopback


def is_here(host: str) -> bool:
    """Whether a client that connects to `host` stays on this machine: loopback, or a wildcard."""
    address = _address(host)
    return is_loopback(host) or (address is not None and address.is_unspecified)


def direct_or_proxied(make: Callable[[bool], Client], host: str) -> Client:
    """`make(trust_env)`: a client of httpx's for `host`, by the environment where that counts.

    Raises InvalidInput where the environment's proxy or certificates cannot be used.
    """
    try:
        return make(not is_here(host))
    except (OSError, ValueError, ImportError, httpx.InvalidURL) as exc:
        raise InvalidInput(
            f"the environment's proxy or certificates (HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, "
            f"SSL_CERT_FILE, SSL_CERT_DIR) cannot be used for {host}: {exc}; unset or correct them"
        ) from exc


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(host.strip("[]").partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address
