"""Dishonest stages: each deviates from honest conduct in one place, and none is there unasked."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from pipeline.dishonest.names import CONDUCT_FAULTS, WEIGHT_FAULTS
from pipeline.dishonest.stages import STAGES, DishonestStage
from pipeline.dishonest.weights import DEGRADATIONS
from pipeline.engine.composition import conduct_of, load_engine_model
from pipeline.engine.control.messages import Load
from pipeline.engine.errors import EngineError
from pipeline.models.prepared import PreparedModel
from pipeline.runner.conduct import StageConduct
from pipeline.runner.stage import StepItem
from proofs.sampling.settings import SamplingSettings

HONEST = StageConduct()
TOLD = SamplingSettings(temperature=1.0, noise_key=7)
DEVIATIONS = {
    "null-proofs": ["proof"],
    "garbage-hidden": ["sent"],
    "garbage-signed": ["sent", "signed"],
    "quiet-garbage": ["sent", "signed"],
    "wrong-seed": ["sampling"],
}
ROWS = torch.randn(3, 400, generator=torch.Generator().manual_seed(1)).to(torch.bfloat16)


def deviations(conduct: StageConduct) -> list[str]:
    """Where a conduct's answers differ from honest ones."""
    sent, signed = conduct.outgoing(ROWS)
    found = {
        "proof": conduct.prove(ROWS) != HONEST.prove(ROWS),
        "sent": not torch.equal(sent, ROWS),
        "signed": not torch.equal(signed, ROWS),
        "sampling": conduct.sampling(TOLD) != TOLD,
    }
    return [name for name, differs in found.items() if differs]


def test_honest_conduct_deviates_nowhere() -> None:
    assert deviations(HONEST) == []
    assert type(conduct_of("")) is StageConduct


@pytest.mark.parametrize(("fault", "expected"), DEVIATIONS.items())
def test_each_fault_deviates_as_it_says(fault: str, expected: list[str]) -> None:
    conduct = conduct_of(fault)
    assert isinstance(conduct, DishonestStage)
    assert deviations(conduct) == expected


def test_every_name_has_its_fault_and_degraded_weights_need_no_other_conduct() -> None:
    assert tuple(DEVIATIONS) == tuple(STAGES) == CONDUCT_FAULTS
    assert set(WEIGHT_FAULTS) <= set(DEGRADATIONS)
    assert all(type(conduct_of(fault)) is StageConduct for fault in WEIGHT_FAULTS)


@pytest.mark.parametrize("fault", WEIGHT_FAULTS)
def test_an_engine_can_be_asked_for_each_weight_fault(
    tiny_model: Callable[[str], PreparedModel], fault: str
) -> None:
    model = tiny_model("llama")
    told = Load(
        model_dir=str(model.path), model_id=model.model_id, first_layer=0,
        last_layer=2, kv_tokens=64,
    )  # fmt: skip
    rows = []
    for asked in (told, told.model_copy(update={"fault": fault})):
        runner = load_engine_model(asked).runner
        runner.open(b"s", 4)
        rows.append(runner.step([StepItem(b"s", 0, 4)], torch.arange(4)))
    assert rows[0].shape == rows[1].shape
    assert not torch.equal(rows[0], rows[1])


def test_an_unknown_fault_is_refused_before_anything_is_read() -> None:
    request = Load(
        model_dir="/nowhere", model_id=bytes(32), first_layer=0, last_layer=1, kv_tokens=1,
        fault="laziness",
    )  # fmt: skip
    with pytest.raises(EngineError, match="unknown fault") as caught:
        load_engine_model(request)
    assert caught.value.code == "bad_request"
