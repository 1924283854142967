"""The torch-free tokenizer against transformers', and streaming against whole decoding."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from pipeline.models.errors import InvalidModel, InvalidText
from pipeline.models.prepared import PreparedModel
from pipeline.models.tokenizer import ChatTokenizer
from tests.pipeline.tiny_models import CHAT_TEMPLATE, save_tokenizer

CHATS = [
    [{"role": "user", "content": "What is the capital of France?"}],
    [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi  \n there\t!"}],
    [
        {"role": "user", "content": "naïve café, 漢字, 👩‍👩‍👧 and \x00"},
        {"role": "assistant", "content": ""},
        {"role": "user", "content": "<|im_end|> {{ 7 * 7 }} {% raw %} <b>&amp;'\"</b>"},
    ],
    [{"role": "user", "content": "x" * 3000}],
    [{"role": "user", "content": "  leading and trailing  "}],
]
FIELDS: list[dict[str, Any]] = [
    {"role": "assistant", "content": "4", "reasoning": "2+2", "name": None},
    {"role": "assistant", "content": "4", "thinking": "2+2", "reasoning_content": None},
    {"role": "assistant", "content": "4", "reasoning_content": "2+2"},
    {
        "role": "assistant",
        "content": "-",
        "tool_calls": [{"function": {"name": "f", "arguments": {"x": None}}}],
    },
    {"role": "tool", "content": "5", "name": "f", "tool_call_id": "a"},
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_tokenizer(tmp_path)
    (tmp_path / "config.json").write_text('{"eos_token_id": 2, "model_type": "llama"}')
    return tmp_path


def with_template(folder: Path, template: str) -> ChatTokenizer:
    (folder / "chat_template.jinja").write_text(template)
    return ChatTokenizer(folder, now=lambda: datetime(2025, 1, 2, tzinfo=UTC))


TEMPLATES = [
    CHAT_TEMPLATE,
    # Whitespace control, loop controls, tojson and special tokens, as large models use them.
    """{{ bos_token }}
{%- for m in messages %}
    {%- if m.role == 'system' %}{% continue %}{% endif %}
    {%- generation %}[{{ m | tojson }}]{% endgeneration %}
    {{ m['content'] | trim }} {{ eos_token }}
{% endfor %}
{%- if add_generation_prompt and tools is none %}A:{% endif %}""",
]


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("chat", CHATS)
def test_ids_equal_those_of_transformers(
    folder: Path, template: str, chat: list[dict[str, str]]
) -> None:
    ours = with_template(folder, template)
    theirs = AutoTokenizer.from_pretrained(folder)
    expected = theirs.apply_chat_template(chat, add_generation_prompt=True, return_dict=False)
    assert ours.encode_chat(chat) == expected
    for message in chat:
        assert ours.encode(message["content"]) == theirs(message["content"])["input_ids"]


@pytest.mark.parametrize("message", FIELDS)
def test_what_else_a_message_has_reaches_the_template_as_in_transformers(
    folder: Path, message: dict[str, Any]
) -> None:
    ours = with_template(folder, "{{ messages | tojson }}")
    theirs = AutoTokenizer.from_pretrained(folder)
    expected = theirs.apply_chat_template([message], tokenize=False, add_generation_prompt=True)
    assert ours.render([message]) == expected


@pytest.mark.model
@pytest.mark.parametrize("chat", CHATS)
def test_smollm2_ids_equal_those_of_transformers(
    smollm2: PreparedModel, chat: list[dict[str, str]]
) -> None:
    ours = ChatTokenizer(smollm2.path)
    theirs = AutoTokenizer.from_pretrained(smollm2.path)
    expected = theirs.apply_chat_template(chat, add_generation_prompt=True, return_dict=False)
    assert ours.encode_chat(chat) == expected
    assert ours.decode(expected) == theirs.decode(expected, skip_special_tokens=True)
    assert ours.eos_ids == (2,)


def test_time_in_a_template_is_an_argument(folder: Path) -> None:
    tokenizer = with_template(folder, "{{ strftime_now('%d %b %Y') }}")
    assert tokenizer.render(CHATS[0]) == "02 Jan 2025"


def test_a_template_that_refuses_gives_its_reason(folder: Path) -> None:
    tokenizer = with_template(folder, "{{ raise_exception('roles must alternate') }}")
    with pytest.raises(InvalidText, match="roles must alternate"):
        tokenizer.encode_chat(CHATS[0])


@pytest.mark.parametrize(
    "template",
    ["{{ ''.__class__.__mro__[1].__subclasses__() }}", "{{ messages.append(1) }}"],
)
def test_a_template_cannot_leave_the_sandbox(folder: Path, template: str) -> None:
    with pytest.raises(InvalidModel, match="may not"):
        with_template(folder, template).encode_chat(CHATS[0])


def test_a_broken_template_is_the_models_fault(folder: Path) -> None:
    with pytest.raises(InvalidModel, match="broken"):
        with_template(folder, "{% for %}")


@pytest.mark.parametrize(
    "messages",
    [[], [{"role": "user"}], [{"role": "user", "content": None}], [{"role": 1, "content": "x"}]],
)
def test_malformed_conversations_are_refused(folder: Path, messages: list[dict[str, str]]) -> None:
    with pytest.raises(InvalidText):
        ChatTokenizer(folder).encode_chat(messages)


def test_without_a_template_chat_is_refused(folder: Path) -> None:
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(InvalidModel, match="no chat template"):
        ChatTokenizer(folder).encode_chat(CHATS[0])


def test_the_default_of_several_templates_is_used(folder: Path) -> None:
    (folder / "chat_template.jinja").unlink()
    several = [{"name": "tools", "template": "no"}, {"name": "default", "template": "yes"}]
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": several}))
    assert ChatTokenizer(folder).render(CHATS[0]) == "yes"


@pytest.mark.parametrize(
    ("generation", "expected"),
    [(None, (2,)), ({"eos_token_id": [5, 6]}, (5, 6)), ({"eos_token_id": 7}, (7,)), ({}, ())],
)
def test_eos_ids_are_those_of_the_generation_config_where_there_is_one(
    folder: Path, generation: dict[str, object] | None, expected: tuple[int, ...]
) -> None:
    if generation is not None:
        (folder / "generation_config.json").write_text(json.dumps(generation))
    assert ChatTokenizer(folder).eos_ids == expected


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"\xff\xfe"])
def test_a_damaged_tokenizer_is_a_typed_error(folder: Path, content: bytes) -> None:
    (folder / "tokenizer.json").write_bytes(content)
    with pytest.raises(InvalidModel):
        ChatTokenizer(folder)


@pytest.fixture(scope="module")
def byte_tokenizer(tmp_path_factory: pytest.TempPathFactory) -> ChatTokenizer:
    folder = tmp_path_factory.mktemp("bytes")
    save_tokenizer(folder)
    return ChatTokenizer(folder)


@given(text=st.text(max_size=40))
def test_streamed_pieces_join_to_the_whole_text(byte_tokenizer: ChatTokenizer, text: str) -> None:
    """One token is one byte here, so every character of two bytes and more is split."""
    ids = byte_tokenizer.encode(text)
    stream = byte_tokenizer.stream()
    pieces = [stream.push(token) for token in ids]
    if "�" not in text:
        assert not any("�" in piece for piece in pieces)
    assert "".join(pieces) + stream.finish() == byte_tokenizer.decode(ids)


@given(ids=st.lists(st.integers(3, 258), max_size=30))
def test_streaming_bytes_that_are_no_text_loses_nothing(
    byte_tokenizer: ChatTokenizer, ids: list[int]
) -> None:
    stream = byte_tokenizer.stream()
    pieces = [stream.push(token) for token in ids]
    assert "".join(pieces) + stream.finish() == byte_tokenizer.decode(ids)


@pytest.mark.model
def test_smollm2_streams_words(smollm2: PreparedModel) -> None:
    tokenizer = ChatTokenizer(smollm2.path)
    text = "The capital of France is Paris. 日本語 👩‍👩‍👧 done."
    stream = tokenizer.stream()
    pieces = [stream.push(token) for token in tokenizer.encode(text)]
    assert "".join(pieces) + stream.finish() == text
    assert pieces[1] == " capital"


def test_the_control_process_stays_free_of_torch(
    tiny_model: Callable[[str], PreparedModel],
) -> None:
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from pipeline.models.tokenizer import ChatTokenizer\n"
        "from pipeline.models.store import list_models, open_model\n"
        "from pipeline.models.layout import LayerTable\n"
        "model = open_model(Path('.'), sys.argv[1])\n"
        "model.verify(); model.layer_table(); ChatTokenizer(model.path)\n"
        "assert not {'torch', 'transformers'} & sys.modules.keys()\n"
    )
    path = str(tiny_model("llama").path)
    subprocess.run([sys.executable, "-c", program, path], check=True, timeout=60)
