"""Host names in addresses: ``/dns4/node.example/tcp/4001`` is looked up whenever it is dialled.

Only names that the operator wrote are looked up. A stranger's record may hold any name, and a
look-up would tell that stranger's name server, or one in the operator's own network, that we asked.
"""

from __future__ import annotations

import socket

import trio
from multiaddr import Multiaddr

from p2p.errors import PeerUnreachable

FAMILIES = {"dns": socket.AF_UNSPEC, "dns4": socket.AF_INET, "dns6": socket.AF_INET6}
MAX_FOUND = 8


def is_name(address: Multiaddr) -> bool:
    """Whether the address begins with a name that has to be looked up."""
    return _parts(address)[0] in FAMILIES


async def looked_up(address: Multiaddr, timeout: float) -> list[Multiaddr]:
    """The IP addresses that a name stands for now; any other address as it is.

    Raises:
        PeerUnreachable: there is no such name, or nothing answered within `timeout` seconds.
    """
    if not is_name(address):
        return [address]
    kind, host, rest = _parts(address)
    try:
        with trio.fail_after(timeout):
            found = await trio.socket.getaddrinfo(
                host, None, family=FAMILIES[kind], type=socket.SOCK_STREAM
            )
    except trio.TooSlowError as exc:
        raise PeerUnreachable(f"{host} was not looked up within {timeout:.1f} s") from exc
    except (OSError, UnicodeError) as exc:
        reason = getattr(exc, "strerror", None) or str(exc)
        raise PeerUnreachable(f"{host} cannot be looked up: {reason}") from exc
    made: dict[Multiaddr, None] = {}
    for family, *_, place in found:
        version = "ip6" if family == socket.AF_INET6 else "ip4"
        made[Multiaddr(f"/{version}/{str(place[0]).partition('%')[0]}{rest}")] = None
    return list(made)[:MAX_FOUND]


def _parts(address: Multiaddr) -> tuple[str, str, str]:
    """(kind, host, the rest with its slash) of ``/kind/host/…``."""
    _, kind, host, *rest = [*str(address).split("/", 3), "", ""]
    return kind, host, f"/{rest[0]}" if rest[0] else ""
