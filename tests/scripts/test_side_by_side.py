"""Several commands at once: none of their failures is lost, and the last one has the last word."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.paths import ROOT

SCRIPT = ROOT / "scripts" / "side_by_side.py"


def run(*commands: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPT), *commands], capture_output=True, text=True, timeout=60
    )


@pytest.mark.parametrize(
    ("commands", "status"),
    [
        (("true", "true"), 0),
        (("exit 3", "true"), 3),
        (("true", "exit 4"), 4),
        (("no-such-command", "true", "true"), 127),
    ],
)
def test_any_failure_fails_the_whole(commands: tuple[str, ...], status: int) -> None:
    assert run(*commands).returncode == status


def test_outputs_stay_in_one_piece_and_the_last_command_has_the_last_word() -> None:
    done = run("echo one; echo two", "echo 5 passed in 1s")
    assert "one\ntwo\n" in done.stdout
    assert done.stdout.splitlines()[-1] == "5 passed in 1s"


def test_without_commands_it_says_how_to_use_it() -> None:
    done = run()
    assert done.returncode == 2
    assert "side_by_side.py" in done.stderr
