"""No generation is served twice, whatever was lost in between, and what was said is not kept for
ever."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from node.journal import open_journal
from node.roles.worker.generations import MOST_POOLS, Generations
from node.roles.worker.journal_events import EvidenceSaid, ReceiptSigned
from p2p.errors import Refused
from tests.proofs.settlement.epochs import signed


def said(unit: int, generation: int = 1) -> EvidenceSaid:
    return EvidenceSaid(
        unit_id=unit.to_bytes(32, "big"),
        group_id=b"g" * 32,
        generation=generation,
        stage=0,
        commitment=b"c" * 32,
    )


async def refused(generations: Generations, pool: int, generation: int) -> bool:
    try:
        await generations.require_newer(pool, generation)
    except Refused:
        return True
    return False


async def test_what_was_said_goes_with_its_generation_and_never_comes_back(tmp_path: Path) -> None:
    async with open_journal(tmp_path / "j") as journal:
        generations = Generations(journal)
        await generations.begin(7, 5)
        await journal.record(
            *(said(n, 5) for n in range(9)), ReceiptSigned(receipt=signed(1).receipt)
        )
        await generations.begin(8, 2)  # another pool: whoever comes back must number higher
        assert await journal.replay(EvidenceSaid) == []
        assert await journal.replay(ReceiptSigned) == []
    async with open_journal(tmp_path / "j") as journal:
        generations = Generations(journal)
        for pool, generation, over in ((7, 4, True), (7, 5, True), (7, 6, False), (8, 2, True)):
            assert await refused(generations, pool, generation) == over
        assert not await refused(generations, 9, 0)


async def test_a_generation_has_as_many_units_as_it_may(tmp_path: Path) -> None:
    async with open_journal(tmp_path / "j") as journal:
        generations = Generations(journal, most_said=3)
        await generations.begin(1, 1)
        for _ in range(3):
            generations.require_room()
            generations.said()
        with pytest.raises(Refused, match="anew"):
            generations.require_room()
        await generations.begin(1, 2)
        generations.require_room()


async def test_pools_without_end_leave_a_bounded_table(tmp_path: Path) -> None:
    async with open_journal(tmp_path / "j") as journal:
        generations = Generations(journal)
        generations._newest = dict.fromkeys(range(MOST_POOLS), 1)
        await generations.begin(0, 2)
        await generations.begin(MOST_POOLS, 1)
        generations = Generations(journal)
        assert len(await generations._known()) == MOST_POOLS
        assert await refused(generations, 0, 2)  # served a moment ago, so it stays
        assert not await refused(generations, 1, 1)


ORDERS = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 6), st.booleans()), max_size=12)


@settings(max_examples=20, deadline=None)
@given(ORDERS)
def test_in_any_order_of_orders_and_restarts_none_is_served_twice(
    orders: list[tuple[int, int, bool]],
) -> None:
    async def live(folder: Path) -> None:
        served: dict[int, int] = {}
        async with open_journal(folder / "j") as journal:
            generations = Generations(journal)
            for pool, generation, restarts in orders:
                if restarts:
                    generations = Generations(journal)
                over = await refused(generations, pool, generation)
                assert over == (generation <= served.get(pool, -1))
                if not over:
                    await generations.begin(pool, generation)
                    served[pool] = generation

    with TemporaryDirectory() as folder:
        trio.run(live, Path(folder))
