"""How a prompt's sequence samples: as the prompt says, and for the rest as its model does."""

from __future__ import annotations

from typing import Any

import pytest

from node.prompts import Prompt
from node.roles.orchestrator.jobs.sequences import GREEDY, sampling_of
from proofs.sampling.settings import SamplingSettings

MODEL = SamplingSettings(temperature=0.6, top_k=20, top_p=0.95)


@pytest.mark.parametrize(
    ("said", "model", "expected"),
    [
        ({}, GREEDY, (0.0, 0, 1.0)),
        ({}, MODEL, (0.6, 20, 0.95)),
        ({"temperature": 0}, MODEL, (0.0, 20, 0.95)),
        ({"temperature": 1.0, "top_k": 0}, MODEL, (1.0, 0, 0.95)),
        ({"top_p": 1.0}, MODEL, (0.6, 20, 1.0)),
        ({"temperature": None, "top_k": None, "top_p": None}, MODEL, (0.6, 20, 0.95)),
        ({"temperature": 0.7}, GREEDY, (0.7, 0, 1.0)),
    ],
)
def test_a_prompt_overrides_what_its_model_says(
    said: dict[str, Any], model: SamplingSettings, expected: tuple[float, int, float]
) -> None:
    found = sampling_of(Prompt.model_validate({"prompt": "hi", **said}), model)
    assert (found.temperature, found.top_k, found.top_p) == expected
