"""Rows that real stages kept, against a validator's replay: honest ones fit, others do not."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from pipeline.engine import messages as m
from pipeline.engine.errors import EngineError
from pipeline.engine.replay import NO_ROWS, Replayer
from pipeline.models.prepared import PreparedModel
from tests.pipeline.engine.rings import cuts, load_requests, local_ring

STAGES = 3
OUTPUTS = 12
HONEST, CORRUPT = 1e-4, 1e-2


@dataclass
class Disputed:
    """One finished sequence and the file of what stage 1 received (`files[0]`), and stage 2."""

    model: PreparedModel
    sequence: m.ReplaySequence
    files: list[Path]

    def errors(self, *revealed: m.RevealedRows) -> tuple[float, ...]:
        replay = m.Replay(
            model_dir=str(self.model.path),
            model_id=self.model.model_id,
            boundaries=tuple(cuts(self.model.manifest.layers, STAGES)[1:]),
            sequences=(
                self.sequence.model_copy(update={"sequence_id": bytes(16), "revealed": ()}),
                self.sequence.model_copy(update={"revealed": revealed}),
            ),
        )
        other, disputed = Replayer().replay(replay).items
        assert other.rows_errors == ()
        return disputed.rows_errors


def disputed(folder: Path, model: PreparedModel, faults: dict[int, str]) -> Disputed:
    spec = m.SequenceSpec(
        sequence_id=b"s" * 16,
        unit_id=bytes(32),
        prompt_ids=tuple(range(5, 30)),
        sampling=m.Sampling(temperature=1.0, noise_key=7),
        max_tokens=OUTPUTS,
    )
    with local_ring(STAGES, folder) as ring:
        for stage, request in enumerate(load_requests(model, STAGES, 2048, faults)):
            keeping = request.model_copy(update={"rows_dir": str(folder / f"rows{stage}")})
            ring.services[stage].load(keeping)
        assert ring.up(1, 2, 10) == [None] * STAGES
        done = ring.run([spec])
        evidence = [each[spec.sequence_id] for each in ring.evidence(done)]
    sequence = m.ReplaySequence(
        sequence_id=spec.sequence_id,
        prompt_ids=spec.prompt_ids,
        output_ids=done[spec.sequence_id].ids,
        sampling=spec.sampling,
        proofs=tuple(each.proofs for each in evidence),
    )
    files = [folder / f"rows{stage}" / f"{evidence[stage].received.hex()}.rows" for stage in (1, 2)]
    return Disputed(model, sequence, files)


@pytest.fixture(scope="module")
def model(tiny_model: Callable[[str], PreparedModel]) -> PreparedModel:
    return tiny_model("llama")


@pytest.fixture(scope="module")
def honest(model: PreparedModel, tmp_path_factory: pytest.TempPathFactory) -> Disputed:
    return disputed(tmp_path_factory.mktemp("honest"), model, {})


def rows(boundary: int, path: Path | str) -> m.RevealedRows:
    return m.RevealedRows(boundary=boundary, path=str(path))


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
