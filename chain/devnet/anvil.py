"""Anvil as the backend of the development chain, when the machine has it.

Anvil is far faster than the embedded EVM and can reorganise and pause mining, so it is preferred
when found: in the environment variable ANVIL, on PATH, or among the packages that the contracts'
tests install (there the real executable is looked up, since npm's launcher would leave it behind
when killed). It listens on a loopback port of its own choice; requests are passed on over HTTP.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import trio

from chain.devnet.remote import HttpBackend
from chain.encoding.hexdata import to_quantity
from chain.errors import DevnetError

START_SECONDS = 20
_VARIABLES = ("PATH", "HOME", "TMPDIR", "LANG", "LC_ALL")
"""Of ours, what anvil is told; not the keys and passphrases."""

_LISTENING = re.compile(rb"Listening on 127\.0\.0\.1:(\d{1,5})")
_NPM = Path(__file__).parents[2] / "contracts" / "node_modules" / "@foundry-rs"


# Runs its arguments and kills them when its own standard input ends.
_GUARD = '"$@" & read -r _; kill -9 $!'


def find_anvil() -> str | None:
    """Path of an anvil executable, or None. Raises DevnetError when ANVIL names none."""
    named = os.environ.get("ANVIL")
    if named:
        found = shutil.which(named)
        if found is None:
            raise DevnetError(f"ANVIL={named} is not an executable; correct or unset it")
        return found
    bundled = sorted(str(path) for path in _NPM.glob("anvil-*/bin/anvil*"))
    return shutil.which("anvil") or next(iter(bundled), None)


@asynccontextmanager
async def run_anvil(
    executable: str, chain_id: int, funded: str, wei: int
) -> AsyncIterator[HttpBackend]:
    """Start anvil for the length of the block, then kill it; the address `funded` owns `wei`.

    A small shell stands between: it holds the other end of a pipe of ours, so that anvil dies with
    this process, however it ends. Raises DevnetError.
    """
    command = ["/bin/sh", "-c", _GUARD, "anvil-guard", executable, "--host", "127.0.0.1"]
    command += ["--port", "0", "--chain-id", str(chain_id), "--accounts", "1"]
    command += ["--hardfork", "prague"]
    try:
        process = await trio.lowlevel.open_process(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={name: os.environ[name] for name in _VARIABLES if name in os.environ},
            start_new_session=True,  # Ctrl-C is for us; the guard acts when our pipe closes
        )
    except OSError as exc:
        raise DevnetError(f"anvil at {executable} cannot be started: {exc}") from exc
    try:
        port = None
        with trio.move_on_after(START_SECONDS):
            port = await _read_port(process)
        if port is None:
            raise DevnetError(f"{executable} did not start to listen; unset ANVIL to do without it")
        async with (
            trio.open_nursery() as nursery,
            httpx.AsyncClient(timeout=None, trust_env=False) as client,
        ):
            nursery.start_soon(_drain, process)
            backend = HttpBackend(client, f"http://127.0.0.1:{port}", "anvil")
            await backend.request("anvil_setBalance", [funded, to_quantity(wei)])
            yield backend
            nursery.cancel_scope.cancel()
    finally:
        with trio.CancelScope(shield=True):
            assert process.stdin is not None
            await process.stdin.aclose()
            await process.wait()


async def _read_port(process: trio.Process) -> int | None:
    """Read anvil's banner up to the line that names its port."""
    assert process.stdout is not None
    banner = b""
    while len(banner) < 1 << 16:
        chunk = await process.stdout.receive_some(4096)
        banner += chunk
        found = _LISTENING.search(banner)
        if found:
            return int(found[1])
        if not chunk:
            return None
    return None


async def _drain(process: trio.Process) -> None:
    """Read and discard what anvil prints, or it would block on a full pipe."""
    assert process.stdout is not None
    async for _ in process.stdout:
        pass
