"""Text to token ids and back, without torch or transformers.

A prepared model carries its fast tokenizer and its chat template. Templates are Jinja programs that
came with the model, so they run in Jinja's sandbox, with the settings and helper functions that
transformers gives them; the ids are the same as `apply_chat_template` makes. Truncation and padding
that a tokenizer.json says are not applied: a prompt is whole, or it is refused as too long.

Decoding token by token has a catch: a token can end in the middle of a UTF-8 character, and some
tokenizers let a token's text depend on its neighbours (leading spaces). `StreamDecoder` decodes a
short window over and over and hands out only what later tokens cannot change.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn, Protocol

from jinja2 import TemplateError, nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace
from tokenizers import Tokenizer

from pipeline.models.errors import InvalidModel, InvalidText, unreadable
from pipeline.models.generation import FILE as GENERATION
from pipeline.models.generation import Generation, generation_of
from proofs.encoding.jsontext import parse_json

MAX_TEXT = 8 * 2**20
_MAX_JSON = 64 * 2**20
MAX_HELD = 32
_REPLACEMENT = "�"
REASONING = ("reasoning_content", "thinking", "reasoning")
TEMPLATE_ERRORS = (TemplateError, TypeError, ValueError, LookupError, ArithmeticError)
"""What a template raises that does not like a conversation."""
SPECIAL_TOKENS = (
    "bos_token",
    "eos_token",
    "unk_token",
    "sep_token",
    "pad_token",
    "cls_token",
    "mask_token",
)
"""What a template may name; whatever else a model calls a token is not handed to it."""


class ModelFiles(Protocol):
    """What is needed of `pipeline.models.prepared.PreparedModel`: its files, hashed as they are
    read."""

    @property
    def path(self) -> Path:
        """Its folder."""

    def has(self, name: str) -> bool:
        """Whether the manifest lists a file."""
        ...

    def read(self, name: str, most: int = ...) -> bytes:
        """The content of a file of at most `most` bytes. Raises `InvalidModel`."""
        ...


class _Generation(Extension):
    """`{% generation %}` marks what the assistant says, for training; it renders as its body."""

    tags = {"generation"}  # noqa: RUF012 - as jinja2 declares it

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _Namespace(Namespace):
    """What templates keep variables in; as for transformers, none whose name begins with "_"."""

    def __init__(*args: Any, **kwargs: Any) -> None:
        for name in dict(*args[1:], **kwargs):
            _check_name(name)
        Namespace.__init__(*args, **kwargs)

    def __setitem__(self, name: str, value: Any) -> None:
        _check_name(name)
        super().__setitem__(name, value)


def _check_name(name: object) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise SecurityError(f"a namespace has no attribute {name!r}")


class ChatTokenizer:
    """The tokenizer of a prepared model, whose files are hashed as they are read, or of a folder.

    Args:
        model: the model, or a folder with tokenizer.json and config.json.
        now: what templates get as the current time when they ask for it.

    Raises:
        InvalidModel: files are missing or not well-formed.
    """

    def __init__(
        self, model: ModelFiles | Path, now: Callable[[], datetime] = datetime.now
    ) -> None:
        files = _Files(model)
        self._tokenizer = _read_tokenizer(files)
        settings = files.json("tokenizer_config.json")
        self.special_tokens = _special_tokens(files, settings)
        """bos_token, eos_token and so on, as the template may name them."""
        self.template = _template(files, settings)
        """The chat template; None where the model has none."""
        self.generation: Generation = _generation(files)
        """How the model wants its tokens chosen."""
        added = self._tokenizer.get_added_tokens_decoder()
        self.special: dict[str, int] = {t.content: i for i, t in added.items() if t.special}
        """Tokens that leave no text, with their ids."""
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
        )
        environment.filters["tojson"] = _to_json
        environment.globals["raise_exception"] = _refuse
        environment.globals["strftime_now"] = lambda form: now().strftime(form)
        environment.globals["namespace"] = _Namespace
        try:
            self._compiled = environment.from_string(self.template) if self.template else None
        except TemplateError as exc:
            raise InvalidModel(f"{files.folder}: its chat template is broken: {exc}") from exc

    @property
    def eos_ids(self) -> tuple[int, ...]:
        """Tokens that end a completion."""
        return self.generation.eos_ids

    @property
    def vocab_size(self) -> int:
        """Number of token ids that the tokenizer knows, added ones included."""
        return int(self._tokenizer.get_vocab_size(with_added_tokens=True))

    def encode(self, text: str) -> list[int]:
        """Ids of plain text, with the special tokens that the tokenizer puts around it.

        Raises:
            InvalidText: it is longer than `MAX_TEXT` characters.
        """
        return self._encode(text, special=True)

    def encode_chat(self, messages: Sequence[Mapping[str, Any]]) -> list[int]:
        """Ids of a conversation up to where the assistant is to answer.

        Args:
            messages: each with "role" and "content" texts.

        Raises:
            InvalidText: a message has another form, or the model's template refuses the
                conversation (for example its order of roles).
            InvalidModel: the model has no chat template.
        """
        return self._encode(self.render(messages), special=False)

    def render(self, messages: Sequence[Mapping[str, Any]]) -> str:
        """The prompt text that the model's template makes of a conversation; raises as above."""
        if self._compiled is None:
            raise InvalidModel("the model has no chat template: give it plain text")
        for message in messages:
            if not isinstance(message.get("role"), str) or not isinstance(
                message.get("content"), str
            ):
                raise InvalidText('a chat message is {"role": text, "content": text}')
        if not messages or sum(len(message["content"]) for message in messages) > MAX_TEXT:
            raise InvalidText(f"a conversation has 1 message or more, up to {MAX_TEXT} characters")
        try:
            return self._compiled.render(
                messages=[_with_reasoning(message) for message in messages],
                tools=None,
                documents=None,
                add_generation_prompt=True,
                **self.special_tokens,
            )
        except SecurityError as exc:
            raise InvalidModel(f"the chat template does what it may not: {exc}") from exc
        except TEMPLATE_ERRORS as exc:
            raise InvalidText(
                f"the model's chat template refuses this conversation: {exc}"
            ) from exc

    def decode(self, ids: Iterable[int]) -> str:
        """Text of token ids; special tokens leave no text."""
        text: str = self._tokenizer.decode(list(ids), skip_special_tokens=True)
        return text

    def stream(self) -> StreamDecoder:
        """A decoder for one growing sequence."""
        return StreamDecoder(self)

    def _encode(self, text: str, *, special: bool) -> list[int]:
        if len(text) > MAX_TEXT:
            raise InvalidText(f"text of {len(text)} characters; at most {MAX_TEXT} are taken")
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=special).ids
        return ids


