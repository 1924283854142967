"""Rows of a dataset: everything needed to use a completion, and to check where it came from.

One JSON object per sequence. Bytes are lower-case hex, proofs base64 (TOPLOC's own text form). A
row names the model by its identity, the group and the peers of its stages, every stage's proofs,
the validator's verdict and the transaction that settled its receipts; the evidence itself, with all
signatures, is the proof bundle named by `bundle_id`. Where a bundle was deleted to make room, the
row has no stages.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable
from typing import Any

from node.roles.orchestrator.coordinator.units import DONE, Unit, WorkSequence
from proofs.evidence.bundle import UnitBundle


def dataset_rows(
    units: Iterable[Unit],
    bundle_of: Callable[[Unit], UnitBundle | None],
    text_of: Callable[[WorkSequence], str],
    model: tuple[str, bytes],
) -> list[dict[str, Any]]:
    """The rows of a job's accepted units, given in the order of its prompts. `bundle_of` finds what
    a unit was sent as, `text_of` decodes a sequence's output, `model` is its name and id."""
    rows = []
    for unit in units:
        if unit.state in DONE:
            bundle = bundle_of(unit)
            rows += [_row(model, unit, s, bundle, text_of(s)) for s in unit.sequences]
    return rows


def _row(
    model: tuple[str, bytes],
    unit: Unit,
    sequence: WorkSequence,
    bundle: UnitBundle | None,
    text: str,
) -> dict[str, Any]:
    verdict, request = unit.verdict or {}, sequence.request
    sampling = request.sampling
    return {
        "prompt_id": sequence.prompt_id,
        "index": sequence.index,
        "messages": list(sequence.messages),
        "metadata": dict(sequence.metadata),
        "completion": text,
        "finish_reason": sequence.reason.value if sequence.reason else "",
        "prompt_ids": list(request.prompt_ids),
        "output_ids": list(sequence.output_ids),
        "model": {"name": model[0], "id": model[1].hex()},
        "sampling": {
            "temperature": sampling.temperature,
            "top_k": sampling.top_k,
            "top_p": sampling.top_p,
            "seed": sequence.seed,
            "noise_key": f"{sampling.noise_key:016x}",
            "noise": _noise(sequence),
            "max_tokens": request.max_tokens,
            "stop": list(request.stop),
        },
        "unit_id": unit.unit_id.hex(),
        "state": unit.state.value,
        "attempt": unit.attempt,
        "group": {
            "id": unit.group_id.hex(),
            "generation": unit.generation,
            "segments": [list(segment) for segment in sequence.segments],
        },
        "stages": _stages(bundle, sequence) if bundle else [],
        "verdict": {
            "accepted": verdict.get("accepted"),
            "validator": verdict.get("validator"),
            "figures": verdict.get("figures"),
        },
        "bundle_id": unit.bundle_id.hex(),
        "epoch": unit.epoch,
        "receipt_transaction": unit.transaction,
    }


def _noise(sequence: WorkSequence) -> dict[str, Any] | None:
    """What the noise key follows from; None where nothing was sampled."""
    source = sequence.noise
    if source is None:
        return None
    return {
        "beacon": source.beacon.hex(),
        "block": source.block,
        "request_id": source.request_id.hex(),
        "sample_index": source.sample_index,
    }


def _stages(bundle: UnitBundle, sequence: WorkSequence) -> list[dict[str, Any]]:
    stages = []
    first_layer = 0
    for last_layer, claim in zip(bundle.boundaries, bundle.stages, strict=True):
        evidence = [e for e in claim.evidence if e.sequence_id == sequence.sequence_id]
        proofs = evidence[0].proofs if evidence else ()
        stages.append(
            {
                "peer_id": claim.peer_id,
                "address": claim.address,
                "layers": [first_layer, last_layer],
                "proofs": [base64.b64encode(proof).decode() for proof in proofs],
            }
        )
        first_layer = last_layer
    return stages
