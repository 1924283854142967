"""A judge finds the end of an output in its text, with the model's own tokenizer."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from node.roles.validator.judging.errors import CannotJudge
from node.roles.validator.judging.plan import JudgingPlan
from node.roles.validator.judging.texts import Texts, has_stops
from pipeline.models.manifest import FileEntry, Manifest
from pipeline.models.prepared import PreparedModel
from pipeline.models.tokenizer import ChatTokenizer
from proofs.evidence.bundle import UnitBundle
from proofs.evidence.endings import StopReading
from proofs.evidence.sequence import FinishReason
from proofs.verdict.message import Verdict
from tests.node.roles.validator.judging.test_judge import Engine, make_judge, nobody
from tests.pipeline.tiny_models import save_tokenizer
from tests.proofs.units import bundle, sequence


@pytest.fixture
def model(tmp_path: Path) -> PreparedModel:
    """One with nothing but a tokenizer, whose token of a character is its byte, moved."""
    save_tokenizer(tmp_path)
    (tmp_path / "config.json").write_text('{"eos_token_id": 2}')
    entries = []
    for path in sorted(tmp_path.glob("*.json")):
        data = path.read_bytes()
        digest = hashlib.sha256(data).hexdigest()
        entries.append(FileEntry(name=path.name, size=len(data), sha256=digest))
    manifest = Manifest.model_construct(
        layers=30, hidden_size=8, dtype="float32", files=tuple(entries)
    )
    return PreparedModel(tmp_path, manifest)


def said(model: PreparedModel, text: str, reason: FinishReason, stop: str) -> UnitBundle:
    ids = tuple(ChatTokenizer(model).encode(text))
    made = sequence(1, output_ids=ids, stop=(stop,), reason=reason, max_tokens=40)
    return bundle(3, [made, sequence(2, 20)])


async def verdict_on(model: PreparedModel, unit: UnitBundle) -> Verdict:
    engine = Engine(unit)
    ruling = await make_judge(engine, model).rule(unit, JudgingPlan(()), nobody)
    assert engine.asked == []
    return ruling.verdict


async def test_a_stop_string_is_looked_for_without_a_replay(model: PreparedModel) -> None:
    assert (await verdict_on(model, said(model, "one. two.", FinishReason.STOP, "two."))).accepted
    early = await verdict_on(model, said(model, "one. two", FinishReason.STOP, "two."))
    assert early.first_faulty == 0
    assert "ends after 8 of 40 tokens without a reason" in early.reason
    late = await verdict_on(model, said(model, "one. two. three", FinishReason.STOP, "two."))
    assert late.first_faulty == 0
    assert "goes on for 6 tokens after it ended by 'stop'" in late.reason


def test_only_texts_with_stop_strings_are_read(model: PreparedModel) -> None:
    unit = said(model, "one. two.", FinishReason.STOP, "two.")
    assert has_stops(unit)
    assert Texts().read(unit, model) == (StopReading(9), None)
    assert not has_stops(bundle())


def test_a_damaged_tokenizer_judges_nobody(model: PreparedModel) -> None:
    unit = said(model, "one. two.", FinishReason.STOP, "two.")
    (model.path / "tokenizer.json").write_bytes(b"{}")
    with pytest.raises(CannotJudge, match="tokenizer"):
        Texts().read(unit, model)
