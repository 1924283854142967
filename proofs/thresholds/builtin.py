"""The thresholds that need no profile: `published` and `fp32`.

`published` are TOPLOC's limits for one model served in bf16 on different GPUs; they are known to
miss int8 and fp8 weights on small models, and its other fields are wide guesses. So they accept
nothing by themselves: they are what a conviction must exceed at least. `fp32` is for
provers and verifiers that both compute in fp32: in 640 honest sequences of 256 tokens (SmolLM2-135M
cut in three, one CPU, two kinds of matrix kernels; 15,360 chunks) no chunk's mean error exceeded
1/128, at most one exponent and sign differed, every token was the verifier's choice and no row was
off by more than 3.8e-6, so the limits are `proofs.thresholds.calibration`'s floors of a few
rounding steps. Of 320 sequences that calibration had not seen none failed: a false-positive rate of
at most 0.9 % at 95 % confidence, which says nothing about other devices
(docs/reference/evaluation.md).
"""

from __future__ import annotations

from proofs.thresholds.limits import Thresholds

PUBLISHED = Thresholds(
    exp_mismatches=38,
    mant_err_mean=10.0,
    mant_err_median=8.0,
    score_mean=0.03,
    match_rate=0.85,
    spare=4,
    eos_score=1.0,
    sign_mismatches=38,
    mismatch_rate=0.1,
    score_rate=0.02,
    score_growth=0.2,
    score_max=1.0,
    surprise=6.0,
    rows_error=0.5,
)
FP32 = Thresholds(
    exp_mismatches=2,
    mant_err_mean=8 / 128,
    mant_err_median=0.0,
    score_mean=1e-4,
    match_rate=0.998,
    spare=1,
    eos_score=0.01,
    sign_mismatches=2,
    sequence_exp=0.5,
    sequence_mant=2 / 128,
    mismatch_rate=1e-4,
    score_rate=1e-6,
    score_growth=1e-5,
    tail=2.5e-4,
    score_max=0.01,
    surprise=4.3,
    rows_error=1e-4,
)
EXACT = Thresholds(
    exp_mismatches=0,
    mant_err_mean=0.0,
    mant_err_median=0.0,
    score_mean=0.0,
    match_rate=1.0,
    spare=0,
    eos_score=0.0,
    sign_mismatches=0,
    sequence_exp=0.0,
    sequence_mant=0.0,
    mismatch_rate=0.0,
    score_rate=0.0,
    score_growth=0.0,
    score_max=0.0,
    rows_error=0.0,
)
"""What is judged within one exact kernel class: nothing differs (`proofs.verdict.exact`)."""
BUILTIN = {"published": PUBLISHED, "fp32": FP32}


def unfit_reason(name: str, dtype: str) -> str:
    """Why the built-in thresholds `name` cannot accept work of a model in `dtype`, or "".

    `fp32` allows a few rounding steps of float32, whatever the model. In any other dtype honest
    noise differs from model to model, so a model must be calibrated before it is judged.
    """
    if name == "fp32" and dtype == "float32":
        return ""
    if name == "fp32":
        return f"fp32 limits fit no model in {dtype}"
    return f"{name} limits miss cheaper weights, and accept nothing without a calibration"


def floor_of(dtype: str) -> Thresholds:
    """The built-in thresholds for a model's dtype; validators convict by none that are tighter."""
    return FP32 if dtype == "float32" else PUBLISHED
