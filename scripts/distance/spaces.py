"""Network namespaces: this process's own, and one for each command that is run on the wire.

    python -m distance.spaces ADDRESS DESCRIPTOR COMMAND…

makes a namespace with `ADDRESS` on a TUN device, hands that device over on the socket `DESCRIPTOR`,
and becomes the command.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import IO

from distance.wire import MTU, TUN_DEVICE, Wire, open_tun

_CLONE_NEWNET = 0x40000000
DEVICE = "wire0"
ROOT = Path(__file__).resolve().parents[2]


def why_not() -> str:
    """Why this machine cannot have such a network, "" where it can."""
    if sys.platform != "linux":
        return "network namespaces are Linux's"
    for tool in ("ip", "unshare"):
        if shutil.which(tool) is None:
            return f"{tool} is not installed (iproute2, util-linux)"
    if not os.access(TUN_DEVICE, os.R_OK | os.W_OK):
        return f"{TUN_DEVICE} cannot be opened: run as root, on a kernel with TUN"
    tried = subprocess.run(
        ["unshare", "--net", "ip", "tuntap", "add", "dev", DEVICE, "mode", "tun"],
        capture_output=True,
        text=True,
        check=False,
    )
    return f"no namespace with a TUN device: {tried.stderr.strip()}" if tried.returncode else ""


def enter(address: str) -> int:
    """Move this process into a new namespace with that address; its TUN device. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "unshare")
    tun = open_tun(DEVICE)
    for words in (
        f"addr add {address}/24 dev {DEVICE}",
        f"link set {DEVICE} mtu {MTU} up",
        "link set lo up",
    ):
        subprocess.run(["ip", *words.split()], check=True)
    return tun


def run_on(
    wire: Wire, address: str, command: list[str], environment: dict[str, str], output: IO[bytes]
) -> subprocess.Popen[bytes]:
    """Run a command in a namespace of its own, at `address` of the wire."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        inside = [sys.executable, "-m", "distance.spaces", address, str(theirs.fileno())]
        child = subprocess.Popen(
            [*inside, *command],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            pass_fds=(theirs.fileno(),),
            start_new_session=True,
        )
        theirs.close()
        _, descriptors, _, _ = socket.recv_fds(ours, 1, 1)
        if not descriptors:
            raise OSError(f"no namespace for {address}: see its log")
    os.set_blocking(descriptors[0], False)
    wire.attach(address, descriptors[0])
    return child


def main() -> None:
    """Make the namespace, hand its device over, become the command."""
    address, descriptor, *command = sys.argv[1:]
    tun = enter(address)
    with socket.socket(fileno=int(descriptor)) as there:
        socket.send_fds(there, [b"x"], [tun])
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
