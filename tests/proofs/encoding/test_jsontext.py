"""JSON from strangers: depth is bounded whatever the interpreter's recursion limit is."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proofs.encoding.jsontext import MAX_DEPTH, parse_json
from tests.paths import ROOT

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(_JSON)
def test_what_is_json_is_read(value: object) -> None:
    assert parse_json(json.dumps(value).encode()) == value
    assert parse_json(json.dumps(value, ensure_ascii=False, indent=1).encode()) == value


@given(st.text(alphabet='[]{}",:\\a1 ', max_size=60))
def test_what_is_accepted_is_what_json_accepts(text: str) -> None:
    try:
        expected = json.loads(text)
    except ValueError:
        with pytest.raises(ValueError):
            parse_json(text.encode())
    else:
        assert parse_json(text.encode()) == expected


def test_depth_is_counted_outside_strings_only() -> None:
    deepest = b"[" * MAX_DEPTH + b"]" * MAX_DEPTH
    assert parse_json(deepest) is not None
    with pytest.raises(ValueError, match="nested deeper"):
        parse_json(b"[" + deepest + b"]")
    assert parse_json(b'["' + b"[{" * 1000 + rb"\"[[" + b'"]') is not None
    assert len(parse_json(b"[" + b"[],{}," * 1000 + b"0]")) == 2001
    with pytest.raises(ValueError, match="nested deeper"):
        parse_json(b'{"a":[' * MAX_DEPTH)


@pytest.mark.parametrize("data", [b"", b"\xff", b"[", b'"', b'"\\', b"]" * 9, b"{}}", b"nul"])
def test_what_is_no_json_is_a_value_error(data: bytes) -> None:
    with pytest.raises(ValueError):
        parse_json(data)


def test_a_raised_recursion_limit_does_not_let_a_body_kill_the_process() -> None:
    code = (
        "import sys; sys.setrecursionlimit(10**6); import trio\n"
        "from node.http.app import parse_job\n"
        "from node.http.guards import HttpRefusal\n"
        "try: trio.run(trio.to_thread.run_sync, parse_job, b'[' * (8 << 20))\n"
        "except HttpRefusal as exc: print(exc.status, exc.code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "400 not_json\n"
