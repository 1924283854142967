"""Between a proof bundle and the engine's replay: the request, and the measurements back."""

from __future__ import annotations

from pipeline.engine.messages import Replay, Replayed, ReplaySequence, Sampling
from proofs.bundle import BundleSequence, UnitBundle
from proofs.measures import SequenceMeasure


def replay_request(bundle: UnitBundle, model_dir: str, device: str) -> Replay:
    """What the engine must replay to judge `bundle`."""
    return Replay(
        model_dir=model_dir,
        model_id=bundle.model_id,
        device=device,
        boundaries=bundle.boundaries,
        sequences=tuple(_sequence(bundle, sequence) for sequence in bundle.sequences),
    )


def to_measures(replayed: Replayed) -> list[SequenceMeasure]:
    """The engine's answer in the terms of `proofs.verdict.judge`."""
    return [SequenceMeasure.model_validate(item.model_dump()) for item in replayed.items]


def _sequence(bundle: UnitBundle, sequence: BundleSequence) -> ReplaySequence:
    """With each stage's proofs; a stage without evidence for the sequence has none, and the
    verdict holds that against it."""
    proofs = []
    for claim in bundle.stages:
        items = [e for e in claim.evidence if e.sequence_id == sequence.sequence_id]
        proofs.append(items[0].proofs if items else ())
    return ReplaySequence(
        sequence_id=sequence.sequence_id,
        prompt_ids=sequence.prompt_ids,
        output_ids=sequence.output_ids,
        sampling=Sampling.model_validate(sequence.sampling.model_dump()),
        proofs=tuple(proofs),
    )
