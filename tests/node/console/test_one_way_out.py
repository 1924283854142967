"""Everything that reaches a terminal goes through `node.console.output`, or through the logs."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.paths import ROOT

PACKAGES = ("node", "chain", "pipeline", "p2p", "proofs")
THE_WAY = ROOT / "node" / "console" / "output.py"
WRITES = {"print", "echo", "secho", "print_exc", "print_exception", "Console", "writelines"}
BARS = {ROOT / "node" / "simulation" / "progress.py"}
"""Prints what is cleaned beside a bar, on the bar's own console."""


def writing(tree: ast.AST) -> Iterator[ast.Call]:
    """Calls that write to a terminal by another way."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        called = node.func
        name = called.id if isinstance(called, ast.Name) else getattr(called, "attr", "")
        on = ast.unparse(called.value) if isinstance(called, ast.Attribute) else ""
        if name in WRITES or (name == "write" and "std" in on):
            yield node


def test_nothing_writes_to_a_terminal_by_itself() -> None:
    found = [
        f"{file.relative_to(ROOT)}:{call.lineno}"
        for package in PACKAGES
        for file in sorted((ROOT / package).rglob("*.py"))
        if file not in BARS | {THE_WAY}
        for call in writing(ast.parse(file.read_text()))
    ]
    assert found == []


def test_the_check_sees_what_it_looks_for() -> None:
    for text in ("print(x)", "typer.echo(x)", "sys.stdout.write(x)", "rich.console.Console()"):
        assert list(writing(ast.parse(text)))
    assert list(writing(ast.parse(Path(THE_WAY).read_text())))
