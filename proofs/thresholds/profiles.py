"""A profile: thresholds, and the honest measurements that back them.

What is honest noise depends on the model, its dtype, the engine's settings and the devices of both
sides, so thresholds without these are of little worth. A profile names them, says for which
false-positive rate (FPR) of a whole sequence its limits were set and which rate the number of
honest sequences supports, and holds quantile tables of honest sequences for tests that accumulate
evidence over many of them. Its id is the SHA-256 of its canonical bytes: two validators that name
the same id judge alike. For people it is a TOML file; no field depends on when it was made.

The tables hold two statistics, one value per sequence, larger is worse:

- `distance`: the largest over stages of `distance(chunks)`, the mean over chunks of how far a proof
  is from the verifier's rows in units of the last mantissa bit, an unequal exponent counting as
  128 (one exponent is 128 steps of a 7-bit mantissa);
- `score`: the mean Token-DiFR score of its tokens.
"""

from __future__ import annotations

import hashlib
import math
import tomllib
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated, Any, ClassVar, Literal, Self

import tomli_w
from pydantic import FailFast, Field, ValidationError, model_validator

from proofs.encoding.canonical import CanonicalModel
from proofs.errors import ProofError
from proofs.thresholds.limits import Thresholds
from proofs.thresholds.measures import ChunkMeasure

MAX_TEXT = 1 << 20
MAX_POINTS = 512
CONFIDENCE = 0.95
_POINTS = 128  # of a TOPLOC proof
_STEPS = 128  # mantissa steps to the next exponent

Text = Annotated[str, Field(max_length=256)]
Rate = Annotated[float, Field(ge=0.0, le=1.0)]
Limit = Annotated[float, Field(ge=0.0)]
Count = Annotated[int, Field(ge=0, lt=2**53)]


class ProfileError(ProofError):
    """Text that is not a profile; the message says where and why."""


