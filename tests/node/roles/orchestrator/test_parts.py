"""The small pure parts of the roles: jobs, terms, life, device."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import pytest

from node.config.hardware import detect_device
from node.errors import InputError, ResourceError
from node.lifecycle import IllegalState, Lifecycle, NodeState
from node.prompts import Prompt
from node.roles.orchestrator.coordinator.units import Failure, UnitState
from node.roles.orchestrator.jobs.cutting import JobCutter, job_id_of
from node.roles.orchestrator.ledger.rows import (
    UnitRow,
    pack_prompts,
    unpack_prompts,
    with_outcome,
)
from node.roles.orchestrator.ledger.writes import PutUnit
from node.roles.pool_terms import PoolTerms
from proofs.evidence.sequence import FinishReason


class Words:
    eos_ids = (2,)
    special: ClassVar[dict[str, int]] = {"<end>": 7}

    def encode_chat(self, messages: list[dict[str, str]]) -> list[int]:
        return [len(word) for message in messages for word in message["content"].split()]

    def decode(self, ids) -> str:
        return "".join(chr(i) for i in ids)


def prompt(text: str = "one two", **fields: object) -> Prompt:
    return Prompt.model_validate({"prompt": text, **fields})


CUTTER = JobCutter(Words(), b"m" * 32, "tiny", context_length=16, unit_size=2, vocab_size=200)


def test_the_same_job_is_cut_into_the_same_units() -> None:
    prompts = tuple(prompt(f"p {i}", seed=i, max_tokens=4) for i in range(5))
    units = CUTTER.cut("job", 0, prompts).units
    parts = CUTTER.cut("job", 0, prompts[:2]), CUTTER.cut("job", 2, prompts[2:])
    assert units == [unit for part in parts for unit in part.units]
    assert [len(unit.sequences) for unit in units] == [2, 2, 1]
    assert len({s.sequence_id for unit in units for s in unit.sequences}) == 5
    assert job_id_of("", prompts) != job_id_of("", prompts[:4])
    assert job_id_of("key", prompts) == job_id_of("key")


def test_a_unit_goes_through_its_row_unchanged() -> None:
    first = prompt(max_tokens=4, stop=["x"], temperature=0.5, seed=7)
    asked = (first, prompt("other", max_tokens=4, metadata={"a": [1, None]}))
    ((unit, numbered),) = CUTTER.cut("k", 6, asked).parts
    ended = unit.sequences[0].ended(1, FinishReason.EOS, (65, 2))
    grown = replace(
        unit,
        sequences=(ended, *unit.sequences[1:]),
        state=UnitState.VERIFYING,
        attempt=2,
        group_id=b"g",
        generation=1,
        bundle_id=b"b",
        asked=("v1", "v2"),
        verdict={"figures": {"tokens": 1.5}},
        history=("rejected: off",),
        failures=(Failure("not finite", 1, ("w1", "w2")),),
    )
    put = PutUnit.of(grown)
    prompts = unpack_prompts(pack_prompts(numbered))
    assert prompts == ((6, asked[0]), (7, asked[1]))
    row = UnitRow(1, b"", 1, 6, 7, 2, put.state, put.attempt, put.tokens, 0, b"", put.packed)
    again = with_outcome(CUTTER.unit("k", prompts), row)
    assert again == grown


@pytest.mark.parametrize(
    ("ids", "text"),
    [
        ((65, 66, 2), "AB"),
        ((65, 66), "AB"),
        ((65, 88, 66), "A"),
        ((65, 89, 66, 88), "A"),  # the first in the text, whatever their order
        ((2,), ""),
        ((65, 2, 66), "A\x02B"),
    ],
)
def test_the_text_ends_before_a_stop_string_and_without_the_final_eos(
    ids: tuple[int, ...], text: str
) -> None:
    (unit,) = CUTTER.cut("k", 0, (prompt(max_tokens=4, stop=["X", "Y"]),)).units
    assert CUTTER.text(replace(unit.sequences[0], output_ids=ids)) == text


def test_terms_survive_the_chain_and_foreign_ones_are_named() -> None:
    terms = PoolTerms(model_id="ab" * 32, model="m")
    assert PoolTerms.from_uri(terms.to_uri()) == terms
    for uri in ("", "https://x", "prime-terms:", "prime-terms:{}", "prime-terms:[1]"):
        with pytest.raises(InputError, match="terms"):
            PoolTerms.from_uri(uri)
    with pytest.raises(InputError, match="malformed"):
        PoolTerms.from_uri(terms.to_uri().replace("ab" * 32, "ab" * 31))


def test_a_node_drains_from_anywhere_and_never_comes_back() -> None:
    for steps in ([], [NodeState.REGISTERED], [NodeState.REGISTERED, NodeState.SERVING]):
        life = Lifecycle()
        for state in (*steps, NodeState.DRAINING, NodeState.STOPPED):
            life.to(state)
        with pytest.raises(IllegalState):
            life.to(NodeState.SERVING)
        assert life.state is NodeState.STOPPED
    with pytest.raises(IllegalState):
        Lifecycle().to(NodeState.SERVING)


def test_the_device_is_what_was_asked_for_or_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("node.config.hardware._nvidia", lambda index: None)
    assert detect_device("auto", 0).torch_name == "cpu"
    assert detect_device("cpu", 123).memory_bytes == 123
    with pytest.raises(ResourceError, match="no NVIDIA GPU 3"):
        detect_device("cuda:3", 0)
