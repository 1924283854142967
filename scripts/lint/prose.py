"""The words of docstrings, comments and Markdown that can refer to code: code spans and links.

A code span is text in single or double backticks; it may run over a line's end, not over a blank
line. Blocks between fences are examples and are left out. A Python file is first searched as plain
text, which is fast, because a backtick outside of strings and comments is a syntax error; only
`prose_lines` tells a docstring from any other string, and it is asked about the few doubtful words.
"""

from __future__ import annotations

import io
import re
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass

_SPAN = re.compile(r"(?<!`)(`{1,2})(?!`)((?:[^`\n]|\n(?!\s*\n)){1,400}?)\1(?!`)")
_FENCED = re.compile(r"^[ \t]*(```+|~~~+).*?^[ \t]*\1", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(<?([^)\s>]+)|^\[[^\]]+\]:\s+(\S+)", re.MULTILINE)
_SILENT = {tokenize.NL, tokenize.COMMENT, tokenize.ENCODING, tokenize.INDENT, tokenize.DEDENT}


@dataclass(frozen=True)
class Word:
    """One word of a code span, or one link's target."""

    line: int
    text: str
    is_link: bool = False


def words_of_python(source: str) -> Iterator[Word]:
    """The words in backticks anywhere in a Python file, other strings included."""
    yield from _words(source)


def words_of_markdown(text: str) -> Iterator[Word]:
    """The words in backticks and the targets of links of a document, fenced blocks left out."""
    text = _FENCED.sub(lambda block: re.sub(r"[^\n]", " ", block.group()), text)
    yield from _words(text)
    # A link inside a code span is an example of one.
    for link in _LINK.finditer(_SPAN.sub(lambda span: re.sub(r"[^\n]", " ", span.group()), text)):
        yield Word(text.count("\n", 0, link.start()) + 1, link.group(1) or link.group(2), True)


def _words(text: str) -> Iterator[Word]:
    line, counted = 1, 0
    for span in _SPAN.finditer(text):
        for word in re.finditer(r"\S+", span.group(2)):
            start = span.start(2) + word.start()
            line, counted = line + text.count("\n", counted, start), start
            yield Word(line, word.group())


def prose_lines(source: str) -> frozenset[int]:
    """The lines of a Python file that lie in a comment or a docstring.

    A string that is a statement of its own counts as a docstring, so what is written below a
    constant or a field does, too.
    """
    lines: set[int] = set()
    starts_statement = True
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        is_docstring = token.type == tokenize.STRING and starts_statement
        if is_docstring or token.type == tokenize.COMMENT:
            lines.update(range(token.start[0], token.end[0] + 1))
        if token.type not in _SILENT:
            starts_statement = token.type == tokenize.NEWLINE
    return frozenset(lines)
