"""How a model wants its tokens chosen, against transformers' reading of the same files."""

from __future__ import annotations

from typing import Any

import pytest
from transformers import GenerationConfig

from pipeline.models.errors import InvalidModel
from pipeline.models.generation import GREEDY, TOP_K, generation_of
from proofs.sampling.settings import SamplingSettings


def test_the_defaults_are_those_of_transformers() -> None:
    theirs = GenerationConfig._get_default_generation_params()
    assert theirs["top_k"] == TOP_K
    assert generation_of(theirs, "x").foreign == ()
    everything = {**theirs, "do_sample": True}
    assert generation_of(everything, "x").foreign == ()
    assert generation_of(everything, "x").sampling == SamplingSettings(temperature=1.0, top_k=TOP_K)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, GREEDY),
        ({"temperature": 0.6, "top_p": 0.9}, GREEDY),  # nothing samples
        ({"do_sample": True}, SamplingSettings(temperature=1.0, top_k=50)),
        (
            {"do_sample": True, "temperature": 0.6, "top_p": 0.9, "top_k": None},
            SamplingSettings(temperature=0.6, top_p=0.9, top_k=50),
        ),
        ({"do_sample": True, "top_k": 0}, SamplingSettings(temperature=1.0)),
    ],
)
def test_how_a_model_samples(settings: dict[str, Any], expected: SamplingSettings) -> None:
    assert generation_of(settings, "x").sampling == expected


@pytest.mark.parametrize(
    "settings",
    [
        {"repetition_penalty": 1.05},
        {"no_repeat_ngram_size": 3},
        {"suppress_tokens": [0]},
        {"begin_suppress_tokens": [5]},
        {"bad_words_ids": [[7]]},
        {"min_new_tokens": 1},
        {"forced_bos_token_id": 0},
        {"forced_eos_token_id": 0},
        {"num_beams": 2},
        {"guidance_scale": 1.5},
        {"stop_strings": ["x"]},
        {"do_sample": True, "min_p": 0.05},
        {"do_sample": True, "typical_p": 0.9},
        {"do_sample": True, "epsilon_cutoff": 1e-3},
    ],
)
def test_what_would_change_the_choice_is_named(settings: dict[str, Any]) -> None:
    (name,) = set(settings) - {"do_sample"}
    assert generation_of(settings, "x").foreign == (name,)
    if "do_sample" in settings:
        assert generation_of({name: settings[name]}, "x").foreign == ()


@pytest.mark.parametrize("value", [-1, True, "2", 2.0, [2, None], {"a": 1}, 2**31])
def test_an_end_that_is_no_token_is_refused(value: object) -> None:
    with pytest.raises(InvalidModel, match="x: eos_token_id"):
        generation_of({"eos_token_id": value}, "x")


@pytest.mark.parametrize(
    ("value", "expected"), [(None, ()), ([], ()), (2, (2,)), ([5, 2, 5], (5, 2)), (0, (0,))]
)
def test_the_ends_of_a_model(value: object, expected: tuple[int, ...]) -> None:
    assert generation_of({"eos_token_id": value}, "x").eos_ids == expected