class QuantileTable(CanonicalModel):
    """The upper distribution of `count` honest values; `beyond[i]` of them exceed `values[i]`."""

    count: Annotated[int, Field(ge=1, lt=2**53)]
    values: Annotated[tuple[float, ...], FailFast(), Field(min_length=1, max_length=MAX_POINTS)]
    beyond: Annotated[tuple[Count, ...], FailFast(), Field(min_length=1, max_length=MAX_POINTS)]

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        rising = all(a < b for a, b in zip(self.values, self.values[1:], strict=False))
        falling = all(a > b for a, b in zip(self.beyond, self.beyond[1:], strict=False))
        if not (rising and falling and len(self.values) == len(self.beyond)):
            raise ValueError("values must rise and their counts fall")
        if not (self.beyond[-1] == 0 and self.beyond[0] < self.count):
            raise ValueError("counts must end with 0 and be below the number of values")
        return self

    @classmethod
    def of(cls, sample: Sequence[float]) -> QuantileTable:
        """The table of a sample: all of it if it has few values, else its largest ones and evenly
        spaced ranks of the rest. Raises ProfileError for an empty sample."""
        if not sample:
            raise ProfileError("a quantile table needs values; calibrate with some sequences")
        ordered = sorted(sample)
        distinct = sorted(set(ordered))
        if len(distinct) > MAX_POINTS:
            half = MAX_POINTS // 2
            rest = distinct[:-half]
            distinct = [rest[i * len(rest) // half] for i in range(half)] + distinct[-half:]
        beyond = [len(ordered) - bisect_right(ordered, value) for value in distinct]
        return cls(count=len(ordered), values=tuple(distinct), beyond=tuple(beyond))

    def mean_bound(self) -> float:
        """An upper bound on the mean of honest values: that of the sample, rounded up between
        stored values, plus three standard errors."""
        before = (self.count, *self.beyond[:-1])
        weights = [more - less for more, less in zip(before, self.beyond, strict=True)]
        pairs = list(zip(self.values, weights, strict=True))
        mean = sum(value * weight for value, weight in pairs) / self.count
        square = sum((value - mean) ** 2 * weight for value, weight in pairs) / self.count
        return mean + 3.0 * math.sqrt(square / self.count)

    def p_value(self, statistic: float) -> float:
        """(1 + #{honest values >= statistic}) / (count + 1), rounded up between stored values.

        Valid as a p-value at any sample size when honest values are exchangeable. NaN gives the
        smallest one: it is not an honest value.
        """
        below = bisect_left(self.values, statistic) if statistic == statistic else len(self.values)
        at_least = self.count if below == 0 else self.beyond[below - 1]
        return (1 + at_least) / (self.count + 1)


class MeasuringSide(CanonicalModel):
    """One side of a measurement: dtype, device in words, and engine settings in words."""

    dtype: Text
    device: Text
    settings: Text


class ProfileLimits(CanonicalModel):
    """`Thresholds`, field for field."""

    exp_mismatches: Count
    mant_err_mean: Limit
    mant_err_median: Limit
    score_mean: Limit
    match_rate: Rate
    spare: Count
    eos_score: Limit
    sign_mismatches: Count
    sequence_exp: Limit
    sequence_mant: Limit
    mismatch_rate: Rate
    score_rate: Limit
    score_growth: Limit
    tail: Annotated[float, Field(gt=0.0, lt=1.0)]
    score_max: Limit
    surprise: Limit
    rows_error: Limit
    sequence_mant_at: Annotated[
        tuple[tuple[Rate, Limit], ...], FailFast(), Field(max_length=256)
    ] = ()


class Profile(CanonicalModel):
    """Calibrated limits and what backs them; see the module's docstring.

    Attributes:
        fpr: the false-positive rate of a sequence that was asked for.
        supported_fpr: an upper bound on it at `CONFIDENCE`, by the number of honest sequences;
            above `fpr` where these are too few to support that.
        prompts, sequences, chunks, tokens: how much honest work was measured.
    """

    MAX_BYTES: ClassVar[int] = 1 << 16

    version: Literal[1] = 1
    model_id: Annotated[bytes, Field(min_length=32, max_length=32)]
    model_name: Text
    prover: MeasuringSide
    verifier: MeasuringSide
    stages: Annotated[int, Field(ge=1, le=256)]
    fpr: Annotated[float, Field(gt=0.0, lt=1.0)]
    supported_fpr: Annotated[float, Field(gt=0.0, le=1.0)]
    prompts: Count
    sequences: Count
    chunks: Count
    tokens: Count
    limits: ProfileLimits
    distance: QuantileTable
    score: QuantileTable

    @property
    def profile_id(self) -> bytes:
        """SHA-256 of the canonical bytes."""
        return hashlib.sha256(self.to_bytes()).digest()

    @property
    def thresholds(self) -> Thresholds:
        """The limits as what is held against work."""
        return Thresholds(**self.limits.model_dump())

    @property
    def is_supported(self) -> bool:
        """Whether the honest sequences are enough for the rate that was asked for."""
        return self.supported_fpr <= self.fpr

    def p_value(self, statistic: float, table: Literal["distance", "score"] = "distance") -> float:
        """How rare so large a statistic of one sequence is among honest ones; see the tables."""
        chosen: QuantileTable = getattr(self, table)
        return chosen.p_value(statistic)

    def to_toml(self) -> str:
        """The form for people; `from_toml` gives an equal profile back."""
        return tomli_w.dumps(_plain(self.model_dump()))

    @classmethod
    def from_toml(cls, text: str) -> Profile:
        """Raises ProfileError for anything that is not a profile."""
        if len(text) > MAX_TEXT:
            raise ProfileError(f"a profile of {len(text)} characters; at most {MAX_TEXT}")
        try:
            value = tomllib.loads(text)
        except (tomllib.TOMLDecodeError, RecursionError) as exc:
            raise ProfileError(f"not TOML: {exc}") from exc
        try:
            value["model_id"] = bytes.fromhex(value["model_id"])
            profile = cls.model_validate(_tuples(value))
        except ValidationError as exc:
            first = exc.errors(include_url=False, include_input=False)[0]
            where = ".".join(str(part) for part in first["loc"]) or "profile"
            raise ProfileError(f"{where}: {first['msg']}") from exc
        except (KeyError, TypeError, ValueError) as exc:
            raise ProfileError("model_id: 64 hex digits expected") from exc
        profile.to_bytes()  # raises where a profile would be too long to have an id
        return profile


def limits_of(thresholds: Thresholds) -> ProfileLimits:
    """Thresholds as a profile holds them."""
    return ProfileLimits(**asdict(thresholds))


def distance(chunks: Sequence[ChunkMeasure]) -> float:
    """How far one stage's proofs of a sequence are from the verifier's rows, 0 .. 128.

    A chunk with nothing to compare counts as 128; no chunks are no distance.
    """
    if not chunks:
        return 0.0
    return sum(map(_chunk_distance, chunks)) / len(chunks)


def _chunk_distance(chunk: ChunkMeasure) -> float:
    if chunk.malformed or not chunk.mant_err_mean >= 0.0:
        return float(_STEPS)
    share = min(chunk.exp_mismatches / _POINTS, 1.0)
    return (1.0 - share) * min(chunk.mant_err_mean, _STEPS) + share * _STEPS


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value.hex() if isinstance(value, bytes) else value


def _tuples(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _tuples(item) for key, item in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
