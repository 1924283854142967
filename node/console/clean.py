"""What a terminal may be given: text that cannot steer it.

Peers, chains, HTTP errors and files say what is shown here. A terminal obeys control sequences (C0
and C1: colours, the clipboard, the title, what is typed next), and a reader is misled by characters
that reorder or hide text. All of these are written as escapes that anyone can see, and what is
shown has a length. Whatever reaches a terminal goes through here, by `console.output` or `logs`;
`tests/node/console/test_one_way_out.py` holds the rest of the code to that.
"""

from __future__ import annotations

import json
import re
from typing import Any

MAX_SHOWN = 16_384
"""Characters of one thing that is shown, unless its caller says otherwise."""
MAX_CELL = 2_000
"""Characters of one cell of a table."""

_STEERS = (
    r"\x00-\x09\x0b-\x1f\x7f-\x9f"  # C0, DEL and C1, all but the newline
    r"\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"  # order, nothing
    r"\ud800-\udfff"  # halves of a character, which cannot be written
    r"\U000e0000-\U000e0fff"  # invisible tags
)
_IN_TEXT = re.compile(f"[{_STEERS}]")
_IN_LINE = re.compile(f"[\n{_STEERS}]")
_IN_JSON = re.compile(f"[{_STEERS}]")


def clean(text: object, *, lines: bool = False, limit: int = MAX_SHOWN) -> str:
    """`str(text)` without anything that a terminal obeys, at most about `limit` characters of it.

    Newlines stay where `lines`; else they too are written as an escape.
    """
    said = str(text)
    rest = len(said) - limit
    if rest > 0:
        said = said[:limit]
    said = (_IN_TEXT if lines else _IN_LINE).sub(_escape, said)
    return f"{said}… ({rest} more characters)" if rest > 0 else said


def clean_json(value: Any, *, only_ascii: bool = False) -> str:
    """`value` as indented JSON that says the same and steers no terminal."""
    text = json.dumps(value, indent=2, ensure_ascii=only_ascii)
    return _IN_JSON.sub(lambda match: json.dumps(match[0])[1:-1], text)


def _escape(match: re.Match[str]) -> str:
    character, code = match[0], ord(match[0])
    if character == "\t":
        return "    "
    if character == "\n":
        return "\\n"
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
