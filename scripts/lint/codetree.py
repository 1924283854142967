"""What the repository holds: its files, its modules, and the names that each module defines.

Everything is read as text and through `ast`; nothing is imported, so the checks run without the
dependencies and in no time. Modules are parsed when somebody asks for them. What only exists at run
time (`setattr`, a `__getattr__` whose names `__all__` does not list) is not seen.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path

PACKAGES = (
    "node",
    "p2p",
    "pipeline",
    "proofs",
    "chain",
    "contracts",
    "scripts",
    "tests",
    "prime_node",
)
"""Packages, folders and modules whose names a dotted name of ours can begin with."""

FOLDERS = (*PACKAGES, "docs")
"""Folders whose names a path of ours can begin with."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Definition:
    """A name's statement, and the module it stands in; the statement of a module is its tree."""

    module: str
    statement: ast.AST


def statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements that run when `body` does: also those under `if`, `try` and `with`."""
    for statement in body:
        yield statement
        for field in ("body", "orelse", "finalbody", "handlers"):
            if isinstance(statement, ast.If | ast.Try | ast.With):
                for inner in getattr(statement, field, []):
                    yield from statements(inner.body if field == "handlers" else [inner])


def _bound(statement: ast.AST) -> Iterator[str]:
    """The names that one statement binds, `*` for a star import."""
    if isinstance(statement, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        yield statement.name
    elif isinstance(statement, ast.Import):
        yield from (alias.asname or alias.name.partition(".")[0] for alias in statement.names)
    elif isinstance(statement, ast.ImportFrom):
        yield from (alias.asname or alias.name for alias in statement.names)
    elif isinstance(statement, ast.Assign | ast.AnnAssign | ast.AugAssign):
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        for node in (node for target in targets for node in ast.walk(target)):
            if isinstance(node, ast.Name):
                yield node.id
        if "__all__" in (target.id for target in targets if isinstance(target, ast.Name)):
            # A module that defines names lazily lists them here.
            strings = ast.walk(statement.value) if statement.value else ()
            constants = (node.value for node in strings if isinstance(node, ast.Constant))
            yield from (value for value in constants if isinstance(value, str))


class CodeTree:
    """The repository under `root`, without what git ignores."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._bodies: dict[str, dict[str, ast.AST]] = {}
        self._trees: dict[str, ast.Module | None] = {}

    @cached_property
    def paths(self) -> frozenset[str]:
        """Every file and folder below our folders, and the files beside them, from the root."""
        found = {entry.name for entry in self.root.iterdir() if entry.is_file()}
        for top in FOLDERS:
            for folder, below, files in os.walk(self.root / top):
                here = Path(folder).relative_to(self.root).as_posix()
                below[:] = [name for name in below if not self.ignored(f"{here}/{name}")]
                found |= {here, *(f"{here}/{name}" for name in (*below, *files))}
        return frozenset(found)

    @cached_property
    def _ignore(self) -> list[str]:
        file = self.root / ".gitignore"
        lines = file.read_text(encoding="utf-8").split() if file.exists() else []
        return [line.rstrip("/") for line in lines]

    def ignored(self, path: str) -> bool:
        """Whether git ignores the path (builds, caches, what runs leave behind)."""
        for pattern in self._ignore:
            whole = (path,) if "/" in pattern else path.split("/")
            if any(fnmatchcase(part, pattern) for part in whole) or path.startswith(f"{pattern}/"):
                return True
        return False

    def python_files(self, *tops: str) -> list[str]:
        """The Python files that are, or are below, what has these names, sorted."""
        files = (path for path in self.paths if path.endswith(".py"))
        return sorted(p for p in files if p.partition("/")[0].removesuffix(".py") in tops)

    @cached_property
    def modules(self) -> dict[str, str]:
        """Dotted name to path of every module and package; a folder of Python files is one, too."""
        found: dict[str, str] = {}
        for path in self.python_files(*PACKAGES):
            parts = path.removesuffix(".py").split("/")
            if parts[-1] == "__init__":
                del parts[-1]
            for length in range(1, len(parts)):
                found.setdefault(".".join(parts[:length]), "/".join(parts[:length]))
            found[".".join(parts)] = path
        return found

    def tree(self, path: str) -> ast.Module | None:
        """The syntax tree of a file; None for a folder without an `__init__.py`."""
        if path not in self._trees:
            file = self.root / path
            source = file.read_text(encoding="utf-8") if file.is_file() else None
            self._trees[path] = None if source is None else ast.parse(source, path)
        return self._trees[path]

    def names(self, module: str) -> dict[str, ast.AST]:
        """The names a module defines, assigns or imports, each with its statement."""
        if module not in self._bodies:
            found = self._bodies[module] = {}
            tree = self.tree(self.modules[module])
            for statement in statements(tree.body if tree else []):
                for name in _bound(statement):
                    found[name] = statement
                    if name == "*" and isinstance(statement, ast.ImportFrom):
                        found |= self.names(self._source(module, statement))
        return self._bodies[module]

    def _source(self, module: str, statement: ast.ImportFrom) -> str:
        """The absolute name of the module that a `from … import` takes from."""
        if not statement.level:
            return statement.module or ""
        package = module.split(".")
        up = statement.level - self.modules[module].endswith("__init__.py")
        return ".".join([*package[: len(package) - up], *filter(None, [statement.module])])

    def find(self, dotted: str) -> Definition | None:
        """Where a dotted name is defined: a module, a name in one, an attribute of a class."""
        parts = dotted.split(".")
        for length in range(len(parts), 0, -1):
            module = ".".join(parts[:length])
            if module in self.modules:
                found: Definition | None = Definition(module, ast.Module([], []))
                for part in parts[length:]:
                    found = self.member(found, part) if found else None
                return found
        return None

    def member(self, owner: Definition, name: str) -> Definition | None:
        """The attribute `name` of a module or class, where we define it."""
        if isinstance(owner.statement, ast.ClassDef):
            return self._attribute(owner, owner.statement, name)
        if not isinstance(owner.statement, ast.Module) or owner.module not in self.modules:
            return None
        statement = self.names(owner.module).get(name)
        if isinstance(statement, ast.ImportFrom):
            source = self._source(owner.module, statement)
            named = [a.name for a in statement.names if (a.asname or a.name) == name]
            ours = source.partition(".")[0] in PACKAGES
            return self.find(f"{source}.{named[0]}") if ours and named else None
        return Definition(owner.module, statement) if statement else None

    def bases(self, owner: Definition) -> Iterator[Definition]:
        """The base classes that are in our code."""
        for base in getattr(owner.statement, "bases", ()):
            named = base.value if isinstance(base, ast.Subscript) else base
            found = self.find(f"{owner.module}.{ast.unparse(named)}")
            # `class Store(Store)` names an imported class that its own definition then hides.
            is_class = found is not None and isinstance(found.statement, ast.ClassDef)
            if found and is_class and found.statement is not owner.statement:
                yield found

    def _attribute(self, owner: Definition, cls: ast.ClassDef, name: str) -> Definition | None:
        for statement in statements(cls.body):
            if name in _bound(statement):
                return Definition(owner.module, statement)
        for node in ast.walk(cls):
            if not isinstance(node, ast.Attribute) or not isinstance(node.ctx, ast.Store):
                continue
            if node.attr == name and ast.unparse(node.value) == "self":
                return Definition(owner.module, node)
        inherited = (self.member(base, name) for base in self.bases(owner))
        return next(filter(None, inherited), None)
