#!/usr/bin/env python3
"""Every name and path that docstrings, comments and documents mention exists.

    python scripts/lint/references.py

It checks code spans (text in backticks) of docstrings and comments, and code spans and links of
README.md, docs/ and contracts/README.md. A reference is

- a dotted name that begins with a folder of ours: a module, a name in it, an attribute of a class;
- a path whose first part is a folder of ours, or a link, from its document; `*` and `{a,b}` stand
  for what they do in a shell, `<name>` and `…` for anything;
- the name of a Python file, with or without folders before it: one below the same top-level folder
  ends so (in documents, tests and scripts, which talk of others' files: one anywhere).

Not counted as references: what a run leaves behind (git ignores it), files of a data folder
(`node.key`), and what `NOT_OURS` lists. Prints `file:line: reference: reason` and exits with 1 if
there is any.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase
from pathlib import Path
from posixpath import basename, dirname, join, normpath

from codetree import FOLDERS, PACKAGES, CodeTree
from prose import Word, prose_lines, words_of_markdown, words_of_python

SELF_CONTAINED = ("node", "p2p", "pipeline", "proofs", "chain")
CHECKED = (*SELF_CONTAINED, "scripts", "tests", "prime_node")
DATA_SUFFIXES = {"key", "lock", "sqlite", "toml", "json", "jsonl", "log", "db"}
NOT_OURS = {
    "node/*": ["chain.reward"],  # a kind of event
    "docs/reference/toploc.md": ["test_*.py"],  # files of the original package
}
"""Words that look like references and are not, by the files in which they stand (patterns)."""

_DOTTED = re.compile(rf"(?:{'|'.join(PACKAGES)})(?:\.\w+)+", re.ASCII)
_BRACES = re.compile(r"\{([^{}]*)\}")
_PLACEHOLDER = re.compile(r"<[^<>]*>|…|\.\.\.|\$\w+")


def expand(pattern: str) -> list[str]:
    """`a{b,c}` as `ab` and `ac`; `{name}`, as in an f-string, stands for anything."""
    braces = _BRACES.search(pattern)
    if braces is None:
        return [pattern]
    before, after = pattern[: braces.start()], pattern[braces.end() :]
    choices = braces.group(1).split(",")
    choices = choices if len(choices) > 1 else ["*"]
    return [whole for choice in choices for whole in expand(before + choice.strip() + after)]


@dataclass(frozen=True)
class Missing:
    """What a reference names and does not exist: a "path", "file…" or "name"."""

    kind: str
    wanted: str


class References:
    """Looks up what one repository's texts refer to."""

    def __init__(self, root: Path) -> None:
        self._code = CodeTree(root)

    def problems(self) -> Iterator[str]:
        """One line for each reference to something that does not exist."""
        for path in self._code.python_files(*CHECKED):
            source = self._read(path)
            if "`" in source:
                found = ((word, self.missing(path, word)) for word in words_of_python(source))
                wrong = [(word, missing) for word, missing in found if missing]
                prose = prose_lines(source) if wrong else frozenset()
                yield from (self._shown(path, *one) for one in wrong if one[0].line in prose)
        for path in self._documents():
            for word in words_of_markdown(self._read(path)):
                if missing := self.missing(path, word):
                    yield self._shown(path, word, missing)

    def _documents(self) -> list[str]:
        named = {"README.md", "contracts/README.md"}
        documents = (path for path in self._code.paths if path.endswith(".md"))
        return sorted(path for path in documents if path in named or path.startswith("docs/"))

    def _read(self, path: str) -> str:
        return (self._code.root / path).read_text(encoding="utf-8")

    def missing(self, path: str, word: Word) -> Missing | None:
        """What a word of the file at `path` refers to in vain; None if it is in order."""
        if word.is_link:
            return self._missing_link(path, word.text)
        text = re.split(r"::|[(\[#]", word.text.strip("\"',;:!?()"))[0].rstrip(".")
        excused = (names for where, names in NOT_OURS.items() if fnmatchcase(path, where))
        if any(fnmatchcase(text, name) for names in excused for name in names):
            return None
        text = _PLACEHOLDER.sub("*", text)
        top = path.partition("/")[0]
        if "/" in text and text.partition("/")[0] in FOLDERS:
            return self._missing_path(text.rstrip("/"))
        if text.endswith(".py"):
            return self._missing_file(text, (top,) if top in SELF_CONTAINED else FOLDERS)
        if _DOTTED.fullmatch(text) and text.rpartition(".")[2] not in DATA_SUFFIXES:
            return self._missing_name(text)
        return None

    def _missing_link(self, path: str, target: str) -> Missing | None:
        target = target.partition("#")[0]
        if not target or re.match(r"[a-z]+:", target):
            return None
        return self._missing_path(normpath(join(dirname(path), target)))

    def _missing_path(self, pattern: str) -> Missing | None:
        for path in expand(pattern):
            known = self._code.paths
            there = path in known or any(fnmatchcase(other, path) for other in known)
            if not there and not self._code.ignored(path):
                return Missing("path", path)
        return None

    def _missing_file(self, pattern: str, tops: tuple[str, ...]) -> Missing | None:
        for name in expand(pattern):
            below = self._code.python_files(*tops)
            if not any(fnmatchcase(f"/{file}", f"*/{name}") for file in below):
                return Missing(f"file in {tops[0]}/" if len(tops) == 1 else "file", name)
        return None

    def _missing_name(self, name: str) -> Missing | None:
        return None if self._code.find(name) else Missing("name", name)

    def _shown(self, path: str, word: Word, missing: Missing) -> str:
        """The line to print, with the closest existing name: one with the same end, if any."""
        wanted = missing.wanted
        if missing.kind == "name":
            last, names = wanted.rpartition(".")[2], self._names_like(wanted)
            same = [name for name in names if name.rpartition(".")[2] == last]
        else:
            # A module that became a folder keeps its name without the suffix.
            names, last = sorted(self._code.paths), basename(wanted)
            same = [name for name in names if basename(name) in (last, last.removesuffix(".py"))]
            if not same and missing.kind != "path":
                similar = get_close_matches(last, {basename(name) for name in names}, 1, 0.7)
                same = names = [name for name in names if basename(name) in similar]
        close = get_close_matches(wanted, same or names, 1, 0 if same else 0.6)
        hint = f"; {close[0]}?" if close else ""
        return f"{path}:{word.line}: {word.text}: no such {missing.kind}{hint}"

    def _names_like(self, name: str) -> list[str]:
        """All modules, what is in the module that `name` begins with, and what ends as it does."""
        last, module = name.rpartition(".")[2], name
        while module not in self._code.modules and "." in module:
            module = module.rpartition(".")[0]
        known = set(self._code.modules)
        if module in self._code.modules:
            known |= {f"{module}.{other}" for other in self._code.names(module)}
        # Parsing every module would take seconds; only those that may define the name are.
        defines = re.compile(rf"^\s*(?:class|def|async def) {last}\b|^\s*{last}\b.*=", re.MULTILINE)
        for other, path in self._code.modules.items():
            may = path.endswith(".py") and defines.search(self._read(path))
            if may and last in self._code.names(other):
                known.add(f"{other}.{last}")
        return sorted(known)


def main() -> int:
    """Check the repository that this file lies in, or the one named; returns the exit code."""
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parents[2]
    found = list(References(root).problems())
    print(*found, sep="\n", end="\n" if found else "")
    if found:
        print(f"{len(found)} references to what does not exist", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
