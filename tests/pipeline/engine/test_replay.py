"""Evidence of real rings against a validator's replay: the honest pass, each fault shows itself.

Thresholds are the `fp32` profile of `proofs`; a stage is found by the first boundary that fails.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from pipeline.engine.control.messages import Bench, SequenceSpec
from pipeline.engine.control.replay_messages import Replay, Replayed, ReplaySequence
from pipeline.engine.errors import EngineError
from pipeline.engine.service import EngineService
from pipeline.models.prepared import PreparedModel
from proofs.evidence.sequence import SequenceRequest
from proofs.sampling.settings import SamplingSettings
from proofs.thresholds.builtin import FP32
from tests.pipeline.engine.rings import cuts, local_ring
from tests.pipeline.engine.sequences import make_spec, to_replay

STAGES = 3
OUTPUTS = 70
NUMBERS = range(4)


@pytest.fixture(scope="module")
def model(tiny_model: Callable[[str], PreparedModel]) -> PreparedModel:
    return tiny_model("llama")


@pytest.fixture(scope="module")
def validator(tmp_path_factory: pytest.TempPathFactory) -> EngineService:
    return EngineService(str(tmp_path_factory.mktemp("validator") / "v.sock"), 1, lambda *_: None)


SHORT = SequenceRequest(sequence_id=bytes(16), prompt_ids=(5,), max_tokens=1000)


def spec(number: int) -> SequenceSpec:
    return make_spec(
        number.to_bytes(16, "big"),
        tuple(range(5 + number, 15 + 4 * number)),
        sampling=SamplingSettings(temperature=1.0, top_p=0.95, noise_key=1000 + number),
        max_tokens=OUTPUTS,
    )


def claims(
    folder: Path, model: PreparedModel, faults: dict[int, str]
) -> tuple[ReplaySequence, ...]:
    """What a ring with these faults hands in."""
    with local_ring(STAGES, folder) as ring:
        ring.load(model, faults=faults)
        assert ring.up() == [None] * STAGES
        done = ring.run(map(spec, NUMBERS))
        evidence = ring.evidence(done)
    return tuple(
        to_replay(
            (each := spec(number)).request,
            done[each.sequence_id].ids,
            tuple(stage[each.sequence_id].proofs for stage in evidence),
        )
        for number in NUMBERS
    )


def request(model: PreparedModel, sequences: Sequence[ReplaySequence]) -> Replay:
    return Replay(
        model_dir=str(model.path),
        model_id=model.model_id,
        boundaries=tuple(cuts(model.manifest.layers, STAGES)[1:]),
        sequences=tuple(sequences),
    )


def failing(replayed: Replayed) -> list[int]:
    """Stages of which some chunk is outside of the thresholds."""
    return [
        stage
        for stage in range(STAGES)
        if not all(
            FP32.passes(chunk) for measured in replayed.measures for chunk in measured.stages[stage]
        )
    ]


def sampling_passes(replayed: Replayed) -> bool:
    measures = [measured.sampling for measured in replayed.measures]
    tokens, matches = sum(s.tokens for s in measures), sum(s.matches for s in measures)
    return FP32.passes_sampling(tokens, matches, sum(sum(s.scores) for s in measures))


def test_an_honest_ring_passes_and_every_chunk_is_measured(
    tmp_path: Path, model: PreparedModel, validator: EngineService
) -> None:
    replayed = validator.replay(request(model, claims(tmp_path, model, {})))
    assert failing(replayed) == []
    assert sampling_passes(replayed)
    for measured in replayed.measures:
        assert [len(chunks) for chunks in measured.stages] == [3, 3, 3]
        assert measured.sampling.tokens == OUTPUTS


@pytest.mark.parametrize("stage", range(STAGES))
@pytest.mark.parametrize("fault", ["int4-weights", "null-proofs"])
def test_a_dishonest_stage_is_the_first_to_fail(
    tmp_path: Path, model: PreparedModel, validator: EngineService, fault: str, stage: int
) -> None:
    replayed = validator.replay(request(model, claims(tmp_path, model, {stage: fault})))
    found = failing(replayed)
    assert found[0] == stage
    if fault == "null-proofs":
        assert found == [stage]
        reasons = {c.malformed for each in replayed.measures for c in each.stages[stage]}
        assert reasons == {"null proof"}


def test_garbage_sent_after_proving_shows_at_the_next_stage(
    tmp_path: Path, model: PreparedModel, validator: EngineService
) -> None:
    sequences = claims(tmp_path, model, {0: "garbage-hidden"})
    assert failing(validator.replay(request(model, sequences)))[0] == 1


def test_garbage_that_was_signed_for_shows_at_the_next_stages(
    tmp_path: Path, model: PreparedModel, validator: EngineService
) -> None:
    sequences = claims(tmp_path, model, {0: "garbage-signed"})
    assert failing(validator.replay(request(model, sequences))) == [1, 2]


def test_another_seed_shows_in_the_sampling_alone(
    tmp_path: Path, model: PreparedModel, validator: EngineService
) -> None:
    replayed = validator.replay(request(model, claims(tmp_path, model, {2: "wrong-seed"})))
    assert failing(replayed) == []
    assert not sampling_passes(replayed)


def test_hostile_proofs_are_measured_never_raised(
    tmp_path: Path, model: PreparedModel, validator: EngineService
) -> None:
    honest = claims(tmp_path, model, {})[0]
    first, second, third = honest.proofs
    cases = {
        "no stage": (),
        "missing": (first, second[:-1], third),
        "surplus": (first, (*second, b""), third),
        "short": (first, (b"", *second[1:]), third),
        "long": (first, (second[0] + b"\0", *second[1:]), third),
        "ones": (first, (b"\xff" * 258, *second[1:]), third),
        "text": (first, (b"proof", *second[1:]), third),
    }
    sequences = [honest.model_copy(update={"proofs": proofs}) for proofs in cases.values()]
    replayed = validator.replay(request(model, sequences))
    for name, measured in zip(cases, replayed.measures, strict=True):
        assert any(chunk.malformed for chunk in measured.stages[1]), name
        assert not any(chunk.malformed for chunk in measured.stages[0]) or name == "no stage"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"boundaries": (2, 4)}, "bad_request"),
        ({"boundaries": (4, 2, 6)}, "bad_request"),
        ({"boundaries": (2, 4, 7)}, "bad_request"),
        ({"model_id": bytes(32)}, "model"),
        ({"device": "warp"}, "bad_request"),
    ],
)
def test_replays_that_make_no_sense(
    model: PreparedModel, validator: EngineService, change: dict[str, object], code: str
) -> None:
    sequence = to_replay(SHORT, (6,), ((), (), ()))
    with pytest.raises(EngineError) as caught:
        validator.replay(request(model, [sequence]).model_copy(update=change))
    assert caught.value.code == code


@pytest.mark.parametrize("ids", [(300,), (5,) * 600])
def test_output_that_the_model_cannot_have(
    model: PreparedModel, validator: EngineService, ids: tuple[int, ...]
) -> None:
    sequence = to_replay(SHORT, ids)
    with pytest.raises(EngineError) as caught:
        validator.replay(request(model, [sequence]))
    assert caught.value.code == "bad_request"


def test_bench_times_a_layer(model: PreparedModel, validator: EngineService) -> None:
    benched = validator.bench(Bench(model_dir=str(model.path), batch=4))
    assert 0 < benched.layer_seconds < 10
