"""The wire between network namespaces: IP packets that arrive later, or not at all.

Every namespace has a TUN device, whose packets come here and go on to the device of the address
they are for, `delay` seconds later. So what is tried is the kernel's own TCP, with its timers and
its retransmissions, on any kernel that has TUN.
"""

from __future__ import annotations

import fcntl
import heapq
import ipaddress
import os
import random
import selectors
import struct
import threading
import time
from contextlib import suppress

TUN_DEVICE = "/dev/net/tun"
_TUNSETIFF = 0x400454CA
_IFF_TUN_NO_INFO = 0x0001 | 0x1000
MTU = 1400
MOST_UNDER_WAY = 1 << 15
"""Packets; a router's queue has an end, too."""


def open_tun(name: str) -> int:
    """The descriptor of a new TUN device of this process's network namespace. Raises OSError."""
    fd = os.open(TUN_DEVICE, os.O_RDWR | os.O_NONBLOCK)
    try:
        fcntl.ioctl(fd, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _IFF_TUN_NO_INFO))
    except OSError:
        os.close(fd)
        raise
    return fd


class Wire:
    """Carries packets until `close`. `delay` is in seconds each way, `loss` a share of all packets,
    `cut` the addresses that nothing reaches and that reach nothing; all may be set meanwhile."""

    def __init__(self, seed: int = 0) -> None:
        self.delay = 0.0
        self.loss = 0.0
        self.cut: frozenset[str] = frozenset()
        self.carried = self.lost = 0
        self._random = random.Random(seed)
        self._fds: dict[str, int] = {}
        self._selector = selectors.DefaultSelector()
        self._under_way: list[tuple[float, int, int, bytes]] = []
        self._count = 0
        self._closed = False
        self._thread = threading.Thread(target=self._carry, name="wire", daemon=True)
        self._thread.start()

    def attach(self, address: str, tun: int) -> None:
        """Carry what is for `address` to this device, and what comes from it."""
        self._fds[address] = tun
        self._selector.register(tun, selectors.EVENT_READ)

    def close(self) -> None:
        """Carry nothing any more."""
        self._closed = True
        self._thread.join()
        for fd in self._fds.values():
            os.close(fd)

    def _carry(self) -> None:
        while not self._closed:
            now = time.monotonic()
            while self._under_way and self._under_way[0][0] <= now:
                _, _, fd, packet = heapq.heappop(self._under_way)
                with suppress(OSError):  # its namespace is gone
                    os.write(fd, packet)
            wait = self._under_way[0][0] - now if self._under_way else 0.1
            if not self._selector.get_map():
                time.sleep(0.01)
                continue
            for key, _ in self._selector.select(min(max(wait, 0.0), 0.1)):
                self._read(key.fd)

    def _read(self, fd: int) -> None:
        for _ in range(64):
            try:
                packet = os.read(fd, MTU + 100)
            except BlockingIOError:
                return
            except OSError:
                self._selector.unregister(fd)
                return
            self._send(packet)

    def _send(self, packet: bytes) -> None:
        if len(packet) < 20 or packet[0] >> 4 != 4:
            return
        source, target = (str(ipaddress.IPv4Address(packet[at : at + 4])) for at in (12, 16))
        fd = self._fds.get(target)
        if fd is None:
            return
        dropped = self._random.random() < self.loss or len(self._under_way) >= MOST_UNDER_WAY
        if dropped or source in self.cut or target in self.cut:
            self.lost += 1
            return
        self.carried += 1
        self._count += 1
        due = time.monotonic() + self.delay
        heapq.heappush(self._under_way, (due, self._count, fd, packet))
