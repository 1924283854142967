"""Prompts files: one JSON object per line.

    {"prompt": "Why is the sky blue?"}
    {"id": "q2", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 64, "seed": 7}

`prompt` is short for a single user message. Optional: id, max_tokens, temperature (0 is greedy),
top_p, top_k (0 is off), seed (without one: noise that nobody chose), stop (a text or a list). What
is not said of sampling is as the model's own settings have it. Empty lines are skipped. Every error
names the file and the line. Sizes are bounded before anything is parsed.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Iterator, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from node.errors import InputError
from proofs.encoding.jsontext import parse_json
from proofs.sampling.temperature import Temperature

MAX_LINE = 1 << 20
MAX_FILE = 1 << 28
MAX_PROMPTS = 100_000
_Content = Annotated[str, Field(min_length=1, max_length=256 * 1024)]
_Stop = Annotated[str, Field(min_length=1, max_length=256)]


class PromptsError(InputError):
    """A prompts file that cannot be used; the message names the file and the line."""


class Message(BaseModel):
    """One turn of a conversation."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    role: Literal["system", "user", "assistant"]
    content: _Content


def _one_or_many(value: object) -> object:
    return (value,) if isinstance(value, str) else value


class Prompt(BaseModel):
    """One conversation to complete and how to sample its answer.

    `max_tokens` None leaves it to the node; `temperature`, `top_p` and `top_k` None leave them to
    the model. `seed` picks the sampling noise: the same seed gives
    the same tokens. None leaves it to chance that falls after the job was accepted.
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

    @model_validator(mode="before")
    @classmethod
    def _expand_prompt(cls, data: Any) -> Any:
        if not isinstance(data, dict) or "prompt" not in data:
            return data
        if "messages" in data:
            raise ValueError('give "prompt" or "messages", not both')
        rest = {key: value for key, value in data.items() if key != "prompt"}
        return rest | {"messages": [{"role": "user", "content": data["prompt"]}]}


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
    if first["type"] == "extra_forbidden":
        known = [*Prompt.model_fields, "prompt"] if len(first["loc"]) == 1 else ["role", "content"]
        near = difflib.get_close_matches(str(first["loc"][-1]), known, n=1)
        message = f"unknown; did you mean {near[0]}?" if near else f"unknown; {', '.join(known)}"
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
            raise PromptsError(f"{where}: not UTF-8 text") from exc
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
