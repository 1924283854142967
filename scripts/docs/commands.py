"""The commands and files that the documents show, as they stand there.

A fenced block without a language holds what is typed in one terminal; `commands` joins lines that
end in a backslash and drops comments. A block of TOML or of JSON Lines is a file. Code spans in the
text mention commands, mostly without their arguments.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_SPAN = re.compile(r"(?<!`)`([^`]+)`(?!`)", re.DOTALL)
_TYPED = re.compile(r"^(?:[A-Z_]+=\S+ )*(?:prime-node|make|export|scp|ssh|\.) ")


@dataclass(frozen=True)
class Block:
    """A fenced block: its document, the line that it begins on, its language and its lines."""

    page: Path
    line: int
    language: str
    lines: tuple[str, ...]

    @property
    def where(self) -> str:
        """For people: `README.md:91`."""
        return f"{self.page.name}:{self.line}"

    def commands(self) -> list[str]:
        """What is typed, one command each; empty where the block shows something else."""
        joined = "\n".join(self.lines).replace("\\\n", " ").splitlines()
        found = [line.strip() for line in joined if line.strip()]
        if self.language or not any(_TYPED.match(f"{line} ") for line in found):
            return []
        return [" ".join(line.split()) for line in found if not line.startswith("#")]


def blocks(page: Path) -> Iterator[Block]:
    """All fenced blocks of a document."""
    inside: list[str] | None = None
    begun, language = 0, ""
    for number, line in enumerate(page.read_text().splitlines(), start=1):
        if not line.startswith("```"):
            if inside is not None:
                inside.append(line)
        elif inside is None:
            inside, begun, language = [], number, line[3:].strip()
        else:
            yield Block(page, begun, language, tuple(inside))
            inside = None


def mentions(page: Path) -> Iterator[tuple[int, str]]:
    """(line, command) of every `prime-node …` in a code span of the text."""
    text = re.sub(
        r"^```.*?^```$", lambda m: "\n" * m[0].count("\n"), page.read_text(), flags=re.M | re.S
    )
    for span in _SPAN.finditer(text):
        command = " ".join(span[1].split())
        if command.startswith("prime-node "):
            yield text.count("\n", 0, span.start()) + 1, command


def words(command: str) -> list[str]:
    """A command's words as a shell splits them, variables before it and comments left out."""
    split = shlex.split(command, comments=True)
    while split and re.fullmatch(r"[A-Z_]+=.*", split[0]):
        split = split[1:]
    return split
