"""Rows that real stages kept, against a validator's replay: honest ones fit, others do not. And the
stages that received them: who computed right passes whatever it was handed, nobody else does."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from pipeline.engine.control.replay_messages import (
    Replay,
    ReplayedSequence,
    ReplaySequence,
    RevealedRows,
)
from pipeline.engine.errors import EngineError
from pipeline.engine.evidence.revealed import NO_ROWS
from pipeline.engine.replay import NOT_FINITE, Replayer
from pipeline.models.prepared import PreparedModel
from proofs.sampling.settings import SamplingSettings
from proofs.thresholds.builtin import FP32
from proofs.thresholds.measures import ChunkMeasure, RevealedRowsCheck, SamplingMeasure
from tests.pipeline.engine.rings import cuts, load_requests, local_ring
from tests.pipeline.engine.sequences import make_spec, to_replay

STAGES = 3
OUTPUTS = 12
HONEST, CORRUPT = 1e-4, 1e-2
ARCHITECTURES = ["llama", "gemma3_text"]
ABSENT = RevealedRowsCheck(error=NO_ROWS, chunks=(), sampling=None, sent_error=NO_ROWS)


@dataclass
class Disputed:
    """One finished sequence and the file of what stage 1 received (`files[0]`), and stage 2."""

    model: PreparedModel
    sequence: ReplaySequence
    files: list[Path]

    def errors(self, *revealed: RevealedRows) -> tuple[float, ...]:
        return tuple(check.error for check in self.replay(*revealed).revealed)

    def replay(self, *revealed: RevealedRows) -> ReplayedSequence:
        request = self.sequence.sequence.request.model_copy(update={"sequence_id": bytes(16)})
        other = self.sequence.sequence.model_copy(update={"request": request})
        replay = Replay(
            model_dir=str(self.model.path),
            model_id=self.model.model_id,
            boundaries=tuple(cuts(self.model.manifest.layers, STAGES)[1:]),
            sequences=(
                self.sequence.model_copy(update={"sequence": other, "revealed": ()}),
                self.sequence.model_copy(update={"revealed": revealed}),
            ),
        )
        undisputed, disputed = Replayer().replay(replay).items
        assert undisputed.revealed == ()
        assert len(disputed.revealed) == len(revealed)
        return disputed

    def both(self) -> ReplayedSequence:
        """Stage 1 by what it received and sent on, and the last one by what it received."""
        return self.replay(rows(0, self.files[0], self.files[1]), rows(1, self.files[1]))


def disputed(folder: Path, model: PreparedModel, faults: dict[int, str]) -> Disputed:
    spec = make_spec(
        b"s" * 16,
        tuple(range(5, 30)),
        sampling=SamplingSettings(temperature=1.0, noise_key=7),
        max_tokens=OUTPUTS,
    )
    with local_ring(STAGES, folder) as ring:
        ring.load(model)
        for stage, request in enumerate(load_requests(model, STAGES, 2048, faults)):
            keeping = request.model_copy(update={"rows_dir": str(folder / f"rows{stage}")})
            ring.services[stage].load(keeping)
        assert ring.up(1, 2, 10) == [None] * STAGES
        done = ring.run([spec])
        evidence = [each[spec.sequence_id] for each in ring.evidence(done)]
    sequence = to_replay(
        spec.request, done[spec.sequence_id].ids, tuple(each.proofs for each in evidence)
    )
    files = [folder / f"rows{stage}" / f"{evidence[stage].received.hex()}.rows" for stage in (1, 2)]
    return Disputed(model, sequence, files)


@pytest.fixture(scope="module")
def model(tiny_model: Callable[[str], PreparedModel]) -> PreparedModel:
    return tiny_model("llama")


@pytest.fixture(scope="module")
def honest(model: PreparedModel, tmp_path_factory: pytest.TempPathFactory) -> Disputed:
    return disputed(tmp_path_factory.mktemp("honest"), model, {})


def rows(boundary: int, path: Path | str, sent: Path | str = "") -> RevealedRows:
    return RevealedRows(boundary=boundary, path=str(path), sent=str(sent))


def passes(chunks: tuple[ChunkMeasure, ...]) -> bool:
    return len(chunks) == 1 and FP32.passes_sequence(chunks)


def right(sampling: SamplingMeasure | None) -> bool:
    assert sampling is not None
    assert sampling.tokens == len(sampling.scores) == OUTPUTS
    return sampling.matches == OUTPUTS and max(sampling.scores) == 0.0


def test_rows_of_an_honest_ring_fit_at_their_boundary_only(honest: Disputed) -> None:
    first, second = honest.files
    errors = honest.errors(rows(0, first), rows(1, second), rows(1, first), rows(0, first))
    assert 0 <= max(errors[0], errors[1], errors[3]) < HONEST
    assert errors[2] > CORRUPT


@pytest.mark.parametrize("fault", ["garbage-signed", "quiet-garbage", "int4-weights"])
@pytest.mark.parametrize("stage", [0, 1])
def test_what_a_dishonest_stage_sent_does_not_fit(
    tmp_path: Path, model: PreparedModel, fault: str, stage: int
) -> None:
    case = disputed(tmp_path, model, {stage: fault})
    errors = case.errors(rows(0, case.files[0]), rows(1, case.files[1]))
    assert errors[stage] > CORRUPT
    if stage == 1:
        assert 0 <= errors[0] < HONEST


def test_one_value_of_the_prompt_is_enough(honest: Disputed, tmp_path: Path) -> None:
    values = np.fromfile(honest.files[0], "<f4")
    values[3] += 40 * np.abs(values).mean()
    values.tofile(tmp_path / "altered")
    (error,) = honest.errors(rows(0, tmp_path / "altered"))
    assert error > CORRUPT


def test_files_that_hold_no_such_rows(honest: Disputed, tmp_path: Path) -> None:
    data = honest.files[0].read_bytes()
    (tmp_path / "short").write_bytes(data[:-1])
    (tmp_path / "long").write_bytes(data + b"\0")
    (tmp_path / "empty").write_bytes(b"")
    for name, value in (("nan", np.nan), ("inf", -np.inf)):
        values = np.frombuffer(data, "<f4").copy()
        values[-1] = value
        values.tofile(tmp_path / name)
    os.mkfifo(tmp_path / "fifo")  # opening it would wait for a writer
    names = ["short", "long", "empty", "nan", "inf", "fifo", "missing", ".", "bad\0name"]
    assert honest.errors(*(rows(0, f"{tmp_path}/{name}") for name in names)) == (NO_ROWS,) * 9


def test_huge_values_give_a_number_still(honest: Disputed, tmp_path: Path) -> None:
    count = len(honest.files[0].read_bytes()) // 4
    np.full(count, np.finfo("<f4").max, "<f4").tofile(tmp_path / "huge")
    (error,) = honest.errors(rows(0, tmp_path / "huge"))
    assert CORRUPT < error <= sys.float_info.max


def test_a_boundary_that_nothing_crosses_is_refused(honest: Disputed) -> None:
    with pytest.raises(EngineError, match="first 2 stages") as caught:
        honest.errors(rows(2, honest.files[0]))
    assert caught.value.code == "bad_request"


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_an_honest_ring_passes_by_what_it_received(
    tmp_path: Path, tiny_model: Callable[[str], PreparedModel], architecture: str
) -> None:
    measured = disputed(tmp_path, tiny_model(architecture), {}).both()
    middle, last = measured.revealed
    assert all(map(passes, (*measured.measure.stages, middle.chunks, last.chunks)))
    assert max(chunk.mant_err_mean for chunk in middle.chunks + last.chunks) < 0.1
    assert middle.sampling is None
    assert right(last.sampling)
    assert 0 <= middle.sent_error < HONEST
    assert last.sent_error == NO_ROWS


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_who_computed_right_on_garbage_passes_by_it(
    tmp_path: Path, tiny_model: Callable[[str], PreparedModel], architecture: str
) -> None:
    measured = disputed(tmp_path, tiny_model(architecture), {0: "garbage-signed"}).both()
    middle, last = measured.revealed
    assert not passes(measured.measure.stages[1])
    assert not passes(measured.measure.stages[2])
    assert not right(measured.measure.sampling)
    assert min(check.error for check in measured.revealed) > CORRUPT
    assert passes(middle.chunks)
    assert passes(last.chunks)
    assert right(last.sampling)
    assert 0 <= middle.sent_error < HONEST


@pytest.mark.parametrize("first", ["", "garbage-signed"])
@pytest.mark.parametrize("stage", [1, 2])
def test_who_computed_something_else_fails_whatever_it_was_handed(
    tmp_path: Path, model: PreparedModel, stage: int, first: str
) -> None:
    measured = disputed(tmp_path, model, {0: first, stage: "int4-weights"}).both()
    middle, last = measured.revealed
    assert not passes(measured.measure.stages[stage])
    assert [passes(middle.chunks), passes(last.chunks)] == [stage == 2, stage == 1]
    assert (middle.sent_error < HONEST) == (stage == 2)
    assert stage == 2 or right(last.sampling)  # other weights may well give the same few tokens


def test_who_proved_right_rows_and_sent_others_fails_by_what_it_sent(
    tmp_path: Path, model: PreparedModel
) -> None:
    middle, last = disputed(tmp_path, model, {1: "quiet-garbage"}).both().revealed
    assert passes(middle.chunks)
    assert passes(last.chunks)
    assert right(last.sampling)
    assert middle.sent_error > CORRUPT


def test_tokens_of_another_noise_fail(tmp_path: Path, model: PreparedModel) -> None:
    _, last = disputed(tmp_path, model, {2: "wrong-seed"}).both().revealed
    assert passes(last.chunks)
    assert not right(last.sampling)


def test_missing_proofs_and_unusable_rows(honest: Disputed, tmp_path: Path) -> None:
    first, second = honest.files
    (tmp_path / "short").write_bytes(first.read_bytes()[:-4])
    bare = Disputed(honest.model, honest.sequence.model_copy(update={"proofs": ()}), honest.files)
    (one,) = bare.replay(rows(0, first, second)).revealed
    assert [bool(chunk.malformed) for chunk in one.chunks] == [True]
    assert 0 <= one.sent_error < HONEST
    for name in ("short", "missing"):
        absent, unsent = honest.replay(
            rows(0, tmp_path / name, second), rows(0, first, tmp_path / name)
        ).revealed
        assert absent == ABSENT
        assert passes(unsent.chunks)
        assert unsent.sent_error == NO_ROWS


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("value", [1e19, 1e30, np.finfo("<f4").max])
def test_absurd_rows_fail_without_an_error(
    tmp_path: Path, tiny_model: Callable[[str], PreparedModel], architecture: str, value: float
) -> None:
    case = disputed(tmp_path, tiny_model(architecture), {})
    count = len(case.files[0].read_bytes()) // 4
    signs = np.random.default_rng(3).choice([-1.0, 1.0], count)
    (signs * value).astype("<f4").tofile(tmp_path / "huge")
    huge = tmp_path / "huge"
    middle, last = case.replay(rows(0, huge, case.files[1]), rows(1, huge)).revealed
    assert not passes(middle.chunks)
    assert not passes(last.chunks)
    assert not right(last.sampling)
    assert CORRUPT < middle.sent_error <= sys.float_info.max
    if value > 1e38:
        assert {chunk.malformed for chunk in middle.chunks} == {NOT_FINITE}


@pytest.mark.parametrize("boundary", [1, 2])
def test_rows_that_the_last_stage_sent_are_refused(honest: Disputed, boundary: int) -> None:
    with pytest.raises(EngineError, match="first 2 stages") as caught:
        honest.replay(rows(boundary, honest.files[1], honest.files[1]))
    assert caught.value.code == "bad_request"
