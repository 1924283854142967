"""The small pure parts of the roles: jobs, terms, life, device."""

from __future__ import annotations

from dataclasses import replace

import msgpack
import pytest

from node.config.hardware import detect_device
from node.errors import InputError, ResourceError
from node.lifecycle import IllegalState, Lifecycle, NodeState
from node.prompts import Prompt
from node.roles.orchestrator.coordinator.units import Opinion
from node.roles.orchestrator.jobs.cutting import JobCutter
from node.roles.orchestrator.journal_events import unit_from_body, unit_to_body
from node.roles.pool_terms import PoolTerms
from proofs.evidence.sequence import FinishReason


class Words:
    eos_ids = (2,)

    def encode_chat(self, messages: list[dict[str, str]]) -> list[int]:
        return [len(word) for message in messages for word in message["content"].split()]

    def decode(self, ids) -> str:
        return "".join(chr(i) for i in ids)


def prompt(text: str = "one two", **fields: object) -> Prompt:
    return Prompt.model_validate({"prompt": text, **fields})


CUTTER = JobCutter(Words(), b"m" * 32, "tiny", context_length=16, unit_size=2, vocab_size=200)


def test_the_same_job_is_cut_into_the_same_units() -> None:
    prompts = tuple(prompt(f"p {i}", seed=i, max_tokens=4) for i in range(5))
    units = CUTTER.cut("key", prompts)
    assert units == CUTTER.cut("key", prompts)
    assert [len(unit.sequences) for unit in units] == [2, 2, 1]
    assert len({s.sequence_id for unit in units for s in unit.sequences}) == 5
    assert CUTTER.cut("", prompts)[0].job_id != units[0].job_id
    assert CUTTER.cut("", prompts[:4])[0].job_id != CUTTER.cut("", prompts)[0].job_id


def test_a_prompt_over_the_context_is_named() -> None:
    with pytest.raises(InputError, match="prompt 2: 2 tokens \\+ 15 new"):
        CUTTER.cut("k", (prompt(max_tokens=14), prompt(max_tokens=15)))


def test_a_unit_goes_through_the_journal_unchanged() -> None:
    (unit, *_) = CUTTER.cut("k", (prompt(max_tokens=4, stop=["x"], temperature=0.5),))
    grown = unit.with_sequence(unit.sequences[0].ended(1, FinishReason.EOS, (7, 2)), 3.0)
    opinion = Opinion(False, "w1", "off", {"figures": {"tokens": 1.5}})
    grown = replace(grown, asked=("v1", "v2"), opinions={"v1": opinion}, late=True)
    packed = msgpack.packb(unit_to_body(grown))
    assert unit_from_body(msgpack.unpackb(packed, use_list=False)) == grown


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
    (unit,) = CUTTER.cut("k", (prompt(max_tokens=4, stop=["X", "Y"]),))
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