def _with_reasoning(message: Mapping[str, Any]) -> dict[str, Any]:
    """What an earlier answer thought under the names that templates know it by, as in
    transformers; fields that are null are not there."""
    given = {key: value for key, value in message.items() if value is not None}
    found = next((given[key] for key in REASONING if key in given), None)
    return given if found is None else {"thinking": found, **given, "reasoning_content": found}


class StreamDecoder:
    """Gives the text of a sequence piece by piece; the pieces joined are the whole text.

    The first `_read` of the tokens held are given already and kept as context for those after them.
    A run of `MAX_HELD` tokens that are no text (a character has at most four) is given as it is, so
    that nonsense cannot make the window grow.
    """

    def __init__(self, tokenizer: ChatTokenizer) -> None:
        self._tokenizer = tokenizer
        self._ids: list[int] = []
        self._read = 0

    def push(self, token_id: int) -> str:
        """Take the next token; returns the text that became final with it, often none or a word."""
        self._ids.append(token_id)
        text = self._window()
        if text.endswith(_REPLACEMENT) and len(self._ids) - self._read < MAX_HELD:
            # Perhaps the first bytes of a character whose rest is to come.
            return ""
        return self._take(text)

    def finish(self) -> str:
        """The text still held back, with U+FFFD for bytes that are no character."""
        return self._take(self._window())

    def _window(self) -> str:
        return self._tokenizer.decode(self._ids)

    def _take(self, text: str) -> str:
        given = self._tokenizer.decode(self._ids[: self._read])
        self._ids = self._ids[self._read :]
        self._read = len(self._ids)
        return text[len(given) :]


