"""A short seeded run of every fuzz target; `fuzz_proofs.py` runs them long."""

from __future__ import annotations

import pytest

from tests.fuzz.fuzz_proofs import NAMES, load, run_random
from tests.fuzz.targets import PROOFS, SIGNED_BYTES, UNIT_BYTES, proof_target

EXPECTED = {
    "proofs": {"malformed", "failed"},
    "bundles": {"refused", "rejected", "accepted"},
    "verdicts": {"refused", "not signed"},
}


@pytest.mark.parametrize("name", NAMES)
def test_a_short_run_finds_nothing(name: str) -> None:
    outcomes, _ = run_random(load(name), seed=20, runs=1500)
    assert EXPECTED[name] <= set(outcomes)  # mutations reach past the parser


@pytest.mark.parametrize("name", NAMES)
def test_valid_messages_and_nothing_at_all(name: str) -> None:
    assert load(name)(b"")
    for data in (*PROOFS, UNIT_BYTES, SIGNED_BYTES):
        assert load(name)(bytes(2) + data)


def test_an_honest_proof_passes() -> None:
    for which, proof in enumerate(PROOFS):
        assert proof_target(bytes([which, 0]) + proof) == "passed"
