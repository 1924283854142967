"""Prompts files: what is read, and the line number in every error."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.prompts import (
    MAX_LINE,
    MAX_NOTES,
    PromptsError,
    load_prompts,
    parse_prompts,
    prompt_line,
    shipped_prompts,
)


def test_both_forms_and_all_options() -> None:
    first, second = parse_prompts(
        [
            b'\xef\xbb\xbf{"prompt": "Hi", "max_tokens": 5, "stop": "x"}\n',
            b"\n",
            b'{"id": "b", "messages": [{"role": "system", "content": "s"},'
            b' {"role": "user", "content": "u"}], "temperature": 0.5, "top_p": 0.9, "top_k": 4,'
            b' "seed": 9, "stop": ["a", "b"]}',
        ],
        "p",
    )
    assert [m.content for m in first.messages] == ["Hi"]
    assert (first.max_tokens, first.stop, first.temperature) == (5, ("x",), None)
    assert [m.role for m in second.messages] == ["system", "user"]
    assert (second.top_k, second.top_p, second.seed, second.stop) == (4, 0.9, 9, ("a", "b"))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"{", "not JSON"),
        (b"[1]", "p:2: "),
        (b"{}", 'needs "prompt" or "messages"'),
        (b'{"prompt": ""}', "messages.0.content"),
        (b'{"prompt": "a", "messages": []}', "not both"),
        (b'{"messages": []}', "messages: "),
        (b'{"messages": [{"role": "cook", "content": "a"}]}', "messages.0.role"),
        (b'{"prompt": "a", "temprature": 1}', 'did you mean "temperature"'),
        (b'{"messages": [{"role": "user", "contents": "a"}]}', 'did you mean "content"'),
        (b'{"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}', "only parts"),
        (b'{"prompt": "a", "n": 2}', '"n" is not done here'),
        (b'{"prompt": "a", "system": "be brief"}', '"system" is not done here'),
        (b'{"prompt": "a", "stop": "x", "stop_sequences": ["y"]}', "not both"),
        (b'{"prompt": "a", "max_new_tokens": 0}', "max_tokens"),
        (b'{"prompt": "a", "metadata": 1}', "metadata"),
        (b'{"prompt": "a", "note": "' + b"x" * MAX_NOTES + b'"}', "beside the prompt"),
        (b'{"prompt": "a", "temperature": NaN}', "temperature"),
        (b'{"prompt": "a", "max_tokens": 0}', "max_tokens"),
        (b'{"prompt": "a", "top_p": 0}', "top_p"),
        (b'{"prompt": "a", "stop": [""]}', "stop.0"),
        (b'{"prompt": "\xff"}', "not UTF-8"),
        (b"[" * 100_000, "p:2: "),
        (b" " * (MAX_LINE + 1), "longer than"),
    ],
)
def test_a_bad_line_is_named_by_its_number(line: bytes, said: str) -> None:
    with pytest.raises(PromptsError, match=said) as caught:
        parse_prompts([b'{"prompt": "fine"}', line], "p")
    assert caught.value.message.startswith("p:2: ")


def test_null_is_a_setting_that_was_not_given() -> None:
    plain, exported = parse_prompts(
        [
            b'{"prompt": "x"}',
            b'{"prompt": "x", "id": null, "max_tokens": null, "temperature": null, "top_p": null,'
            b' "top_k": null, "seed": null, "stop": null, "metadata": null, "n": null}',
        ],
        "p",
    )
    assert exported == plain
    (message,) = parse_prompts(
        [b'{"messages": [{"role": "user", "content": "x", "name": null, "tool_calls": null}]}'], "p"
    )
    assert message == plain


def test_what_exporting_programs_write_is_taken_as_it_is() -> None:
    (prompt,) = parse_prompts(
        [
            b'\xef\xbb\xbf{"messages": [{"role": "developer", "content": [{"type": "text",'
            b' "text": "a"}, {"type": "text", "text": "b"}]}, {"role": "tool", "content": "r",'
            b' "tool_call_id": "c"}], "n": 1, "max_new_tokens": 7, "stop_strings": ["s"],'
            b' "topic": "t", "big": 123456789012345678901234567890,'
            b' "metadata": {"own": [null]}}\r\n'
        ],
        "p",
    )
    assert [m.content for m in prompt.messages] == ["a\nb", "r"]
    assert prompt.messages[1].plain()["tool_call_id"] == "c"
    assert (prompt.max_tokens, prompt.stop) == (7, ("s",))
    notes = {"topic": "t", "big": 123456789012345678901234567890, "own": [None]}
    assert prompt.metadata == notes
    assert parse_prompts([prompt_line(prompt)], "p") == (prompt,)


def test_a_file_without_prompts_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "p.jsonl"
    file.write_text("\n\n")
    with pytest.raises(PromptsError, match="no prompts"):
        load_prompts(file)
    with pytest.raises(PromptsError, match="No such file"):
        load_prompts(tmp_path / "none")
    with pytest.raises(PromptsError, match="Is a directory"):
        load_prompts(tmp_path)


def test_an_endless_line_is_not_read_whole(tmp_path: Path) -> None:
    file = tmp_path / "p.jsonl"
    file.write_bytes(b'{"prompt": "' + b"a" * (3 * MAX_LINE))
    with pytest.raises(PromptsError, match=":1: the line is longer"):
        load_prompts(file)


@given(st.lists(st.text(min_size=1, max_size=40), min_size=1, max_size=5))
def test_any_text_survives(texts: list[str]) -> None:
    lines = [json.dumps({"prompt": text}).encode() for text in texts]
    assert [p.messages[0].content for p in parse_prompts(lines, "p")] == texts


@given(st.binary(max_size=200))
def test_any_bytes_are_prompts_or_a_prompts_error(data: bytes) -> None:
    message = ""
    try:
        parse_prompts(data.split(b"\n"), "p")
    except PromptsError as exc:
        message = exc.message
    assert message == "" or message.startswith("p:")


def test_the_shipped_prompts_are_many_and_varied() -> None:
    prompts = load_prompts(shipped_prompts())
    assert len(prompts) == 24
    assert len({prompt.id for prompt in prompts}) == 24
    assert any(prompt.temperature for prompt in prompts)
    assert sum(not prompt.temperature for prompt in prompts) >= 10
    assert any(len(prompt.messages) > 1 for prompt in prompts)
