"""Progress: lines where there is no terminal, bars where there is one."""

from __future__ import annotations

import io

from node.console.progress import shown_progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_log_gets_a_line_each_tenth() -> None:
    out = io.StringIO()
    with shown_progress(out) as report:
        for done in range(1001):
            report("convert", done, 1000)
        report("hash", 5, 10)
        report("waiting", 3, 0)
    lines = out.getvalue().splitlines()
    assert lines[:3] == ["convert 0 %", "convert 10 %", "convert 20 %"]
    assert lines[-3:] == ["convert 100 %", "hash 50 %", "waiting 0 %"]
    assert len(lines) == 13


def test_a_long_step_says_how_far_it_is_and_how_long_it_may_take() -> None:
    out, now = io.StringIO(), 0.0
    with shown_progress(out, lambda: now) as report:
        for done in range(61):
            report("tokens", done, 1000)
            now += 4.0
    assert out.getvalue().splitlines() == [
        "tokens 0 %",
        *(
            f"tokens {done} of 1000, about {(1000 - done) * 4 / 60:.0f} min left"
            for done in range(8, 61, 8)
        ),
    ]


def test_a_terminal_gets_bars_that_go_away() -> None:
    out = Terminal()
    with shown_progress(out) as report:
        report("convert", 1, 0)
        report("convert", 5, 10)
        report("hash", 1, 2)
    assert "convert" in out.getvalue()
    assert "hash" in out.getvalue()
    assert " 50%" in out.getvalue()
