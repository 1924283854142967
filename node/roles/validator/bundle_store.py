"""Bundles on disk: `<blobs>/<content id in hex>.bundle`, written before their sender is told."""

from __future__ import annotations

from pathlib import Path

import trio

from node.config.files import write_atomically
from proofs.errors import ProofError
from proofs.evidence.bundle import UnitBundle

BUNDLE = ".bundle"
"""The files' suffix."""


class BundleStore:
    """The bundles in one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def put(self, bundle_id: bytes, content: bytes) -> None:
        """Write a bundle's bytes. Raises `InputError` if the disk refuses."""
        await trio.to_thread.run_sync(write_atomically, self._path(bundle_id), content, 0o600)

    async def get(self, bundle_id: bytes) -> UnitBundle | None:
        """A bundle that was written; None where the disk has lost or damaged it."""
        try:
            data = await trio.to_thread.run_sync(self._path(bundle_id).read_bytes)
            return UnitBundle.from_bytes(data)
        except (OSError, ProofError):
            return None

    def _path(self, bundle_id: bytes) -> Path:
        return self._folder / f"{bundle_id.hex()}{BUNDLE}"
