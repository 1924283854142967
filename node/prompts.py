"""Prompts files: one JSON object per line.

    {"prompt": "Why is the sky blue?"}
    {"id": "q2", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 64, "seed": 7}

`prompt` is short for a single user message. Optional: id, max_tokens, temperature (0 is greedy),
top_p, top_k (0 is off), seed (without one: noise that nobody chose), stop (a text or a list). What
is not said of sampling is as the model's own settings have it. Empty lines are skipped. Every error
names the file and the line. Sizes are bounded before anything is parsed.

Files that other programs wrote are taken as they are: null is a setting that was not given, content
may be parts of text (`parts` below), a BOM and CRLF do not matter. What else stands beside a prompt
is kept as its `metadata`, unless it looks like a slip of the pen, or asks for something that is not
done here: nobody should find that out from the answers.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Iterator, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    ValidationError,
    model_validator,
)

from node.errors import InputError
from proofs.encoding.jsontext import parse_json
from proofs.sampling.temperature import Temperature

MAX_LINE = 1 << 20
MAX_FILE = 1 << 28
MAX_PROMPTS = 100_000
MAX_NOTES = 16 * 1024
"""Characters that may stand beside one prompt as JSON: its metadata, and what else its messages
have."""
_NOT_DONE: dict[str, object] = {
    "add_generation_prompt": True,
    "bad_words": [],
    "best_of": 1,
    "chat_template": "",
    "echo": False,
    "frequency_penalty": 0,
    "functions": [],
    "grammar": "",
    "guided_choice": [],
    "guided_grammar": "",
    "guided_json": {},
    "guided_regex": "",
    "ignore_eos": False,
    "json_schema": {},
    "length_penalty": 1,
    "logit_bias": {},
    "logprobs": False,
    "min_p": 0,
    "min_tokens": 0,
    "mirostat": 0,
    "n": 1,
    "num_beams": 1,
    "presence_penalty": 0,
    "repeat_penalty": 1,
    "repetition_penalty": 1,
    "response_format": {"type": "text"},
    "stop_token_ids": [],
    "structured_outputs": {},
    "suffix": "",
    "system": "",
    "tools": [],
    "top_logprobs": 0,
    "truncate_prompt_tokens": 0,
    "typical_p": 1,
    "use_beam_search": False,
}
"""Settings of other services that change the answer and that nothing here knows, with the values
that change nothing."""
_OTHER_NAMES = {
    "max_completion_tokens": "max_tokens",
    "max_new_tokens": "max_tokens",
    "max_output_tokens": "max_tokens",
    "stop_sequences": "stop",
    "stop_strings": "stop",
}
"""What other services call our settings."""
_NUMBERS = ("max_tokens", "temperature", "top_p", "top_k", "seed")
_Stop = Annotated[str, Field(min_length=1, max_length=256)]


class PromptsError(InputError):
    """A prompts file that cannot be used; the message names the file and the line."""


def parts(value: object) -> object:
    """A message's content given as parts of text, as one text: a line break between two parts."""
    if not isinstance(value, list):
        return value
    texts = []
    for part in value:
        text = part.get("text") if isinstance(part, dict) and part.get("type") == "text" else None
        if not isinstance(text, str):
            raise ValueError('only parts like {"type": "text", "text": "..."} are taken')
        texts.append(text)
    return "\n".join(texts)


_Content = Annotated[str, BeforeValidator(parts), Field(min_length=1, max_length=256 * 1024)]


def _given(data: dict[Any, Any]) -> dict[Any, Any]:
    return {key: value for key, value in data.items() if value is not None}


def _refuse_slip(key: str, known: Iterable[str]) -> None:
    near = difflib.get_close_matches(key, list(known), n=1, cutoff=0.85)
    if near:
        hint = 'what is only a note goes under "metadata"'
        raise ValueError(f'"{key}" is unknown; did you mean "{near[0]}"? ({hint})')


