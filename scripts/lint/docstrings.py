#!/usr/bin/env python3
"""Every public module, class, function and method has a docstring.

    python scripts/lint/docstrings.py

Public is what has no leading underscore and is not inside something that has one. Exempt are dunder
methods, property setters, `@overload`s, what is defined within a function, and a method whose base
class in our code has the same method with a docstring. What Typer decorates as a command needs one
whatever its name, because that is its help. Prints `file:line: name` for each that lacks one and
exits with 1 if there is any.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

from codetree import CodeTree, Definition, Function, statements

CHECKED = ("node", "p2p", "pipeline", "proofs", "chain", "scripts", "prime_node")
EXEMPT_DECORATORS = {"overload", "setter", "deleter"}
COMMAND_DECORATORS = {"command", "callback"}


def is_public(name: str) -> bool:
    """Whether the name has no leading underscore; dunder names do not count as private."""
    return not name.startswith("_") or (name.startswith("__") and name.endswith("__"))


def decorators(function: Function) -> Iterator[tuple[str, ast.expr]]:
    """Each decorator's last name, and the decorator itself."""
    for decorator in function.decorator_list:
        named = decorator.func if isinstance(decorator, ast.Call) else decorator
        yield ast.unparse(named).rpartition(".")[2], decorator


def is_bare_command(function: Function) -> bool:
    """Whether Typer takes this function's docstring as a command's help."""
    for name, decorator in decorators(function):
        if name in COMMAND_DECORATORS and isinstance(decorator, ast.Call):
            return not any(keyword.arg == "help" for keyword in decorator.keywords)
    return False


class Docstrings:
    """Looks for docstrings in one repository."""

    def __init__(self, root: Path) -> None:
        self._code = CodeTree(root)

    def missing(self) -> Iterator[str]:
        """`file:line: name` for each public thing without a docstring."""
        for module, path in sorted(self._code.modules.items()):
            tree = self._code.tree(path) if module.partition(".")[0] in CHECKED else None
            if tree is None or not all(map(is_public, path.removesuffix(".py").split("/"))):
                continue
            if ast.get_docstring(tree) is None:
                yield f"{path}:1: {module}"
            for line, name in self._within(Definition(module, tree), tree.body, ""):
                yield f"{path}:{line}: {name}"

    def _within(
        self, owner: Definition, body: list[ast.stmt], prefix: str
    ) -> Iterator[tuple[int, str]]:
        for statement in statements(body):
            if isinstance(statement, ast.ClassDef) and is_public(statement.name):
                name = prefix + statement.name
                if ast.get_docstring(statement) is None:
                    yield statement.lineno, name
                cls = Definition(owner.module, statement)
                yield from self._within(cls, statement.body, f"{name}.")
            elif isinstance(statement, Function) and self._lacks(owner, statement):
                yield statement.lineno, prefix + statement.name

    def _lacks(self, owner: Definition, function: Function) -> bool:
        if ast.get_docstring(function) is not None:
            return False
        if is_bare_command(function):
            return True
        names = {name for name, _ in decorators(function)}
        is_dunder = function.name.startswith("__")
        if is_dunder or not is_public(function.name) or names & EXEMPT_DECORATORS:
            return False
        return not self._inherits(owner, function.name)

    def _inherits(self, owner: Definition, name: str) -> bool:
        """Whether a base class in our code, however far up, says what the method does."""
        for base in self._code.bases(owner):
            found = self._code.member(base, name)
            method = found.statement if found else None
            if isinstance(method, Function) and ast.get_docstring(method) is not None:
                return True
            if self._inherits(base, name):
                return True
        return False


def main() -> int:
    """Check the repository that this file lies in, or the one named; returns the exit code."""
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parents[2]
    found = list(Docstrings(root).missing())
    print(*found, sep="\n", end="\n" if found else "")
    if found:
        print(f"{len(found)} docstrings are missing", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
