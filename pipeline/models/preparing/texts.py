"""The files of a prepared model that are no weights: configuration, generation settings, tokenizer.

What a prepared model's tokenizer does is what transformers does with the checkpoint's. That is more
than tokenizer.json: classes of transformers put parts of their own around it, tokenizer_config.json
adds tokens, and truncation or padding that somebody left switched on is not applied. So the
tokenizer is loaded by transformers once, here; where what it made differs from the files, its own
is written; and at the end some texts and conversations must give the same ids both ways.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from pipeline.models.errors import InvalidModel, InvalidText, UnsupportedModel
from pipeline.models.generation import FILE as GENERATION
from pipeline.models.generation import generation_of
from pipeline.models.preparing.checkpoint import read_json
from pipeline.models.tokenizer import TEMPLATE_ERRORS, ChatTokenizer, load_tokenizer

_COPIED = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
)
_VOLATILE = ("transformers_version", "_name_or_path", "_model_name_or_path", "torch_dtype")
_TEXTS = (
    "The quick brown fox, 3.14 times; don't!",
    "  two  spaces\n\n\ttab ",
    "naïve café Grüße 漢字 Привет مرحبا 👩\u200d👩\u200d👧 \u00a0x",
    "<s>[INST] </s> <|im_start|> <pad> <unk>",
    "for i in range(10):\n    print(i ** 2)\r\n",
)
_CHATS = (
    [{"role": "user", "content": _TEXTS[0]}],
    [{"role": "system", "content": "Be brief."}, {"role": "user", "content": _TEXTS[2]}],
    [
        {"role": "user", "content": _TEXTS[1]},
        {"role": "assistant", "content": _TEXTS[4]},
        {"role": "user", "content": _TEXTS[3]},
    ],
)


def write_config(path: Path, settings: dict[str, Any], changes: dict[str, Any]) -> None:
    """A config.json with `changes`, without what only says who wrote it."""
    write_json(path, settings | changes)


def write_json(path: Path, settings: dict[str, Any]) -> None:
    """Settings in one fixed form, so that equal ones are equal bytes."""
    kept = {key: value for key, value in settings.items() if key not in _VOLATILE}
    path.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def write_generation(
    source: Path, folder: Path, settings: dict[str, Any], without: frozenset[str]
) -> None:
    """Copy the generation settings where the checkpoint has such a file; `settings` are those of
    its config.json, which count where it has none.

    Args:
        without: settings that the model is served without.

    Raises:
        UnsupportedModel: they ask for what nothing here does, or `without` names what they do not
            ask for.
        InvalidModel: a value is wrong.
    """
    path = source / GENERATION
    found = read_json(path) if path.is_file() else None
    where = path if found is not None else source / "config.json"
    foreign = generation_of(settings if found is None else found, str(where)).foreign
    if needless := sorted(without.difference(foreign)):
        raise UnsupportedModel(
            f"{where}: {', '.join(needless)}: not among the settings that a model can be served "
            f"without, which are here: {', '.join(foreign) or 'none'}"
        )
    if rest := [name for name in foreign if name not in without]:
        raise UnsupportedModel(
            f"{where}: {', '.join(rest)}: no such setting exists here, and without it answers "
            "would differ from those of transformers; to serve the model all the same, run "
            f"`prime-node model get` with {' '.join(f'--without {name}' for name in foreign)}"
        )
    if found is not None:
        write_json(folder / GENERATION, {k: v for k, v in found.items() if k not in without})


def write_tokenizer(source: Path, folder: Path) -> None:
    """Write the checkpoint's tokenizer, as transformers has it.

    Raises:
        UnsupportedModel: there is none of a kind that is read, or the two differ all the same.
        InvalidModel: a file is not well-formed.
    """
    if not (source / "tokenizer.json").is_file():
        raise UnsupportedModel(
            f"{source}/tokenizer.json is missing, and other tokenizers are not read; load the "
            "tokenizer with transformers (AutoTokenizer) and save_pretrained it there"
        )
    for name in _COPIED:
        if (source / name).is_file():
            shutil.copyfile(source / name, folder / name)
    theirs = _load(source)
    ours = load_tokenizer(folder / "tokenizer.json", (folder / "tokenizer.json").read_bytes())
    backend = theirs.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    made = backend.to_str()
    if json.loads(made) != json.loads(ours.to_str()):
        (folder / "tokenizer.json").write_text(made, encoding="utf-8")
    special = {name: str(token) for name, token in theirs.special_tokens_map.items()}
    template = _template(theirs)
    found = ChatTokenizer(folder)
    if found.special_tokens != special:
        write_json(folder / "special_tokens_map.json", special)
        path = folder / "tokenizer_config.json"
        settings = read_json(path) if path.is_file() else {}
        write_json(path, {k: v for k, v in settings.items() if k not in found.special_tokens})
    if found.template != template:
        (folder / "chat_template.jinja").write_text(template or "", encoding="utf-8", newline="")
    _compare(source, ChatTokenizer(folder), theirs)


def _load(source: Path) -> Any:
    try:
        found = AutoTokenizer.from_pretrained(
            source, local_files_only=True, trust_remote_code=False, use_fast=True
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ImportError) as exc:
        lines = str(exc).strip().splitlines() or [type(exc).__name__]
        raise InvalidModel(
            f"{source}/tokenizer_config.json, tokenizer.json: transformers cannot load the "
            f"tokenizer: {lines[0][:300]}"
        ) from exc
    if not getattr(found, "is_fast", False) or getattr(found, "split_special_tokens", False):
        raise UnsupportedModel(
            f"{source}/tokenizer_config.json: tokenizer_class {type(found).__name__} is none that "
            "tokenizer.json can hold"
        )
    return found


def _template(theirs: Any) -> str | None:
    try:
        found: str = theirs.get_chat_template()
    except ValueError:
        return None
    return found


def _compare(source: Path, ours: ChatTokenizer, theirs: Any) -> None:
    for text in _TEXTS:
        if ours.encode(text) != theirs(text)["input_ids"]:
            raise UnsupportedModel(
                f"{source}/tokenizer_config.json: transformers makes other ids of {text!r} than "
                "tokenizer.json"
            )
    if ours.template is None:
        return
    for chat in _CHATS:
        try:
            expected = theirs.apply_chat_template(
                chat, add_generation_prompt=True, return_dict=False
            )
        except TEMPLATE_ERRORS:
            expected = None
        try:
            found = ours.encode_chat(chat)
        except InvalidText:
            found = None
        if found != expected:
            raise UnsupportedModel(
                f"{source}: transformers makes other ids of a conversation than its chat template "
                "and tokenizer.json"
            )
