"""By which thresholds a bundle is judged: those that its pool names on chain, else this node's own.

A pool names a profile by its content id, so all validators judge alike. A profile that is not here
is fetched by that id from whoever has it, the pool's owner above all, and kept in `profiles/`.
"""

from __future__ import annotations

from dataclasses import dataclass
from string import hexdigits

import trio

from node.config.datadir import write_atomically
from node.config.profiles import UnknownProfile, load_profile, profiles_folder, shipped_profiles
from node.context import NodeContext
from node.errors import InputError
from node.roles.pool_terms import PoolTerms
from node.roles.validator.judging.rows import CannotJudge
from node.wire.blobs import BlobStore
from proofs.errors import ProofError
from proofs.evidence.bundle import UnitBundle
from proofs.thresholds.builtin import BUILTIN, floor_of
from proofs.thresholds.limits import Thresholds
from proofs.thresholds.profiles import Profile
from proofs.verdict.exceedances import RejectConvictLimits

FETCH_SECONDS = 60.0
ID_DIGITS = 64


@dataclass(frozen=True)
class NamedThresholds:
    """`name` is a shipped name or a profile's id in hex; `profile` None for thresholds alone."""

    name: str
    thresholds: Thresholds
    profile: Profile | None = None

    def limits(self, model_id: bytes, dtype: str) -> RejectConvictLimits:
        """What work of a model is judged by. Raises `CannotJudge` for a profile of another one."""
        if self.profile is not None and self.profile.model_id != model_id:
            raise CannotJudge(f"the profile {self.name[:12]} is of another model")
        return RejectConvictLimits.of(self.thresholds, floor_of(dtype))


class PoolLimits:
    """Limits by pool, looked up once each."""

    def __init__(self, context: NodeContext, blobs: BlobStore) -> None:
        self._context = context
        self._blobs = blobs
        self._known: dict[int, NamedThresholds] = {}

    async def of(self, bundle: UnitBundle) -> NamedThresholds:
        """The limits that a bundle's pool names. Raises `CannotJudge`."""
        receipt = bundle.stages[0].receipt
        pool_id = 0 if receipt is None else receipt.pool_id
        if pool_id not in self._known:
            named = await self._named(pool_id)
            own = self._context.config.validator.thresholds
            self._known[pool_id] = await (self._exact(named) if named else self._load(own))
        return self._known[pool_id]

    async def _named(self, pool_id: int) -> str:
        """What a pool's terms say; "" where there are none."""
        from chain.errors import ChainError

        chain = self._context.chain
        if chain is None or pool_id == 0:
            return ""
        try:
            return PoolTerms.from_uri((await chain.pools.info(pool_id)).uri).thresholds
        except ChainError as exc:
            raise CannotJudge(f"the chain does not say by which limits: {exc}") from exc
        except InputError:
            return ""

    async def _exact(self, name: str) -> NamedThresholds:
        """What a pool names means the same to every validator: a shipped name or a whole id."""
        if name in BUILTIN or name in shipped_profiles():
            return await self._load(name)
        if len(name) != ID_DIGITS or set(name) - set(hexdigits.lower()):
            raise CannotJudge(f"the pool names limits that are none: {name[:64]}")
        return await self._load(name)

    async def _load(self, name: str) -> NamedThresholds:
        if name in BUILTIN:
            return NamedThresholds(name, BUILTIN[name])
        folder = self._context.config.data_dir
        try:
            profile = await trio.to_thread.run_sync(load_profile, name, folder)
        except UnknownProfile as exc:
            profile = await self._fetch(name, exc)
        except InputError as exc:
            raise CannotJudge(f"limits {name[:64]}: {exc}") from exc
        return NamedThresholds(profile.profile_id.hex(), profile.thresholds, profile)

    async def _fetch(self, name: str, missing: UnknownProfile) -> Profile:
        if len(name) != ID_DIGITS:
            raise CannotJudge(f"limits {name[:64]}: {missing}")
        content = None
        with trio.move_on_after(FETCH_SECONDS):
            content = await self._blobs.fetch(bytes.fromhex(name))
        if content is None:
            raise CannotJudge(f"nobody gives the profile {name[:12]} that the pool names")
        try:
            profile = Profile.from_bytes(content)
        except ProofError as exc:
            raise CannotJudge(f"what the pool names as its profile is none: {exc}") from exc
        path = profiles_folder(self._context.config.data_dir) / f"{name}.toml"
        try:
            await trio.to_thread.run_sync(write_atomically, path, profile.to_toml().encode())
        except InputError as exc:
            self._context.log.warning("profile not kept", reason=str(exc))
        return profile
