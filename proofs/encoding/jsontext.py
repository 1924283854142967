"""JSON from files and from the network, with its nesting bounded before it is parsed.

`json.loads` recurses once a level, in C, and trusts the interpreter's recursion limit to stop it.
Libraries raise that limit for the whole process (py_ecc, which eth-keyfile imports, sets it to
100,000), and then a body of nothing but "[" overflows the C stack and kills the process. So the
depth is measured first, by a scan that skips strings and stops at the first level too many.
"""

from __future__ import annotations

import json
import re
from typing import Any

MAX_DEPTH = 64

# Strings match whole (also one that never ends, so that the scan stays linear), then brackets.
_TOKENS = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[\[{]+|[\]}]+', re.DOTALL)


def parse_json(data: bytes) -> Any:
    """The value of a UTF-8 JSON text. Raises `ValueError` for bad JSON and for over `MAX_DEPTH`."""
    depth = 0
    for match in _TOKENS.finditer(data):
        start, end = match.span()
        first = data[start]
        if first in b"[{":
            depth += end - start
            if depth > MAX_DEPTH:
                raise ValueError(f"nested deeper than {MAX_DEPTH}")
        elif first in b"]}":
            depth -= end - start
    return json.loads(data.decode("utf-8"))
