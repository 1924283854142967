"""A short seeded run of what strangers send; `fuzz_network.py` runs it long."""

from __future__ import annotations

import pytest

from tests.fuzz.fuzz_network import run

EXPECTED = {
    "frames": {"violation", "taken"},
    "requests": {"bad_request", "fuzzed", "too_large", "reset"},
    "gossip": {"charged", "taken"},
    "records": {"reject", "accept", "answered"},
}


@pytest.mark.parametrize(
    ("name", "runs"), [("frames", 1000), ("requests", 400), ("gossip", 200), ("records", 400)]
)
async def test_a_short_run_breaks_nothing_and_blames_nobody_else(name: str, runs: int) -> None:
    outcomes, _ = await run(name, seed=7, runs=runs)
    assert EXPECTED[name] <= set(outcomes)
