"""Nothing that a stranger says steers the terminal on which it is shown."""

from __future__ import annotations

import io
import json
import logging
import sys
import unicodedata
from collections.abc import Callable

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from node.cli import _report
from node.console.clean import clean, clean_json
from node.console.output import complain, print_json, say, show_table, write_line
from node.console.progress import shown_progress
from node.errors import InputError
from node.logs import configure_logging

OSC_52 = "\x1b]52;c;cm0gLXJmIH4=\x07"
CONTROLS = [OSC_52, "\x1b[2J", "\x9b31m", "\x90q\x9c", "\r", "\n", "\t", "\x7f", "\x00", "\u2028"]
HIDDEN = ["\u202egnp.exe", "\u2066", "\ud800", "\U000e0041"]
MARKUP = ["[bold red]", "[/]", "[link=x]", ":skull:"]
PIECES = st.sampled_from([*CONTROLS, *HIDDEN, *MARKUP])
HOSTILE = st.lists(PIECES | st.text(max_size=8), max_size=12).map("".join)


def obeyed(shown: str) -> set[str]:
    """Characters of some output that a terminal obeys or that mislead whoever reads it."""
    kinds = {"Cc", "Cs", "Zl", "Zp"}
    bidi = {chr(code) for code in (*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x200E, 0x200F)}
    return {c for c in shown if c != "\n" and (unicodedata.category(c) in kinds or c in bidi)}


def captured(monkeypatch: pytest.MonkeyPatch, write: Callable[[], object]) -> str:
    """What `write` puts on stdout and stderr, both said to be terminals."""
    stream = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    stream.isatty = lambda: True  # type: ignore[method-assign]
    with monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", stream)
        patched.setattr(sys, "stderr", stream)
        patched.setenv("TERM", "dumb")
        write()
    stream.seek(0)
    return stream.read()


@given(HOSTILE)
def test_cleaned_text_is_one_harmless_line_or_lines(text) -> None:
    assert not obeyed(clean(text))
    assert "\n" not in clean(text)
    assert not obeyed(clean(text, lines=True))
    assert clean(text, lines=True).count("\n") == text.count("\n")


@given(st.text(st.characters(categories=["L", "N", "P", "S", "Zs", "M"], max_codepoint=0xDFFFF)))
def test_what_is_harmless_stays_as_it_is(text) -> None:
    assert clean(text) == text


def test_what_was_there_can_be_seen() -> None:
    assert clean(OSC_52) == "\\x1b]52;c;cm0gLXJmIH4=\\x07"
    assert clean("a\u202eb\nc") == "a\\u202eb\\nc"


def test_length_is_bounded_and_said() -> None:
    assert clean("x" * 100, limit=10) == "x" * 10 + "… (90 more characters)"
    assert len(clean("\x1b" * 10**6, limit=10)) < 100


@given(HOSTILE)
def test_json_says_the_same_and_steers_nothing(text) -> None:
    shown = clean_json({text: [text]})
    assert not obeyed(shown)
    assert json.loads(shown) == {text: [text]}


def _log(text: str) -> None:
    configure_logging("console", "info")
    log = structlog.get_logger()
    log.warning(text, reason=text, nested={text: [text, (text,)]}, error=ValueError(text))
    logging.getLogger("library").warning("said %s", text)
    try:
        raise ValueError(text)
    except ValueError:
        log.exception("it failed")
        logging.getLogger("library").exception("failed")


def _bug(text: str) -> None:
    _report(RuntimeError(text), debug=True)


WAYS: dict[str, Callable[[str], object]] = {
    "say": say,
    "say lines": lambda text: say(text, lines=True, err=True),
    "table": lambda text: show_table(text, (text, text), [(text, text), (text, "x")]),
    "json": lambda text: print_json({text: text}),
    "error": lambda text: _report(InputError(text, text), debug=False),
    "bug": _bug,
    "complaint": complain,
    "log": _log,
}


@pytest.mark.parametrize("way", WAYS)
@given(text=HOSTILE)
def test_no_way_out_lets_a_terminal_be_steered(way, text) -> None:
    with pytest.MonkeyPatch.context() as patched:
        level, handlers = logging.getLogger().level, logging.getLogger().handlers[:]
        try:
            shown = captured(patched, lambda: WAYS[way](text))
        finally:
            logging.getLogger().handlers[:] = handlers
            logging.getLogger().setLevel(level)
            structlog.reset_defaults()
    if way == "log":
        shown = _without_colours(shown)
    assert not obeyed(shown)


def _without_colours(shown: str) -> str:
    """The renderer's own colours are not a stranger's."""
    for code in ("0", "1", "2", "22", "30", "31", "32", "33", "34", "35", "36", "91", "41", "1;31"):
        shown = shown.replace(f"\x1b[{code}m", "")
    return shown


@given(HOSTILE)
def test_markup_is_shown_and_not_followed(text) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("COLUMNS", "4000")
        shown = captured(patched, lambda: show_table("t", ("c",), [("[red]x[/red]" + text,)]))
    assert "[red]x[/red]" in shown


def test_what_the_encoding_lacks_is_escaped() -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    write_line(stream, "é→")
    stream.seek(0)
    assert stream.read() == "\\xe9\\u2192\n"


@given(HOSTILE)
def test_progress_without_a_terminal_is_clean(text) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    with shown_progress(stream) as report:
        report(text, 1, 2)
    stream.seek(0)
    assert not obeyed(stream.read())
