"""Prompts files: what is read, and the line number in every error."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.prompts import MAX_LINE, PromptsError, load_prompts, parse_prompts, shipped_prompts


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
        (b'{"prompt": "a", "temprature": 1}', "temprature"),
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
