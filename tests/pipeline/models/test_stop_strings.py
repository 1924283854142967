"""Stop strings, with the tokenizers of real models."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pipeline.models.prepared import PreparedModel
from pipeline.models.stop_strings import StopStringWatch, read_stop
from pipeline.models.tokenizer import ChatTokenizer
from proofs.evidence.endings import NO_STOP, StopReading


@pytest.fixture(scope="module")
def tokenizer(tiny_model: Callable[[str], PreparedModel]) -> ChatTokenizer:
    return ChatTokenizer(tiny_model("llama").path)  # one token a byte


def watch(tokenizer: ChatTokenizer, *stop: str, generated: str = "") -> StopStringWatch:
    return StopStringWatch(tokenizer, stop, tokenizer.encode(generated))


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


def test_a_validator_reads_a_finished_output_as_stage_0_did(tokenizer: ChatTokenizer) -> None:
    ids = tokenizer.encode("one. two. three")
    assert read_stop(tokenizer, ("two",), ids) == StopReading(8)
    assert read_stop(tokenizer, ("four", "th"), ids) == StopReading(12)
    assert read_stop(tokenizer, ("four",), ids) == NO_STOP
    assert read_stop(tokenizer, (), ids) == NO_STOP


def test_a_text_that_two_ways_of_decoding_see_differently_is_not_certain(
    tokenizer: ChatTokenizer,
) -> None:
    ids = tokenizer.encode("endü")[:-1]  # half a character, which the stream holds back
    assert read_stop(tokenizer, ("\ufffd",), ids) == StopReading(None, certain=False)
