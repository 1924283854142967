"""Profiles: content ids, text for people, bounded reading, p-values that are never too small."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proofs.encoding.canonical import CanonicalError
from proofs.thresholds.builtin import BUILTIN, FP32, PUBLISHED
from proofs.thresholds.measures import ChunkMeasure
from proofs.thresholds.profiles import (
    MAX_POINTS,
    MAX_TEXT,
    MeasuringSide,
    Profile,
    ProfileError,
    QuantileTable,
    distance,
    limits_of,
)

SIDE = MeasuringSide(dtype="float32", device="one CPU", settings="batch 64")


def profile(**changes: object) -> Profile:
    values: dict[str, object] = {
        "model_id": bytes(range(32)),
        "model_name": "tiny",
        "prover": SIDE,
        "verifier": SIDE.model_copy(update={"settings": "prefill"}),
        "stages": 3,
        "fpr": 1e-3,
        "supported_fpr": 0.006,
        "prompts": 500,
        "sequences": 1000,
        "chunks": 24_000,
        "tokens": 256_000,
        "limits": limits_of(FP32),
        "distance": QuantileTable.of([0.0] * 90 + [0.5, 0.25, 0.125]),
        "score": QuantileTable.of([0.001, 0.0]),
    }
    return Profile.model_validate({**values, **changes})


@pytest.mark.parametrize("thresholds", BUILTIN.values(), ids=BUILTIN)
def test_text_and_bytes_give_the_same_profile_back(thresholds: object) -> None:
    made = profile(limits=limits_of(thresholds))  # type: ignore[arg-type]
    assert Profile.from_toml(made.to_toml()) == made
    assert Profile.from_bytes(made.to_bytes()) == made
    assert Profile.from_toml(made.to_toml()).profile_id == made.profile_id
    assert made.thresholds == thresholds


def test_the_id_depends_on_every_limit_and_on_the_setting() -> None:
    ids = {profile().profile_id}
    for name, value in limits_of(PUBLISHED).model_dump().items():
        limits = limits_of(FP32).model_copy(update={name: value})
        ids.add(profile(limits=limits).profile_id)
    different = sum(
        getattr(limits_of(FP32), name) != getattr(limits_of(PUBLISHED), name)
        for name in limits_of(FP32).model_dump()
    )
    assert len(ids) == 1 + different
    assert profile(verifier=SIDE).profile_id not in ids


def test_too_few_sequences_are_said_to_be_too_few() -> None:
    assert not profile().is_supported
    assert profile(supported_fpr=9e-4).is_supported


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("version = 1", "version = 2"),
        ('model_name = "tiny"', "model_name = 3"),
        ("stages = 3", "stages = 0"),
        ("stages = 3", "stages = 3\nmore = 1"),
        ("fpr = 0.001", "fpr = nan"),
        ("mant_err_mean = ", "mant_err_mean = -"),
        ("surprise = ", "surprise = nan # "),
        ("exp_mismatches = ", "exp_mismatches = 3.5 # "),
        ("model_id = ", 'model_id = "zz" # '),
        ("model_id = ", 'model_id = "00" # '),
        ("model_id = ", "model_id = 7 # "),
        ("model_id", "model"),
        ("stages = 3", "stages = "),
    ],
)
def test_other_text_is_refused_with_a_typed_error(old: str, new: str) -> None:
    text = profile().to_toml()
    assert old in text
    with pytest.raises(ProfileError):
        Profile.from_toml(text.replace(old, new, 1))


@pytest.mark.parametrize("text", ["a" * (MAX_TEXT + 1), "[" * 5000, "x = " + "[" * 50_000, "\x00"])
def test_hostile_text_is_refused(text: str) -> None:
    with pytest.raises(ProfileError):
        Profile.from_toml(text)


def test_other_bytes_are_refused() -> None:
    data = profile().to_bytes()
    for bad in (b"", data[:-1], data + b"\x00", bytes(Profile.MAX_BYTES + 1)):
        with pytest.raises(CanonicalError):
            Profile.from_bytes(bad)


@given(st.lists(st.floats(0, 8).map(lambda x: round(x, 1)), min_size=1), st.floats(-1, 9))
def test_small_samples_give_exact_p_values(sample: list[float], x: float) -> None:
    expected = (1 + sum(value >= x for value in sample)) / (len(sample) + 1)
    assert QuantileTable.of(sample).p_value(x) == pytest.approx(expected)


def test_large_samples_give_conservative_p_values_that_are_exact_in_the_tail() -> None:
    sample = np.random.default_rng(1).gamma(2.0, size=5000).tolist()
    table = QuantileTable.of(sample)
    assert len(table.values) == MAX_POINTS
    for x in [*sample[:300], *np.linspace(-1, 15, 200).tolist()]:
        exact = (1 + sum(value >= x for value in sample)) / 5001
        assert exact <= table.p_value(x) <= exact + 1 / 200
    tail = sorted(sample)[-200:]
    for x in tail:
        assert table.p_value(x) == pytest.approx((1 + sum(v >= x for v in sample)) / 5001)


def test_p_values_of_new_honest_values_are_not_too_small() -> None:
    generator = np.random.default_rng(2)
    table = QuantileTable.of(generator.exponential(size=2000).tolist())
    p = np.array([table.p_value(x) for x in generator.exponential(size=4000).tolist()])
    for level in (0.5, 0.1, 0.01):
        assert (p <= level).mean() <= level + 4 * math.sqrt(level / 2000)


def test_what_is_no_number_or_infinite_is_as_rare_as_can_be() -> None:
    table = QuantileTable.of([0.0, 1.0, 2.0])
    assert table.p_value(math.nan) == table.p_value(math.inf) == 0.25
    assert table.p_value(-math.inf) == 1.0
    assert profile().p_value(0.3) == pytest.approx(2 / 94)
    assert profile().p_value(0.0005, "score") == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("values", "beyond"),
    [((1.0, 1.0), (1, 0)), ((2.0, 1.0), (1, 0)), ((1.0, 2.0), (0, 0)), ((1.0,), (1,)),
     ((1.0, 2.0), (0,)), ((1.0, math.nan), (1, 0)), ((1.0, 2.0), (3, 0))],
)  # fmt: skip
def test_tables_that_are_out_of_order_are_refused(
    values: tuple[float, ...], beyond: tuple[int, ...]
) -> None:
    with pytest.raises(ValueError):
        QuantileTable(count=3, values=values, beyond=beyond)


def test_an_empty_sample_is_refused() -> None:
    with pytest.raises(ProfileError):
        QuantileTable.of([])


def test_distance_counts_exponents_as_many_mantissa_steps() -> None:
    assert distance([]) == 0.0
    assert distance([ChunkMeasure(mant_err_mean=0.5), ChunkMeasure()]) == 0.25
    assert distance([ChunkMeasure(exp_mismatches=64, mant_err_mean=2.0)]) == 65.0
    for bad in (
        ChunkMeasure(malformed="null proof"),
        ChunkMeasure(exp_mismatches=128, mant_err_mean=-1.0),
        ChunkMeasure(mant_err_mean=math.nan),
    ):
        assert distance([bad]) == 128.0


def test_a_tables_mean_is_bounded_from_above() -> None:
    sample = [n / 1000 for n in range(1, 1001)]
    for count in (3, 1000):
        table = QuantileTable.of(sample[:count])
        mean = sum(sample[:count]) / count
        assert mean <= table.mean_bound() <= mean + 0.03
    assert QuantileTable.of([0.25]).mean_bound() == 0.25
