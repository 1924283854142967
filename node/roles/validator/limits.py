"""By which thresholds a bundle is judged: those that its pool names on chain, else this node's own.

A pool names a profile by its content id, so all validators judge alike. A profile that is not here
is fetched by that id from whoever has it, the pool's owner above all, and kept in `profiles/`.
"""

from __future__ import annotations

from dataclasses import dataclass

import trio

from node.context import NodeContext
from node.datadir import write_atomically
from node.errors import InputError
from node.profiles import UnknownProfile, load_profile, profiles_folder
from node.roles.terms import PoolTerms
from node.roles.validator.rows import CannotJudge
from node.settlement.blobs import EpochBlobs
from proofs.bundle import UnitBundle
from proofs.errors import ProofError
from proofs.profiles import Profile
from proofs.thresholds import PROFILES, Thresholds

FETCH_SECONDS = 60.0
ID_DIGITS = 64


@dataclass(frozen=True)
class Limits:
    """`name` is a shipped name or a profile's id in hex; `profile` None for thresholds alone."""

    name: str
    thresholds: Thresholds
    profile: Profile | None = None


class PoolLimits:
    """Limits by pool, looked up once each."""

    def __init__(self, context: NodeContext, blobs: EpochBlobs) -> None:
        self._context = context
        self._blobs = blobs
        self._known: dict[int, Limits] = {}

    async def of(self, bundle: UnitBundle) -> Limits:
        """The limits for a bundle. Raises `CannotJudge`."""
        receipt = bundle.stages[0].receipt
        pool_id = 0 if receipt is None else receipt.pool_id
        if pool_id not in self._known:
            named = await self._named(pool_id)
            self._known[pool_id] = await self._load(
                named or self._context.config.validator.thresholds
            )
        return self._known[pool_id]

    async def _named(self, pool_id: int) -> str:
        """What a pool's terms say; "" where there are none."""
        from chain.errors import ChainError

        chain = self._context.chain
        if chain is None or pool_id == 0:
            return ""
        try:
            return PoolTerms.from_uri((await chain.pool(pool_id)).uri).thresholds
        except ChainError as exc:
            raise CannotJudge(f"the chain does not say by which limits: {exc}") from exc
        except InputError:
            return ""

    async def _load(self, name: str) -> Limits:
        if name in PROFILES:
            return Limits(name, PROFILES[name])
        folder = self._context.config.data_dir
        try:
            profile = await trio.to_thread.run_sync(load_profile, name, folder)
        except UnknownProfile as exc:
            profile = await self._fetch(name, exc)
        except InputError as exc:
            raise CannotJudge(f"limits {name[:64]}: {exc}") from exc
        return Limits(profile.profile_id.hex(), profile.thresholds, profile)

    async def _fetch(self, name: str, missing: UnknownProfile) -> Profile:
        try:
            digest = bytes.fromhex(name)
        except ValueError:
            digest = b""
        if 2 * len(digest) != ID_DIGITS:
            raise CannotJudge(f"limits {name[:64]}: {missing}")
        content = None
        with trio.move_on_after(FETCH_SECONDS):
            content = await self._blobs.fetch(digest)
        if content is None:
            raise CannotJudge(f"nobody gives the profile {name[:12]} that the pool names")
        try:
            profile = Profile.from_bytes(content)
        except ProofError as exc:
            raise CannotJudge(f"what the pool names as its profile is none: {exc}") from exc
        path = profiles_folder(self._context.config.data_dir) / f"{name[:16]}.toml"
        text = profile.to_toml().encode()
        try:
            await trio.to_thread.run_sync(write_atomically, path, text)
        except InputError as exc:
            self._context.log.warning("profile not kept", reason=str(exc))
        return profile