class Message(BaseModel):
    """One turn of a conversation. What else it has (a name, calls of tools) is for the model's
    template."""

    model_config = ConfigDict(frozen=True, extra="allow")

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: _Content

    @model_validator(mode="before")
    @classmethod
    def _read(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        for key in data.keys() - cls.model_fields.keys():
            _refuse_slip(str(key), cls.model_fields)
        return _given(data)

    def plain(self) -> dict[str, Any]:
        """As a dict of what it has."""
        return self.model_dump()


def _one_or_many(value: object) -> object:
    return (value,) if isinstance(value, str) else value


class Prompt(BaseModel):
    """One conversation to complete and how to sample its answer.

    `max_tokens` None leaves it to the node; `temperature`, `top_p` and `top_k` None leave them to
    the model. `seed` picks the sampling noise: the same seed gives the same tokens. None leaves it
    to chance that falls after the job was accepted. `metadata` is the owner's, and comes back
    beside the answer.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    messages: Annotated[tuple[Message, ...], Field(min_length=1, max_length=256)]
    id: Annotated[str, Field(max_length=128)] = ""
    max_tokens: Annotated[int, Field(ge=1, lt=2**20)] | None = None
    temperature: Temperature | None = None
    top_p: Annotated[float, Field(gt=0.0, le=1.0)] | None = None
    top_k: Annotated[int, Field(ge=0, lt=2**31)] | None = None
    seed: Annotated[int, Field(ge=0, lt=2**63)] | None = None
    stop: Annotated[tuple[_Stop, ...], BeforeValidator(_one_or_many), Field(max_length=16)] = ()
    metadata: dict[str, JsonValue] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _read(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        data = _given(data)
        if "prompt" in data:
            if "messages" in data:
                raise ValueError('give "prompt" or "messages", not both')
            data["messages"] = [{"role": "user", "content": data.pop("prompt")}]
        for other in _OTHER_NAMES.keys() & data.keys():
            if _OTHER_NAMES[other] in data:
                raise ValueError(f'give "{_OTHER_NAMES[other]}" or "{other}", not both')
            data[_OTHER_NAMES[other]] = data.pop(other)
        for name in _NUMBERS:
            if isinstance(data.get(name), bool):
                raise ValueError(f'"{name}" is a number, not true or false')
        notes = {key: data.pop(key) for key in sorted(data.keys() - cls.model_fields.keys())}
        for key in list(notes):
            if key not in _NOT_DONE:
                _refuse_slip(key, (*cls.model_fields, "prompt"))
            elif notes.pop(key) != _NOT_DONE[key]:
                raise ValueError(f'"{key}" is not done here; leave it out')
        metadata = data.get("metadata", {})
        if notes and isinstance(metadata, dict):
            data["metadata"] = {**notes, **metadata}
        return data

    @model_validator(mode="after")
    def _bounded(self) -> Prompt:
        extras = [message.model_extra for message in self.messages if message.model_extra]
        if len(json.dumps([self.metadata, extras])) > MAX_NOTES:
            raise ValueError(f"what stands beside the prompt is over {MAX_NOTES} characters")
        try:
            "".join(message.content for message in self.messages).encode()
            json.dumps([self.metadata, extras], ensure_ascii=False).encode()
        except UnicodeEncodeError as exc:
            lone = f"\\u{ord(exc.object[exc.start]):04x}"
            raise ValueError(
                f"{lone} alone is half of a character (of a surrogate pair), and no text can hold"
                " that: replace it, for example by \\ufffd"
            ) from exc
        return self


def parse_prompt(text: str, where: str) -> Prompt:
    """One line. Raises `PromptsError` starting with `where`."""
    try:
        return Prompt.model_validate(parse_json(text.encode()))
    except json.JSONDecodeError as exc:
        raise PromptsError(f"{where}: not JSON: {exc.msg} at column {exc.colno}") from exc
    except ValidationError as exc:
        raise PromptsError(f"{where}: {describe(exc)}") from exc
    except ValueError as exc:
        raise PromptsError(f"{where}: not JSON: {exc}") from exc


def describe(error: ValidationError) -> str:
    """The first problem of a validation error in one line: `field: what is wrong`."""
    first = error.errors()[0]
    path = ".".join(str(part) for part in first["loc"])
    message = str(first["msg"]).removeprefix("Value error, ")
    if path == "messages" and first["type"] == "missing":
        return 'needs "prompt" or "messages"'
    return f"{path}: {message}" if path else message


def parse_prompts(lines: Iterable[bytes], name: str) -> tuple[Prompt, ...]:
    """All prompts of an iterable of raw lines. Raises `PromptsError` with the line number."""
    prompts: list[Prompt] = []
    for where, prompt in _each(lines, name):
        if len(prompts) == MAX_PROMPTS:
            raise PromptsError(f"{where}: more than {MAX_PROMPTS} prompts", "split the file")
        prompts.append(prompt)
    if not prompts:
        raise PromptsError(f"{name}: no prompts", 'write lines like {"prompt": "Hello"}')
    return tuple(prompts)


def _each(lines: Iterable[bytes], name: str) -> Iterator[tuple[str, Prompt]]:
    """Prompts and where they are, one by one."""
    for number, raw in enumerate(lines, start=1):
        where = f"{name}:{number}"
        if len(raw) > MAX_LINE:
            raise PromptsError(f"{where}: the line is longer than {MAX_LINE} bytes")
        try:
            text = raw.decode("utf-8-sig" if number == 1 else "utf-8").strip()
        except UnicodeDecodeError as exc:
            raise PromptsError(f"{where}: not UTF-8 text", "save the file as UTF-8") from exc
        if not text:
            continue
        yield where, parse_prompt(text, where)


def load_prompts(path: Path) -> tuple[Prompt, ...]:
    """Read a prompts file. Raises `PromptsError`."""
    try:
        if path.stat().st_size > MAX_FILE:
            raise PromptsError(f"{path}: larger than {MAX_FILE} bytes", "split the file")
        with path.open("rb") as file:
            return parse_prompts(iter(lambda: file.readline(MAX_LINE + 1), b""), str(path))
    except OSError as exc:
        raise PromptsError(f"{path}: {exc.strerror}") from exc


def read_prompts(path: Path) -> Iterator[Prompt]:
    """The prompts of a file of any length, one by one. Raises `PromptsError`."""
    try:
        with path.open("rb") as file:
            lines = iter(lambda: file.readline(MAX_LINE + 1), b"")
            for _, prompt in _each(lines, str(path)):
                yield prompt
    except OSError as exc:
        raise PromptsError(f"{path}: {exc.strerror}") from exc


def prompt_line(prompt: Prompt) -> bytes:
    """A prompt as a line of a prompts file; the same prompt is the same line."""
    return prompt.model_dump_json(exclude_defaults=True).encode() + b"\n"


def shipped_prompts() -> Path:
    """The prompts file that comes with prime-node (24 short chats)."""
    return Path(str(files("node") / "data" / "prompts.jsonl"))


def job_body(prompts: Sequence[Prompt], key: str) -> dict[str, Any]:
    """The body of POST /v1/jobs; submitting again under the same `key` (not empty) is the same
    job."""
    lines = [prompt.model_dump(mode="json", exclude_defaults=True) for prompt in prompts]
    return {"prompts": lines, **({"key": key} if key else {})}
