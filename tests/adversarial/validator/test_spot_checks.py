"""A validator on a chain: newcomers are replayed whole, established workers now and then."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

from proofs.evidence.bundle import UnitBundle
from proofs.thresholds.spotcheck import DEFAULT_TERMS, ONE, chosen

COMMITTED, HEAD = 100, 102
PROBATION = DEFAULT_TERMS.probation
LATER = 40


def units(scenario: Any, first: int, count: int, committed_at: int = COMMITTED) -> list[UnitBundle]:
    made = [scenario.bundle(b"unit %d" % number) for number in range(first, first + count)]
    return [unit.model_copy(update={"committed_at": committed_at}) for unit in made]


async def test_established_workers_are_checked_now_and_then(scenario) -> None:
    async with scenario() as c:
        c.ledger.head, c.ledger.conviction_loss = HEAD, 10**30
        c.ledger.price = 0  # who earns nothing is checked least
        first = units(c, 0, PROBATION)
        later = units(c, PROBATION, LATER)
        picked: list[UnitBundle] = []
        while len(picked) not in (2, 3, 4):
            beacon = c.ledger.beacon = sha256(c.ledger.beacon).digest()
            picked = [unit for unit in later if chosen(beacon, unit.draw_id, 1, ONE // 16)]
        async with c.session():
            for unit in first:
                await c.verify(unit)
            await c.judged(*first)
            assert c.engine.count("replay") == PROBATION
        async with c.session():  # what it knows of its workers it knows after a restart, too
            for unit in later:
                await c.verify(unit)
            await c.judged(*later)
            assert c.engine.count("replay") == len(picked)
            old = units(c, 1000, 3, COMMITTED - 8)
            for unit in old:
                await c.verify(unit)
            await c.judged(*old)
            assert c.engine.count("replay") == len(picked) + len(old)
