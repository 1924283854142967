"""Inputs that stopped other projects' servers: each is refused with its reason, or taken.

Where they were reported, and what else was tried, is in docs/reference/reports.md.
"""

from __future__ import annotations

import json

import pytest

from node.prompts import PromptsError, parse_prompt, prompt_line

REFUSED = {
    "an empty prompt": ('{"prompt": ""}', "content"),
    "no tokens": ('{"prompt": "x", "max_tokens": 0}', "max_tokens: .*greater than or equal to 1"),
    "top_k between whole numbers": ('{"prompt": "x", "top_k": 0.01}', "top_k: .*integer"),
    "a temperature near 0": ('{"prompt": "x", "temperature": 0.0001}', "at least 0.001"),
    "a temperature that is hardly a number": ('{"prompt": "x", "temperature": 1e-320}', "0.001"),
    "NaN": ('{"prompt": "x", "temperature": NaN}', "temperature"),
    "a seed of 64 bits": (f'{{"prompt": "x", "seed": {2**64}}}', "seed: .*less than"),
    "a seed above int64": (f'{{"prompt": "x", "seed": {2**63}}}', "seed: .*less than"),
    "deep nesting": (f'{{"prompt": "x", "tools": {"[" * 3000}{"]" * 3000}}}', "nested deeper"),
    "half a character": (r'{"prompt": "a \ud83c b"}', r"\\ud83c alone is half of a character"),
    "half a character beside": (r'{"prompt": "a", "metadata": {"k": "\udbc0"}}', "half of a char"),
    "half a character in a key": (r'{"prompt": "a", "metadata": {"\udbc0": 1}}', "half of a char"),
    "half a character in a name": (
        r'{"messages": [{"role": "user", "content": "a", "name": "\udbc0"}]}',
        "half of a char",
    ),
    "an answer that only called tools": (
        '{"messages": [{"role": "user", "content": "2+3?"},'
        ' {"role": "assistant", "content": null, "tool_calls": []}]}',
        "messages.1.content",
    ),
    "a grammar": (
        json.dumps({"prompt": "x", "grammar": "root ::= (" * 10}),
        '"grammar" is not don',
    ),
    "a schema": ('{"prompt": "x", "guided_json": {"type": "object"}}', '"guided_json" is not done'),
    "a penalty": ('{"prompt": "x", "repeat_penalty": 1.1}', '"repeat_penalty" is not done'),
    "beams": ('{"prompt": "x", "use_beam_search": true}', '"use_beam_search" is not done'),
    "true for a number": ('{"prompt": "x", "temperature": true}', '"temperature" is a number'),
}
TAKEN = {
    "a whole character of two halves": r'{"prompt": "a \ud83c\udf78 b"}',
    "what changes nothing": '{"prompt": "x", "grammar": "", "repeat_penalty": 1.0, "num_beams": 1}',
    "a zero byte": r'{"prompt": "a \u0000 b"}',
    "a whole number with a point": '{"prompt": "x", "max_tokens": 16.0}',
    "the smallest share": '{"prompt": "x", "top_p": 1e-40, "temperature": 1.0}',
}


@pytest.mark.parametrize(("line", "reason"), REFUSED.values(), ids=REFUSED)
def test_it_is_refused_with_its_reason(line: str, reason: str) -> None:
    with pytest.raises(PromptsError, match=f"line 7: .*{reason}"):
        parse_prompt(line, "line 7")


@pytest.mark.parametrize("line", TAKEN.values(), ids=TAKEN)
def test_it_is_taken_and_can_be_written_again(line: str) -> None:
    prompt = parse_prompt(line, "line 7")
    assert parse_prompt(prompt_line(prompt).decode(), "again") == prompt
