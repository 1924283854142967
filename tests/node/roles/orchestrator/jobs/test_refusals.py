"""Prompts that no worker could run: named with their reason before anything of them is kept."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from node.prompts import Prompt
from node.roles.orchestrator.jobs.cutting import Cut, JobCutter
from pipeline.models.tokenizer import ChatTokenizer
from tests.pipeline.tiny_models import CHAT_TEMPLATE, VOCAB, save_tokenizer

USER = {"role": "user", "content": "hi"}
SYSTEM = {"role": "system", "content": "be brief"}
WITHOUT_SYSTEM = (
    "{% for m in messages %}{% if m['role'] != 'system' %}{{ m['content'] }}{% endif %}{% endfor %}"
)
NO_SYSTEM = (
    "{% if messages[0]['role'] == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}" + CHAT_TEMPLATE
)


def cutter(folder: Path, template: str = CHAT_TEMPLATE, **limits: int) -> JobCutter:
    """A cutter with a real tokenizer: its token of a character is the character's byte, moved."""
    save_tokenizer(folder)
    (folder / "chat_template.jinja").write_text(template)
    (folder / "config.json").write_text('{"eos_token_id": 2}')
    fields: dict[str, Any] = {"context_length": 64, "unit_size": 2, "vocab_size": VOCAB, **limits}
    return JobCutter(ChatTokenizer(folder), b"m" * 32, "tiny", **fields)


def cut(with_: JobCutter, *conversations: list[dict[str, str]], **fields: object) -> Cut:
    prompts = [
        Prompt.model_validate({"messages": messages, "max_tokens": 4, **fields})
        for messages in conversations
    ]
    return with_.cut("job", 10, prompts)


def reasons(of: Cut) -> dict[int, str]:
    return {refusal.index: refusal.reason for refusal in of.refusals}


def indices(of: Cut) -> list[list[int]]:
    return [[s.index for s in unit.sequences] for unit in of.units]


def test_a_prompt_that_renders_to_nothing(tmp_path: Path) -> None:
    found = cut(cutter(tmp_path, WITHOUT_SYSTEM), [SYSTEM], [USER], [SYSTEM, USER], [USER])
    assert reasons(found) == {10: "the model's chat template makes nothing of it"}
    assert indices(found) == [[11, 12], [13]]


def test_a_prompt_that_the_template_refuses(tmp_path: Path) -> None:
    found = cut(cutter(tmp_path, NO_SYSTEM), [USER], [SYSTEM, USER])
    assert list(reasons(found)) == [11]
    assert "System role not supported" in reasons(found)[11]


def test_an_id_beyond_the_vocabulary(tmp_path: Path) -> None:
    """A tokenizer may know tokens that were added later, and for which the model has no row."""
    save_tokenizer(tmp_path)
    tokenizer = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    tokenizer.add_special_tokens([f"<extra_{n}>" for n in range(60)])
    with_ = cutter(tmp_path)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    added = replace(with_, tokenizer=ChatTokenizer(tmp_path))
    found = cut(added, [USER], [{"role": "user", "content": "hi <extra_50>"}])
    assert reasons(found) == {
        11: "it has the token id 309, and the model has only the ids below 300"
    }


def test_a_prompt_that_is_too_long_is_told_the_limit_of_this_pool(tmp_path: Path) -> None:
    long = [{"role": "user", "content": "x" * 80}]
    narrow = cut(cutter(tmp_path, model_context=512), [USER], long)
    assert indices(narrow) == [[10]]
    said = reasons(narrow)[11]
    assert "+ 4 new ones are over the 64 tokens that this pool has for a sequence" in said
    assert "raise orchestrator.tokens_per_sequence (the model takes 512)" in said
    model = cut(cutter(tmp_path, model_context=64), long)
    assert "tokens_per_sequence" not in reasons(model)[10]


def test_what_is_read_back_is_not_measured_again_once_it_is_judged(tmp_path: Path) -> None:
    wide = cutter(tmp_path)
    ((unit, numbered),) = cut(wide, [USER]).parts
    narrow = cutter(tmp_path, context_length=8)
    assert narrow.unit("job", numbered, waits=False) == unit


def test_a_stop_string_that_is_a_special_token_ends_the_sequence(tmp_path: Path) -> None:
    with_ = cutter(tmp_path)
    (unit,) = cut(with_, [USER], stop=["<|im_start|>", "x"]).units
    request = unit.sequences[0].request
    assert request.eos_ids == (2, 1)
    assert request.stop == ("<|im_start|>", "x")
    said = with_.text(unit.sequences[0].extended(1, 0, (70, 71, 1)))
    assert said == with_.tokenizer.decode((70, 71))


def test_a_stop_string_that_can_never_appear_is_refused(tmp_path: Path) -> None:
    found = cut(cutter(tmp_path), [USER], stop=["<|im_start|>user"])
    assert "can never appear: the special token <|im_start|>" in reasons(found)[10]


@pytest.mark.parametrize("role", ["developer", "tool"])
def test_other_roles_are_the_templates_to_know(tmp_path: Path, role: str) -> None:
    with_ = cutter(tmp_path)
    (unit,) = cut(with_, [USER, {"role": role, "content": "it"}]).units
    assert f"{role}\nit" in with_.tokenizer.decode(unit.sequences[0].request.prompt_ids)
