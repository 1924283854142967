"""A node's data folder: what is where, who may read it, and that only one process uses it.

| name | what it is |
|---|---|
| `config.toml` | settings (see `node.config.schema`) |
| `node.key` | the hot key: libp2p identity and EVM node address, mode 0600 |
| `provider.key` | the provider's cold key, only where the operator keeps it here, mode 0600 |
| `journal.sqlite` | accepted events (see `node.journal`) |
| `chain.sqlite` | transactions and the event cursor of the node's key |
| `chain.sqlite.0x…` | transactions of its provider's key |
| `engine/` | sockets and logs of the engine process |
| `blobs/` | content-addressed proof bundles, epochs' data and revealed rows |
| `rows/` | content-addressed hidden states that a worker received |
| `api-token` | bearer token of the HTTP API, mode 0600 |
| `node.lock` | held with flock(2) while a process uses the folder |
| `status.json` | pid, HTTP URL and peer id of that process |

The lock is the kernel's: it goes when the process does, however it ends, so no lock is ever stale.
The folder itself is 0700.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from node.config.files import (
    PRIVATE,
    SYSTEM,
    System,
    hold,
    sweep,
    write_atomically,
    write_new,
)
from node.config.typed import expand
from node.errors import InputError, system_error
from proofs.encoding.jsontext import parse_json

MAX_STATUS = 64 * 1024
MAX_UNIX_PATH = 100
"""Bytes of the path of a Unix socket (the kernel's bound is 108 with the final NUL)."""


@dataclass(frozen=True)
class NodeStatusFile:
    """Who uses the folder now. `http_url` like `http://127.0.0.1:7070`."""

    pid: int
    http_url: str
    peer_id: str
    addresses: tuple[str, ...] = ()


@dataclass(frozen=True)
class DataDir:
    """Paths within a data folder; nothing is touched until a method is called."""

    path: Path

    @property
    def config(self) -> Path:
        """Settings, if there are any."""
        return self.path / "config.toml"

    @property
    def node_key(self) -> Path:
        """The hot key."""
        return self.path / "node.key"

    @property
    def provider_key(self) -> Path:
        """The provider's cold key, if it is kept here."""
        return self.path / "provider.key"

    @property
    def journal(self) -> Path:
        """Accepted events."""
        return self.path / "journal.sqlite"

    @property
    def chain(self) -> Path:
        """The node key's transactions."""
        return self.path / "chain.sqlite"

    @property
    def engine(self) -> Path:
        """Sockets and logs of engine processes."""
        return self.path / "engine"

    @property
    def blobs(self) -> Path:
        """Content by its hash."""
        return self.path / "blobs"

    @property
    def status(self) -> Path:
        """Who uses the folder now."""
        return self.path / "status.json"

    def create(self) -> None:
        """Make the folder and its subfolders (idempotent). Raises `InputError`, `ResourceError`."""
        try:
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
            for folder in (self.engine, self.blobs):
                folder.mkdir(exist_ok=True, mode=0o700)
        except OSError as exc:
            raise system_error(
                self.path, "cannot make the data folder", exc, hint="choose --data-dir"
            ) from exc

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the folder for this process. Raises `ResourceError` when another one has it, or when
        it cannot be written."""
        self.create()
        taken = f"{self.path}: in use by another prime-node"
        try:
            descriptor = hold(
                self.path / "node.lock", taken, "stop it or choose another --data-dir"
            )
        except OSError as exc:
            raise system_error(self.path, "cannot use the data folder", exc) from exc
        try:
            sweep(self.path)
            sweep(self.blobs)
            try:
                yield
            finally:
                self.status.unlink(missing_ok=True)
        finally:
            os.close(descriptor)

    def remember_network(self, network_file: Path | None) -> None:
        """Note the network in a folder that has no settings yet, so that other commands know it.

        Raises `InputError` and `ResourceError`.
        """
        if network_file is None or self.config.exists():
            return
        import tomli_w

        named = {"network_file": str(expand(network_file))}
        write_atomically(self.config, tomli_w.dumps(named).encode())

    def holder(self) -> str | None:
        """The pid of the process that holds the folder now, None where none does."""
        try:
            descriptor = os.open(self.path / "node.lock", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return os.read(descriptor, 32).decode("ascii", "replace").strip() or "unknown"
        finally:
            os.close(descriptor)
        return None

    def chain_of(self, address: str) -> Path:
        """Transactions of another key than the node's: its provider's."""
        return self.chain.with_name(f"{self.chain.name}.{address}")

    def api_token(self, system: System = SYSTEM) -> str:
        """The bearer token of the HTTP API, made at first use (64 hex digits), or where the file
        is empty. Raises `InputError`."""
        path = self.path / "api-token"
        if path.exists() and path.stat().st_size == 0:
            path.unlink()  # it lets nobody in, and nobody knows another one
        if not path.exists():
            try:
                with suppress(FileExistsError):
                    write_new(path, f"{secrets.token_hex(32)}\n".encode(), system=system)
            except OSError as exc:
                raise system_error(path, "cannot write", exc) from exc
        return self.read_api_token()

    def read_api_token(self) -> str:
        """The token without making one. Raises `InputError`."""
        path = self.path / "api-token"
        text = _read_small(path, 1024, "is it the data folder of a node that has run?").strip()
        if len(text) < 32 or not text.isascii():
            raise InputError(f"{path}: not a token", "delete the file; the node makes a new one")
        return text

    def write_status(self, status: NodeStatusFile) -> None:
        """Say who uses the folder; removed with the lock. Raises `InputError`."""
        write_atomically(self.status, json.dumps(asdict(status)).encode() + b"\n", PRIVATE)

    def read_status(self) -> NodeStatusFile:
        """Of the running node. Raises `InputError` when none runs or the file is damaged."""
        text = _read_small(self.status, MAX_STATUS, "is the node running? start it: prime-node run")
        try:
            data = parse_json(text.encode())
            return NodeStatusFile(
                pid=int(data["pid"]),
                http_url=str(data["http_url"]),
                peer_id=str(data["peer_id"]),
                addresses=tuple(str(address) for address in data.get("addresses", ())),
            )
        except (ValueError, TypeError, KeyError, AttributeError) as exc:
            raise InputError(f"{self.status}: damaged", "restart the node") from exc


def _read_small(path: Path, limit: int, missing_hint: str) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except FileNotFoundError as exc:
        raise InputError(f"{path}: no such file", missing_hint) from exc
    except OSError as exc:
        raise system_error(path, "cannot read", exc) from exc
    if len(data) > limit:
        raise InputError(f"{path}: larger than {limit} bytes")
    return data.decode("utf-8", "replace")
