"""Exit codes are documented in one table, there are no others, and each is what a command gives."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from node.cli import run_cli
from node.errors import EXIT_CODES
from node.simulation.output import own_output
from tests.paths import ROOT


def test_the_documented_table_is_the_one_that_is_kept() -> None:
    text = (ROOT / "docs" / "reference" / "config.md").read_text()
    table = text.partition("\n## Exit codes\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (\d+) \| (.+) \|$", table, re.MULTILINE)
    assert {int(code): meaning for code, meaning in rows} == EXIT_CODES


def literal_codes(tree: ast.AST) -> Iterator[tuple[int, int]]:
    """(line, code) of every exit code that is written as a number where a command ends."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("typer.Exit", "sys.exit"):
            given = [*node.args, *(word.value for word in node.keywords)]
            for value in given:
                if isinstance(value, ast.Constant) and isinstance(value.value, int):
                    yield node.lineno, value.value


def test_no_command_ends_with_another_code() -> None:
    found = [
        (str(file.relative_to(ROOT)), line, code)
        for file in (ROOT / "node").rglob("*.py")
        for line, code in literal_codes(ast.parse(file.read_text()))
    ]
    assert [one for one in found if one[2] not in EXIT_CODES] == []
    assert list(literal_codes(ast.parse("raise typer.Exit(code=9)"))) == [(1, 9)]


@pytest.mark.parametrize(
    ("code", "arguments"),
    [
        (0, ["--version"]),
        (2, ["run", "--no-such-option"]),
        (3, ["submit", "/nowhere.jsonl"]),
        (4, ["status", "--url", "http://127.0.0.1:1"]),
    ],
)
def test_each_code_is_given(
    code: int, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_cli(arguments) == code
    shown = capsys.readouterr()
    assert len((shown.err or shown.out).splitlines()) == 1


def test_a_folder_that_is_taken_is_5(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with own_output(tmp_path):
        assert run_cli(["simulate", "--output", str(tmp_path)]) == 5
    assert "in use by another simulation" in capsys.readouterr().err


@pytest.mark.parametrize(("code", "raised"), [(70, ZeroDivisionError), (130, KeyboardInterrupt)])
def test_a_bug_and_an_interruption(
    code: int, raised: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_path: object) -> NoReturn:
        raise raised

    monkeypatch.setattr("node.prompts.read_prompts", fail)
    assert run_cli(["submit", "x.jsonl"]) == code
