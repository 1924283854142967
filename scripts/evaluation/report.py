"""A run's figures: a section of the document, a plot, a profile, and JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from evaluation.analysis import (
    FPR,
    HONEST,
    Evaluation,
    roc,
)
from evaluation.collect import Setup
from evaluation.plot import roc_svg
from evaluation.tables import BAR, BARS, false_positives, missed, ordered, table
from pipeline.engine.loading import device_name
from proofs.thresholds.calibration import make_profile
from proofs.thresholds.profiles import MeasuringSide, Profile


def described(setup: Setup) -> dict[str, Any]:
    """What was measured, for the profile and the report."""
    manifest = setup.model.manifest
    return {
        "model_name": setup.model.name,
        "model_id": manifest.model_id,
        "dtype": manifest.dtype,
        "device": device_name(torch.device("cpu")),
        "torch": torch.__version__,
        "boundaries": list(setup.boundaries),
        "tokens": setup.tokens,
        "batch": setup.batch,
        "sampling": f"temperature {setup.temperature:g}, top-k {setup.top_k}, "
        f"top-p {setup.top_p:g}",
    }


def profile_of(evaluation: Evaluation, setup: Mapping[str, Any]) -> Profile:
    """The profile that was calibrated on the even prompts' honest sequences."""
    cuts = "/".join(map(str, setup["boundaries"]))
    engine = f"torch {setup['torch']}"
    prover = f"{engine}, stages end at layers {cuts}, decoding {setup['batch']} sequences at once"
    common = {"dtype": setup["dtype"], "device": setup["device"]}
    return make_profile(
        evaluation.honest,
        FPR,
        model_id=bytes.fromhex(setup["model_id"]),
        model_name=setup["model_name"],
        prover=MeasuringSide(settings=prover, **common),
        verifier=MeasuringSide(settings=f"{engine}, one prefill of the whole model", **common),
        prompts=len(evaluation.honest),
        depths=[end / setup["boundaries"][-1] for end in setup["boundaries"]],
    )


def section(evaluation: Evaluation, profile: Profile) -> str:
    """What the document says of one model; everything in it is computed."""
    costs, found = evaluation.costs, evaluation.calibration
    chunks = sum(r.chunks.total for r in evaluation.results if r.condition in HONEST)
    failed = sum(r.chunks.count for r in evaluation.results if r.condition in HONEST)
    lines = [
        f"{profile.model_name} in {profile.prover.dtype} on {profile.prover.device}; "
        f"{profile.prover.settings}.",
        "",
        f"Calibrated on {evaluation.calibrated_on} honest sequences ({profile.chunks} chunks), "
        f"whose second half needed limits {found.factor:.2f} times those of the first; supports a"
        f" false-positive rate of {found.supported_fpr:.2g} a sequence. Profile"
        f" `{profile.profile_id.hex()[:12]}`. Held-out honest chunks over the chunk limits:"
        f" {failed} of {chunks}.",
        "",
        *false_positives(evaluation),
        "",
        *table(evaluation),
        "",
        *(["Bars that were missed:", "", *missed(evaluation), ""] if missed(evaluation) else []),
        f"Verifying took {costs.ratio:.2f} times as long as generating (one thread, "
        f"{costs.tokens} tokens, {costs.generate_seconds:.0f} s and {costs.verify_seconds:.0f} s); "
        f"proofs are {costs.proof_bytes:.1f} bytes per token over {costs.stages} stages.",
    ]
    return "\n".join(lines)


def with_section(text: str, name: str, section: str) -> str:
    """The document with what is between a name's markers replaced. Raises ValueError without."""
    start, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
    before, found, rest = text.partition(start)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise ValueError(f"the document has no {start.strip()} … {end}")
    return f"{before}{start}\n{section}\n\n{end}{after}"


def roc_plot(name: str, evaluation: Evaluation) -> str:
    """Curves of the conditions that are not told apart perfectly, or a few that are."""
    honest = [s for r in evaluation.results if r.condition in HONEST for s in r.severities]
    attacks = [r for r in ordered(evaluation.results) if r.condition not in HONEST]
    hard = [r for r in attacks if min(r.severities) <= max(honest)]
    curves = {r.condition: roc(honest, r.severities) for r in (hard or attacks[:6])}
    return roc_svg(f"{name}: sequences of up to 256 tokens", curves, 1.0 / len(honest))


def as_json(evaluation: Evaluation, profile: Profile) -> dict[str, Any]:
    """The report for programs; docs/reference/evaluation.json is one."""
    costs = evaluation.costs
    return {
        "profile_id": profile.profile_id.hex(),
        "model": profile.model_name,
        "model_id": profile.model_id.hex(),
        "prover": profile.prover.model_dump(),
        "verifier": profile.verifier.model_dump(),
        "fpr": FPR,
        "calibration": {
            "sequences": evaluation.calibrated_on,
            "supported_fpr": evaluation.calibration.supported_fpr,
            "factor": evaluation.calibration.factor,
            "limits": profile.limits.model_dump(),
        },
        "conditions": [
            {
                "condition": result.condition,
                "sequences": result.rejected.total,
                "rejected": {f"{target:g}": rate.count for target, rate in result.at.items()},
                "chunks": result.chunks.total,
                "chunks_rejected": result.chunks.count,
                "caught": result.caught,
                "bar": BAR if result.condition in BARS else None,
            }
            for result in ordered(evaluation.results)
        ],
        "costs": {
            "tokens": costs.tokens,
            "generate_seconds": round(costs.generate_seconds, 1),
            "verify_seconds": round(costs.verify_seconds, 1),
            "verify_over_generate": round(costs.ratio, 3),
            "proof_bytes_per_token": round(costs.proof_bytes, 2),
            "stages": costs.stages,
        },
    }
