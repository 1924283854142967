"""JSON from strangers, with its nesting bounded before it is parsed.

Python's JSON decoder recurses in C and relies on the interpreter's recursion limit to stop. py-evm
raises that limit for the whole process, after which a few kilobytes of `[` overflow the C stack and
kill the process instead of raising RecursionError. So brackets outside strings are counted first.
"""

from __future__ import annotations

import json
import re
from typing import Any

MAX_DEPTH = 64

# A string (possibly unterminated, so that each byte is looked at once) or a bracket.
_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*+"?|[\[\]{}]', re.DOTALL)


def loads(content: bytes) -> Any:
    """Parse JSON of at most `MAX_DEPTH` nested lists and objects; raises ValueError."""
    depth = 0
    for token in _TOKEN.finditer(content):
        if token[0] in b"[{":
            depth += 1
            if depth > MAX_DEPTH:
                raise ValueError(f"JSON nested deeper than {MAX_DEPTH}")
        elif token[0] in b"]}":
            depth -= 1
    return json.loads(content)
