"""The thresholds that a bundle is judged by: those that its pool names on chain, else this node's.

A pool names a profile by its content id, so all validators judge alike. A profile that is not here
is fetched by that id from whoever has it, the pool's owner above all, and kept in `profiles/`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from string import hexdigits
from typing import TYPE_CHECKING, Any, Protocol

import trio

from chain.errors import ChainError
from node.config.files import write_atomically
from node.config.profiles import UnknownProfile, load_profile, profiles_folder, shipped_profiles
from node.errors import InputError
from node.recent import Recent
from node.roles.pool_terms import PoolTerms
from node.roles.validator.judging.errors import CannotJudge
from proofs.errors import ProofError
from proofs.evidence.bundle import UnitBundle
from proofs.thresholds.builtin import FP32, floor_of, unfit_reason
from proofs.thresholds.limits import Thresholds
from proofs.thresholds.named import builtin, is_builtin, kernel_class_of
from proofs.thresholds.pooled import HonestMeans
from proofs.thresholds.profiles import Profile
from proofs.verdict.exceedances import RejectConvictLimits

if TYPE_CHECKING:
    from chain.client import ChainClient

FETCH_SECONDS = 60.0
MOST_POOLS = 4096
"""Pools of which it is remembered what they name."""
MOST_KEPT = 64
"""Thresholds in memory; a profile may have a megabyte."""
MOST_FETCHED = 256
"""Fetched profiles on disk. Of more than these only the one at hand is used."""
ID_DIGITS = 64
FP32_DISTANCE = 1 / 128
"""No chunk of honest fp32 work was further off on average (`proofs.thresholds.builtin`)."""


@dataclass(frozen=True)
class NamedThresholds:
    """`name` is a shipped name, a profile's id in hex, or `exact:` and a kernel class; `profile` is
    None for thresholds alone."""

    name: str
    thresholds: Thresholds
    profile: Profile | None = None

    @property
    def kernel_class(self) -> str:
        """The kernel class in which nothing may differ, "" where work is judged by limits."""
        return kernel_class_of(self.name)

    @property
    def means(self) -> HonestMeans | None:
        """What honest sequences say on average; None where that was never measured."""
        limits = self.thresholds
        if self.profile is not None:
            away = max(self.profile.distance.mean_bound(), FP32_DISTANCE)
            return HonestMeans(away, limits.mismatch_rate, limits.score_rate)
        if limits is FP32:
            return HonestMeans(FP32_DISTANCE, limits.mismatch_rate, limits.score_rate)
        return None

    def limits(self, model_id: bytes, dtype: str) -> RejectConvictLimits:
        """The limits for a model's work in `dtype`. Raises `CannotJudge` for a profile of another
        model, and for built-in limits that would accept what nobody has measured."""
        if self.kernel_class:
            return RejectConvictLimits.of(self.thresholds, floor_of(dtype))
        if self.profile is None and (reason := unfit_reason(self.name, dtype)):
            raise CannotJudge(f"{reason}: name a profile that `prime-node calibrate` made")
        if self.profile is not None and self.profile.model_id != model_id:
            raise CannotJudge(f"the profile {self.name[:12]} is of another model")
        return RejectConvictLimits.of(self.thresholds, floor_of(dtype))


class PoolThresholds(Protocol):
    """What a pool wants its work to be judged by."""

    async def named_by(self, pool_id: int) -> str:
        """The name in the pool's terms, "" where they name none. Raises `CannotJudge`."""
        ...


class ThresholdsOnChain:
    """What the terms say that a pool's owner published on chain."""

    def __init__(self, chain: ChainClient) -> None:
        self._chain = chain

    async def named_by(self, pool_id: int) -> str:
        """From the pool's URI; a URI that holds no terms names no thresholds."""
        if pool_id == 0:
            return ""
        try:
            return PoolTerms.from_uri((await self._chain.pools.info(pool_id)).uri).thresholds
        except ChainError as exc:
            raise CannotJudge(f"the chain does not tell the pool's limits: {exc}") from exc
        except InputError:
            return ""


