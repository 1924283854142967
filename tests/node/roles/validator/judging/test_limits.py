"""By which limits work of a pool is judged, and what happens where nobody has them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import structlog

from chain.errors import ChainUnreachable
from node.config.profiles import profiles_folder, read_profile
from node.errors import InputError
from node.roles.pool_terms import PoolTerms
from node.roles.validator.judging.errors import CannotJudge
from node.roles.validator.judging.limits import (
    MOST_POOLS,
    LimitsByPool,
    NamedThresholds,
    NoPoolThresholds,
    PoolThresholds,
    ThresholdsOnChain,
)
from proofs.thresholds.builtin import EXACT, FP32, PUBLISHED
from proofs.thresholds.pooled import HonestMeans
from proofs.thresholds.profiles import MeasuringSide, Profile, QuantileTable, limits_of
from tests.proofs.units import MODEL, bundle

SIDE = MeasuringSide(dtype="float32", device="cpu", settings="")
PROFILE = Profile(
    model_id=bytes(32),
    model_name="tiny",
    prover=SIDE,
    verifier=SIDE,
    stages=3,
    fpr=0.001,
    supported_fpr=0.01,
    prompts=300,
    sequences=300,
    chunks=900,
    tokens=9000,
    limits=limits_of(FP32),
    distance=QuantileTable.of([0.0, 0.5]),
    score=QuantileTable.of([0.0]),
)
ID = PROFILE.profile_id


class Blobs:
    """What other nodes have."""

    def __init__(self, content: bytes | None = None) -> None:
        self.content, self.asked = content, 0

    async def fetch(self, digest: bytes) -> bytes | None:
        self.asked += 1
        return self.content


@dataclass(frozen=True)
class PoolRecord:
    """What of a pool on chain is looked at."""

    uri: str


class Chain:
    def __init__(self, thresholds: str | None) -> None:
        terms = PoolTerms(model_id="0" * 64, model="tiny", thresholds=thresholds or "")
        self.uri = "https://elsewhere" if thresholds is None else terms.to_uri()
        self.down = False
        self.pools = self

    async def info(self, pool_id: int) -> PoolRecord:
        if self.down:
            raise ChainUnreachable("http://test", "down")
        return PoolRecord(self.uri)


def limits(folder: Path, chain: Chain | None, blobs: Blobs, own: str = "published") -> LimitsByPool:
    pools: PoolThresholds = NoPoolThresholds()
    if chain is not None:
        pools = ThresholdsOnChain(chain)  # type: ignore[arg-type]
    return LimitsByPool(pools, blobs, own, folder, structlog.get_logger("test"))


@pytest.mark.parametrize("terms", [None, "", "no chain"])
async def test_without_a_word_of_the_pool_it_is_the_validators_own(
    tmp_path: Path, terms: str | None
) -> None:
    chain = None if terms == "no chain" else Chain(terms)
    found = await limits(tmp_path, chain, Blobs()).of(bundle())
    assert (found.name, found.thresholds, found.profile) == ("published", PUBLISHED, None)


async def test_what_was_never_measured_is_not_judged(tmp_path: Path) -> None:
    """The published limits let nearly all cheaper arithmetic pass, and bf16 noise differs from
    model to model: neither is a reason to accept anything."""
    for own, dtype in (("published", "bfloat16"), ("published", "float32"), ("fp32", "bfloat16")):
        named = await limits(tmp_path, None, Blobs(), own).of(bundle())
        with pytest.raises(CannotJudge, match="calibrate"):
            named.limits(MODEL, dtype)
    named = await limits(tmp_path, None, Blobs(), "fp32").of(bundle())
    assert named.limits(MODEL, "float32").reject == FP32
    by_profile = NamedThresholds(ID.hex(), FP32, PROFILE.model_copy(update={"model_id": MODEL}))
    assert by_profile.limits(MODEL, "bfloat16").convict == FP32.convicting().looser(
        PUBLISHED.convicting()
    )


async def test_a_pools_word_is_taken_before_ones_own(tmp_path: Path) -> None:
    found = await limits(tmp_path, Chain("fp32"), Blobs()).of(bundle())
    assert (found.name, found.thresholds) == ("fp32", FP32)


async def test_a_profile_is_fetched_by_its_id_once_and_kept(tmp_path: Path) -> None:
    blobs = Blobs(PROFILE.to_bytes())
    known = limits(tmp_path, Chain(ID.hex()), blobs)
    for _ in range(2):
        found = await known.of(bundle())
        assert (found.name, found.profile) == (ID.hex(), PROFILE)
        assert found.thresholds == FP32
    (path,) = profiles_folder(tmp_path).iterdir()
    assert read_profile(path) == PROFILE
    again = Blobs()
    assert (await limits(tmp_path, Chain(ID.hex()), again).of(bundle())).profile == PROFILE
    assert (blobs.asked, again.asked) == (1, 0)


async def test_pools_without_end_leave_a_bounded_trace(tmp_path: Path) -> None:
    folder, log = profiles_folder(tmp_path), structlog.get_logger("test")
    folder.mkdir()
    (folder / "mine.toml").write_text(PROFILE.model_copy(update={"fpr": 0.01}).to_toml())
    for number in range(4):
        profile = PROFILE.model_copy(update={"model_name": f"tiny {number}"})
        chain: Any = Chain(profile.profile_id.hex())
        blobs = Blobs(profile.to_bytes())
        known = LimitsByPool(ThresholdsOnChain(chain), blobs, "fp32", tmp_path, log, fetched=2)
        assert (await known.of(bundle())).profile == profile  # kept or not
    assert len(list(folder.iterdir())) == 3
    assert (folder / "mine.toml").exists()
    for pool_id in range(MOST_POOLS + 9):
        known._names.put(pool_id, "fp32")
    assert len(known._names) == MOST_POOLS


@pytest.mark.parametrize("content", [None, b"junk"])
async def test_without_the_profile_nothing_is_judged(tmp_path: Path, content: bytes | None) -> None:
    with pytest.raises(CannotJudge, match="profile"):
        await limits(tmp_path, Chain(ID.hex()), Blobs(content)).of(bundle())
    with pytest.raises(CannotJudge, match="limits"):
        await limits(tmp_path, Chain("no-such-name"), Blobs()).of(bundle())
    down = Chain("fp32")
    down.down = True
    with pytest.raises(CannotJudge, match="chain"):
        await limits(tmp_path, down, Blobs()).of(bundle())


async def test_a_pool_may_demand_one_kernel_class(tmp_path: Path) -> None:
    demanded = await limits(tmp_path, Chain("exact:cpu-fp32-fma-1"), Blobs()).of(bundle())
    assert (demanded.kernel_class, demanded.thresholds) == ("cpu-fp32-fma-1", EXACT)
    for dtype in ("float32", "bfloat16"):  # nothing needs to be calibrated
        assert demanded.limits(MODEL, dtype).reject == EXACT
    assert (await limits(tmp_path, Chain("fp32"), Blobs()).of(bundle())).kernel_class == ""
    for wrong in ("exact:", "exact", "exact:-x"):
        with pytest.raises(CannotJudge, match="limits"):
            await limits(tmp_path, Chain(wrong), Blobs()).of(bundle())


def test_terms_that_are_no_name_are_refused() -> None:
    uri = Chain("fp32").uri.replace("fp32", "../../etc")
    with pytest.raises(InputError):
        PoolTerms.from_uri(uri)


def test_honest_means_are_known_where_somebody_measured_them() -> None:
    fp32, published = NamedThresholds("fp32", FP32), NamedThresholds("published", PUBLISHED)
    assert fp32.means == HonestMeans(1 / 128, 1e-4, 1e-6)
    assert published.means is None
    assert NamedThresholds("exact:cpu-x", EXACT).means is None
    means = NamedThresholds(ID.hex(), FP32, PROFILE).means
    assert means is not None
    assert means.distance == PROFILE.distance.mean_bound()
