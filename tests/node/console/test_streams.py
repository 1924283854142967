"""What cannot be written ends nothing: readers that went away, full disks, narrow encodings."""

from __future__ import annotations

import io
import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

import pytest
import structlog

from node.cli import main, run_cli
from node.console.behind import Behind, may_block
from node.console.output import complain, print_json, show_table
from node.console.signals import ending_signals
from node.console.streams import settle, show_anything
from node.logs import configure_logging
from tests.paths import ROOT

EMOJI = "grüße 🙂 от всех"


def without_reader() -> TextIO:
    read, write = os.pipe()
    os.close(read)
    return os.fdopen(write, "w")


def full_disk() -> TextIO:
    return Path("/dev/full").open("w")


@pytest.fixture(params=[without_reader, full_disk], ids=lambda made: made.__name__)
def broken(request: pytest.FixtureRequest) -> Iterator[Callable[[], TextIO]]:
    root = logging.getLogger()
    handlers, level, before = root.handlers[:], root.level, structlog.get_config()
    made: list[TextIO] = []

    def make() -> TextIO:
        made.append(request.param())
        return made[-1]

    yield make
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.configure(**before)
    for stream in made:
        os.close(os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno()))
        with suppress(OSError):
            stream.close()


def test_a_log_that_cannot_be_written_ends_nothing(
    broken: Callable[[], TextIO], capfd: pytest.CaptureFixture[str]
) -> None:
    for log_format in ("json", "console"):
        configure_logging(log_format, stream=broken())  # type: ignore[arg-type]
        for _ in range(3):
            structlog.get_logger("node").info("serving", text=EMOJI)
            logging.getLogger("hypercorn").warning("odd")
        settle(60.0)
    assert capfd.readouterr().err == ""


def test_an_error_that_nobody_can_read_keeps_its_exit_code(
    broken: Callable[[], TextIO], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", broken())
    complain("lost")
    assert run_cli(["submit", "/nowhere.jsonl"]) == 3


@pytest.mark.parametrize(("stream", "code"), [(without_reader, 1), (full_disk, 5)])
def test_results_that_cannot_be_written_are_no_success(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    stream: Callable[[], TextIO],
    code: int,
) -> None:
    monkeypatch.setattr(sys, "argv", ["prime-node", "profile", "list", "--json"])
    monkeypatch.setattr(sys, "stdout", stream())
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == code
    said = capsys.readouterr().err
    assert "Traceback" not in said
    assert ("No space left" in said) == (code == 5)


def test_an_encoding_that_lacks_a_character_shows_an_escape(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="iso8859-1"))
    show_anything(sys.stdout)
    print_json({"text": EMOJI})
    sys.stdout.flush()
    assert json.loads(raw.getvalue()) == {"text": EMOJI}
    show_table(EMOJI, [EMOJI], [[EMOJI]])
    sys.stdout.flush()
    assert b"gr\xfc\xdfe \\U0001f642" in raw.getvalue()


def test_json_stays_as_it_is_where_it_can(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="utf-8"))
    print_json(EMOJI)
    sys.stdout.flush()
    assert raw.getvalue().decode() == f'"{EMOJI}"\n'


@pytest.mark.parametrize(
    ("handler", "ends"),
    [(signal.SIG_DFL, True), (signal.SIG_IGN, False)],
    ids=["terminal", "nohup"],
)
def test_a_closed_terminal_ends_a_node_unless_it_was_told_not_to(handler: Any, ends: bool) -> None:
    before = signal.signal(signal.SIGHUP, handler)
    try:
        assert (signal.SIGHUP in ending_signals()) == ends
    finally:
        signal.signal(signal.SIGHUP, before)


def test_streams_that_were_closed_are_something_again() -> None:
    code = (
        "import os, sys; sys.stdin = sys.stdout = sys.stderr = None\n"
        "for number in (0, 1): os.close(number)\n"
        "from node.console.streams import fill_standard_streams\n"
        "fill_standard_streams(); print('lost'); print('lost', file=sys.stderr)\n"
        "names = [os.readlink(f'/proc/self/fd/{number}') for number in (0, 1)]\n"
        "os.write(2, repr((names, sys.stdin.read())).encode())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.stderr == "(['/dev/null', '/dev/null'], '')"


def test_a_log_that_nobody_reads_holds_nobody_up_and_is_told_of() -> None:
    read, write = os.pipe()
    os.set_blocking(write, False)
    filled = 0
    with suppress(BlockingIOError):
        while True:
            filled += os.write(write, b"." * 4096)
    os.set_blocking(write, True)
    stream = os.fdopen(write, "w")
    assert may_block(stream)
    log = Behind(stream, lambda count: f"lost {count}\n", most=200_000)
    line = "x" * 999 + "\n"
    for _ in range(1000):
        log.write(line[:-1])  # as print does: the text, then its end
        log.write("\n")
    log.settle(0.0)
    shown = b""
    while len(shown) < filled + 200_000:
        shown += os.read(read, 1 << 16)
    log.settle(60.0)
    assert shown == b"." * filled + line.encode() * 200
    log.write("after\n")
    log.settle(60.0)
    assert os.read(read, 1 << 16) == b"lost 800\nafter\n"
    stream.close()
    os.close(read)


def test_files_are_written_at_once(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w") as file:
        assert not may_block(file)
    assert not may_block(io.StringIO())
