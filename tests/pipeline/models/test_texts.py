"""Tokenizers of other make, written as transformers has them: the same ids of any text."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import AutoTokenizer

from pipeline.models.preparing.texts import write_tokenizer
from pipeline.models.tokenizer import ChatTokenizer
from tests.pipeline.model_zoo import edit_json
from tests.pipeline.tiny_models import CHAT_TEMPLATE

CORPUS = [
    "The quick brown fox jumps over the lazy dog. Don't stop, it's 3.14 times.",
    "for i in range(10):\n    print(i ** 2)\n\n\tdone",
    "Straße, café, naïve, Übergröße, 漢字かな交じり, Привет мир, مرحبا",
] * 3
SPECIAL = ["<unk>", "<s>", "</s>", "<pad>"]
USED = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}


def byte_level() -> Tokenizer:
    """Pieces of bytes, as GPT-2, Llama 3 and Qwen have them."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def byte_fallback() -> Tokenizer:
    """Pieces of characters with bytes for the rest, as Llama 2, Mistral and Gemma have them."""
    names = SPECIAL + [f"<0x{byte:02X}>" for byte in range(256)]
    pieces = ["▁", *"abcdefghijklmnopqrstuvwxyz", "▁t", "th", "▁th", "in"]
    vocab = {piece: number for number, piece in enumerate([*names, *pieces])}
    merges = [("▁", "t"), ("t", "h"), ("▁t", "h"), ("i", "n")]
    model = models.BPE(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)]
    )
    tokenizer.add_special_tokens(SPECIAL)
    return tokenizer


def unigram() -> Tokenizer:
    """A table of pieces with their likelihoods, as T5 has it."""
    pieces = [*SPECIAL, "▁", "▁the", "the", "e", "t", "h", "a", "n", "s", "ß", "漢"]
    model = models.Unigram([(piece, -float(i)) for i, piece in enumerate(pieces)], unk_id=0)
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.add_special_tokens(SPECIAL)
    return tokenizer


def save(folder: Path, make: Callable[[], Tokenizer], **changes: Any) -> Path:
    folder.mkdir()
    tokenizer = make()
    tokenizer.add_tokens([AddedToken("<tool>", lstrip=True), AddedToken("word", single_word=True)])
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "chat_template.jinja").write_text("{{ bos_token }}" + CHAT_TEMPLATE, encoding="utf-8")
    (folder / "config.json").write_text('{"model_type": "llama"}')
    edit_json(folder, "tokenizer_config.json", **{**USED, **changes})
    return folder


KINDS: list[tuple[Callable[[], Tokenizer], dict[str, Any]]] = [
    (byte_level, {"tokenizer_class": "PreTrainedTokenizerFast"}),
    (byte_level, {"tokenizer_class": "GPT2Tokenizer", "add_prefix_space": True}),
    (byte_level, {"tokenizer_class": "Qwen2Tokenizer"}),
    (byte_level, {"tokenizer_class": "GPTNeoXTokenizerFast", "add_bos_token": True}),
    (byte_fallback, {"tokenizer_class": "PreTrainedTokenizerFast"}),
    (byte_fallback, {"tokenizer_class": "LlamaTokenizer", "legacy": False}),
    (byte_fallback, {"tokenizer_class": "LlamaTokenizerFast", "add_eos_token": True}),
    (byte_fallback, {"tokenizer_class": "GemmaTokenizer", "add_bos_token": False}),
    (unigram, {"tokenizer_class": "PreTrainedTokenizerFast"}),
    (unigram, {"model_max_length": 5, "truncation_side": "left"}),
]


@pytest.fixture(scope="module", params=KINDS, ids=lambda kind: kind[0].__name__)
def pair(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[ChatTokenizer, Any]:
    """A tokenizer as it was prepared, and as transformers loads it."""
    root = tmp_path_factory.mktemp("tokenizer")
    make, changes = request.param
    source = save(root / "source", make, **changes)
    target = root / "target"
    target.mkdir()
    write_tokenizer(source, target)
    (target / "config.json").write_text("{}")
    return ChatTokenizer(target), AutoTokenizer.from_pretrained(source)


texts = st.lists(
    st.sampled_from(["the", " ", "<s>", "</s>", "<tool>", " word", "ß", "漢字", "\n", "Don't"])
    | st.text(max_size=5)
).map("".join)


@settings(max_examples=20, deadline=None)
@given(text=texts)
def test_any_text_has_the_same_ids(pair: tuple[ChatTokenizer, Any], text: str) -> None:
    ours, theirs = pair
    assert ours.encode(text) == theirs(text)["input_ids"]
    chat = [{"role": "user", "content": text}]
    assert ours.encode_chat(chat) == theirs.apply_chat_template(
        chat, add_generation_prompt=True, return_dict=False
    )
