"""Stop strings, with the tokenizers of real models."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pipeline.engine.ring.stop_strings import StopStringWatch
from pipeline.models.prepared import PreparedModel
from pipeline.models.tokenizer import ChatTokenizer
from tests.pipeline.engine.sequences import make_spec

EOS = 2


@pytest.fixture(scope="module")
def tokenizer(tiny_model: Callable[[str], PreparedModel]) -> ChatTokenizer:
    return ChatTokenizer(tiny_model("llama").path)  # one token a byte


def watch(tokenizer: ChatTokenizer, *stop: str, generated: str = "") -> StopStringWatch:
    spec = make_spec(
        bytes(16),
        (5,),
        generated=tuple(tokenizer.encode(generated)),
        max_tokens=1000,
        stop=stop,
        eos_ids=(EOS,),
    )
    return StopStringWatch(tokenizer, spec)


def push_until_stopped(watched: StopStringWatch, ids: list[int]) -> int | None:
    """How many tokens went in when the watch stopped."""
    return next((n for n, token in enumerate(ids, 1) if watched.push(token)), None)


@pytest.mark.parametrize(
    ("text", "stop", "taken"),
    [
        ("one. two", ("two",), 8),
        ("one. two", (". ",), 5),
        ("one. two", ("x", "n"), 2),
        ("ab aab aaab!", ("aaab",), 11),
        ("grün, grün", ("ün",), 5),
        ("grün", ("ü",), 4),
        ("🙂🙂", ("🙂🙂",), 8),
        ("one. two", ("three",), None),
        ("one", (), None),
    ],
)
def test_a_stop_string_is_seen_with_its_last_token(
    tokenizer: ChatTokenizer, text: str, stop: tuple[str, ...], taken: int | None
) -> None:
    assert push_until_stopped(watch(tokenizer, *stop), tokenizer.encode(text)) == taken


def test_a_stop_string_may_begin_in_the_text_of_an_earlier_ring(tokenizer: ChatTokenizer) -> None:
    watched = watch(tokenizer, "end", generated="the e")
    assert not watched.stopped
    assert push_until_stopped(watched, tokenizer.encode("nd")) == 2
    assert watch(tokenizer, "end", generated="the end").stopped