class _Files:
    """Files of a model by name: those of its manifest, or whatever lies in a folder."""

    def __init__(self, model: ModelFiles | Path) -> None:
        self._model = model
        self.folder = model if isinstance(model, Path) else model.path

    def read(self, name: str) -> bytes | None:
        """The content, None where there is no such file. Raises `InvalidModel`."""
        if not isinstance(self._model, Path):
            return self._model.read(name, _MAX_JSON) if self._model.has(name) else None
        path = self.folder / name
        try:
            if not path.is_file():
                return None
            if path.stat().st_size > _MAX_JSON:
                raise InvalidModel(f"{path} is larger than {_MAX_JSON} bytes")
            return path.read_bytes()
        except OSError as exc:
            raise unreadable(path, exc) from exc

    def json(self, name: str) -> dict[str, Any]:
        """A JSON object, or an empty one where there is no such file."""
        content = self.read(name)
        if content is None:
            return {}
        try:
            found = parse_json(content)
        except ValueError as exc:
            raise InvalidModel(f"{self.folder / name} cannot be read as JSON: {exc}") from exc
        if not isinstance(found, dict):
            raise InvalidModel(f"{self.folder / name} is not a JSON object")
        return found


def load_tokenizer(path: Path, content: bytes) -> Tokenizer:
    """The tokenizer in the content of the file at `path`, without truncation and padding. Raises
    `InvalidModel`."""
    try:
        found = Tokenizer.from_buffer(content)
    except ValueError as exc:
        raise InvalidModel(f"{path} is no tokenizer: {exc}") from exc
    found.no_truncation()
    found.no_padding()
    return found


def _read_tokenizer(files: _Files) -> Tokenizer:
    path = files.folder / "tokenizer.json"
    content = files.read(path.name)
    if content is None:
        raise InvalidModel(f"{path} is missing; prepare the model again")
    return load_tokenizer(path, content)


def _generation(files: _Files) -> Generation:
    name = GENERATION if files.read(GENERATION) is not None else "config.json"
    return generation_of(files.json(name), str(files.folder / name))


def _special_tokens(files: _Files, settings: Mapping[str, Any]) -> dict[str, str]:
    found = {**settings, **files.json("special_tokens_map.json")}
    tokens = {}
    for name in SPECIAL_TOKENS:
        value = found.get(name)
        text = value.get("content") if isinstance(value, dict) else value
        if isinstance(text, str):
            tokens[name] = text
    return tokens


def _template(files: _Files, settings: Mapping[str, Any]) -> str | None:
    name = "chat_template.jinja"
    if (content := files.read(name)) is not None:
        try:
            return content.decode()
        except UnicodeDecodeError as exc:
            raise InvalidModel(f"{files.folder / name} cannot be read: {exc}") from exc
    found = settings.get("chat_template")
    if isinstance(found, list):
        named = {
            entry.get("name"): entry.get("template") for entry in found if isinstance(entry, dict)
        }
        found = named.get("default")
    return found if isinstance(found, str) else None


def _to_json(value: Any, **options: Any) -> str:
    """Unlike Jinja's own filter this does not escape for HTML: it is a prompt."""
    return json.dumps(value, ensure_ascii=options.pop("ensure_ascii", False), **options)


def _refuse(message: str) -> NoReturn:
    raise TemplateError(message)