class NoPoolThresholds:
    """Without a chain no pool names anything."""

    async def named_by(self, pool_id: int) -> str:
        """Always ""."""
        return ""


class ContentSource(Protocol):
    """Whoever finds content by its sha256; `node.wire.blobs.BlobStore` does."""

    async def fetch(self, digest: bytes) -> bytes | None:
        """The content, None where nobody gives it."""
        ...


class LimitsByPool:
    """Limits by pool, looked up once each, as long as they are among the last.

    `own` names the thresholds for pools that name none; profiles are read from and written to the
    data folder `data_dir`, at most `fetched` of those that pools name.
    """

    def __init__(
        self,
        pools: PoolThresholds,
        contents: ContentSource,
        own: str,
        data_dir: Path,
        log: Any,
        fetch_seconds: float = FETCH_SECONDS,
        fetched: int = MOST_FETCHED,
    ) -> None:
        self._pools = pools
        self._contents = contents
        self._own = own
        self._data_dir = data_dir
        self._log = log
        self._fetch_seconds = fetch_seconds
        self._fetched = fetched
        self._names: Recent[int, str] = Recent(MOST_POOLS)
        self._known: Recent[str, NamedThresholds] = Recent(MOST_KEPT)

    async def of(self, bundle: UnitBundle) -> NamedThresholds:
        """The limits that a bundle's pool names. Raises `CannotJudge`."""
        receipt = bundle.stages[0].receipt
        pool_id = 0 if receipt is None else receipt.pool_id
        named = self._names.get(pool_id)
        if named is None:
            named = await self._pools.named_by(pool_id)
            self._names.put(pool_id, named)
        known = self._known.get(named)
        if known is None:
            known = await (self._exact(named) if named else self._load(self._own))
            self._known.put(named, known)
        return known

    async def _exact(self, name: str) -> NamedThresholds:
        """What a pool names must mean the same to every validator: a shipped name or a whole id."""
        if is_builtin(name) or name in shipped_profiles():
            return await self._load(name)
        if len(name) != ID_DIGITS or set(name) - set(hexdigits.lower()):
            raise CannotJudge(f"the pool names limits that do not exist: {name[:64]}")
        return await self._load(name)

    async def _load(self, name: str) -> NamedThresholds:
        if is_builtin(name):
            return NamedThresholds(name, builtin(name))
        try:
            profile = await trio.to_thread.run_sync(load_profile, name, self._data_dir)
        except UnknownProfile as exc:
            profile = await self._fetch(name, exc)
        except InputError as exc:
            raise CannotJudge(f"limits {name[:64]}: {exc}") from exc
        return NamedThresholds(profile.profile_id.hex(), profile.thresholds, profile)

    async def _fetch(self, name: str, missing: UnknownProfile) -> Profile:
        if len(name) != ID_DIGITS:
            raise CannotJudge(f"limits {name[:64]}: {missing}")
        content = None
        with trio.move_on_after(self._fetch_seconds):
            content = await self._contents.fetch(bytes.fromhex(name))
        if content is None:
            raise CannotJudge(f"nobody gives the profile {name[:12]} that the pool names")
        try:
            profile = Profile.from_bytes(content)
        except ProofError as exc:
            raise CannotJudge(f"the pool names content that is not a profile: {exc}") from exc
        folder = profiles_folder(self._data_dir)
        try:
            await trio.to_thread.run_sync(_keep, folder, name, profile.to_toml(), self._fetched)
        except InputError as exc:
            self._log.warning("profile not kept", reason=str(exc))
        return profile


def _keep(folder: Path, name: str, text: str, most: int) -> None:
    """Write a fetched profile, unless there are many: its name is its whole id, and a pool's owner
    chose it. Raises `InputError`."""
    fetched = [path for path in folder.glob("*.toml") if len(path.stem) == ID_DIGITS]
    if len(fetched) >= most:
        raise InputError(f"{folder}: {len(fetched)} fetched profiles are enough", "remove some")
    write_atomically(folder / f"{name}.toml", text.encode())
