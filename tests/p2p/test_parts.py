"""Background parts on a virtual clock: each surprise costs a pause and is told."""

from __future__ import annotations

import itertools

import trio

from p2p.parts import Parts, PartTrouble, Restarts


async def run_for(seconds: float, parts: Parts, part) -> None:
    with trio.move_on_after(seconds):
        await parts.keep("mesh", part)


async def test_a_part_that_fails_runs_again_after_growing_pauses(autojump_clock):
    starts = []

    async def part() -> None:
        starts.append(trio.current_time())
        raise OverflowError("34, numerical result out of range")

    parts = Parts(Restarts(first=1, last=4, calm=100))
    await run_for(20, parts, part)
    assert [b - a for a, b in itertools.pairwise(starts)] == [1, 2, 4, 4, 4, 4]
    (trouble,) = parts.troubles
    assert trouble.part == "mesh"
    assert "out of range" in trouble.reason
    assert trouble.restarts == len(starts)


async def test_a_part_that_returns_or_fails_in_a_nursery_runs_again(autojump_clock):
    runs = []

    async def part() -> None:
        runs.append(1)
        if len(runs) == 2:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.sleep_forever)
                raise KeyError("inside")
        if len(runs) == 3:
            await trio.sleep_forever()

    parts = Parts()
    await run_for(10, parts, part)
    assert len(runs) == 3
    (trouble,) = parts.troubles
    assert trouble == PartTrouble("mesh", trouble.reason, restarts=2, running=True)
    assert "inside" in trouble.reason


async def test_a_long_healthy_run_forgets_earlier_pauses(autojump_clock):
    starts = []

    async def part() -> None:
        starts.append(trio.current_time())
        await trio.sleep(50 if len(starts) == 3 else 0)
        raise ValueError("again")

    await run_for(56, Parts(Restarts(first=1, last=60, calm=50)), part)
    assert starts == [0, 1, 3, 54]


async def test_no_trouble_while_all_is_well(autojump_clock):
    parts = Parts()
    await run_for(1000, parts, trio.sleep_forever)
    assert parts.troubles == ()
