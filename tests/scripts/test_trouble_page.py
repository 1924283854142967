"""The page about trouble names tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "reference" / "trouble.md"


def test_every_line_is_held_by_a_test_that_exists() -> None:
    lines = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if "|" in line]
    rows = [
        line for line in lines if not re.match(r"\| what goes|\|---|\| round trip|\| \d+ ms", line)
    ]
    assert len(rows) > 30
    for row in rows:
        tests = re.findall(r"`(tests/[^`]+)::(test_\w+)`", row)
        assert tests, row
        for path, name in tests:
            source = (ROOT / path).read_text(encoding="utf-8")
            assert re.search(rf"^(async )?def {name}\b", source, re.MULTILINE), f"{path}::{name}"
