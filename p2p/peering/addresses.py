"""Multiaddrs: parsing what others give us, and a small book of addresses kept on disk.

The book remembers where peers were reachable, so that a restarted node finds the network again when
its bootstrap peers are gone. It is advice, never truth: an address is only believed when the peer
behind it proves its id in the handshake. One JSON file, written to the side and renamed, so that a
crash leaves the old one or the new one.
"""

from __future__ import annotations

import ipaddress
import json
import os
import socket
from collections.abc import Sequence
from pathlib import Path

import psutil
from libp2p.peer.id import ID
from multiaddr import Multiaddr
from multiaddr.exceptions import Error as MultiaddrError

from p2p.admission.places import Places, quarters
from p2p.admission.sources import claimed_subnet
from p2p.admission.standing import Judge, Standing
from p2p.errors import ConfigError, InvalidPeerId
from p2p.identity import peer_public_key

MAX_ADDRESS_LENGTH = 256
MAX_PEERS = 256
MAX_ADDRESSES = 8
MAX_FILE_BYTES = 1 << 20


def parse_address(text: str) -> Multiaddr:
    """Parse a multiaddr without network access.

    Raises:
        ConfigError: not a multiaddr, or longer than 256 characters.
    """
    if len(text) > MAX_ADDRESS_LENGTH:
        raise ConfigError(f"address of {len(text)} characters; at most {MAX_ADDRESS_LENGTH}")
    try:
        return Multiaddr(text)
    except (MultiaddrError, ValueError) as exc:
        raise ConfigError(f"{text!r} is no multiaddr such as /ip4/10.0.0.1/tcp/4001") from exc


def split_peer_address(text: str) -> tuple[str, Multiaddr]:
    """``/ip4/…/tcp/…/p2p/<peer id>`` as (peer id, address without the id).

    Raises:
        ConfigError: no multiaddr, or without the id of a secp256k1 peer.
    """
    address = parse_address(text)
    head, separator, peer_id = str(address).rpartition("/p2p/")
    if not separator or not head:
        raise ConfigError(f"{text!r} must end in /p2p/<peer id>")
    try:
        peer_public_key(peer_id)
    except InvalidPeerId as exc:
        raise ConfigError(f"{text!r}: {exc}") from exc
    return peer_id, Multiaddr(head)


def peer_id_object(peer_id: str) -> ID:
    """The library's form of a checked peer id.

    Raises:
        InvalidPeerId: not a secp256k1 peer id.
    """
    peer_public_key(peer_id)
    return ID.from_base58(peer_id)


def announced(
    listening: Sequence[Multiaddr], external: Sequence[Multiaddr], interfaces: Sequence[str]
) -> list[Multiaddr]:
    """The addresses to tell others.

    Args:
        listening: what the sockets are bound to, real ports included.
        external: configured addresses; when given they replace all others.
        interfaces: this machine's IP addresses, put in the place of a wildcard (``0.0.0.0``,
            ``::``), loopback last.
    """
    if external:
        return list(external)
    by_loopback = sorted(
        (ipaddress.ip_address(text) for text in interfaces), key=lambda ip: ip.is_loopback
    )
    told: dict[Multiaddr, None] = {}
    for address in listening:
        text = str(address)
        for version, wildcard in ((4, "/ip4/0.0.0.0/"), (6, "/ip6/::/")):
            if text.startswith(wildcard):
                rest = text.removeprefix(wildcard)
                for ip in by_loopback:
                    if ip.version == version and not ip.is_link_local:
                        told[Multiaddr(f"/ip{version}/{ip}/{rest}")] = None
                break
        else:
            told[address] = None
    return list(told)


def interface_addresses() -> list[str]:
    """The IP addresses of this machine's interfaces, without zone suffixes."""
    return [
        entry.address.partition("%")[0]
        for entries in psutil.net_if_addrs().values()
        for entry in entries
        if entry.family in (socket.AF_INET, socket.AF_INET6)
    ]


class AddressBook:
    """Known peer addresses (with ``/p2p/<id>``) of at most `MAX_PEERS` peers.

    Anybody can have a record spread, so those where a connection was made (`reached`) and those
    whom `judge` knows keep their places against any number of others (`p2p.admission.places`).
    """

    def __init__(self, path: Path | None, judge: Judge = lambda peer_id: Standing.STRANGER) -> None:
        self._path = path
        self._judge = judge
        self._peers: dict[str, tuple[str, ...]] = {}
        self._reached: set[str] = set()
        self._places: Places[str] = Places(quarters(MAX_PEERS), self._standing)
        self._dirty = False
        for reached, peers in _load(path) if path is not None else ():
            for peer_id, addresses in peers.items():
                self.remember(peer_id, addresses, reached=reached)

    def _standing(self, peer_id: str) -> Standing:
        reached = Standing.PROVEN if peer_id in self._reached else Standing.STRANGER
        return max(reached, self._judge(peer_id))

    def peers(self) -> tuple[str, ...]:
        """Peer ids with known addresses: those that were reached first, then newest first."""
        newest = reversed(tuple(self._peers))
        return tuple(sorted(newest, key=lambda peer_id: peer_id not in self._reached))

    def addresses(self, peer_id: str) -> tuple[str, ...]:
        """Where the peer was last reachable, with ``/p2p/<id>``; none for an unknown peer."""
        return self._peers.get(peer_id, ())

    def remember(self, peer_id: str, addresses: tuple[str, ...], *, reached: bool = False) -> None:
        """Note where a peer is reachable; addresses that name another peer are left out."""
        own = tuple(a for a in addresses if _names(a, peer_id))[:MAX_ADDRESSES]
        known = self._peers.get(peer_id) == own and (not reached or peer_id in self._reached)
        if not own or known:
            return
        if reached:
            self._reached.add(peer_id)
        leaves = self._places.enter(peer_id, (claimed_subnet(own),))
        if leaves is not None:
            self._peers.pop(leaves, None)
            self._reached.discard(leaves)
        self._peers.pop(peer_id, None)
        self._peers[peer_id] = own
        self._dirty = True

    def save(self) -> None:
        """Write the book if it changed.

        Raises:
            OSError: the folder cannot be written.
        """
        if self._path is None or not self._dirty:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        aside = self._path.with_suffix(".new")
        kept: dict[bool, dict[str, tuple[str, ...]]] = {True: {}, False: {}}
        for peer_id, addresses in self._peers.items():
            kept[peer_id in self._reached][peer_id] = addresses
        aside.write_text(json.dumps({"reached": kept[True], "heard": kept[False]}, indent=1))
        os.replace(aside, self._path)
        self._dirty = False


def _names(address: str, peer_id: str) -> bool:
    try:
        return split_peer_address(address)[0] == peer_id
    except ConfigError:
        return False


def _load(path: Path) -> list[tuple[bool, dict[str, tuple[str, ...]]]]:
    """What the file holds and is well formed; a damaged book is an empty one, not a failure."""
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            return []
        content = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError):
        return []
    if not isinstance(content, dict):
        return []
    found: list[tuple[bool, dict[str, tuple[str, ...]]]] = []
    for reached, kind in ((False, "heard"), (True, "reached")):
        peers = content.get(kind)
        if isinstance(peers, dict):
            well_formed = {
                peer_id: tuple(addresses)
                for peer_id, addresses in list(peers.items())[:MAX_PEERS]
                if isinstance(addresses, list) and all(isinstance(a, str) for a in addresses)
            }
            found.append((reached, well_formed))
    return found
