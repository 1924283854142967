"""Three validators, one dishonest in every way there is, on the embedded chain; nodes die.

The full size is in `test_scenario_anvil.py`.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import trio

from chain.devnet.server import DevChain, serve_devnet
from tests.integration.settlement.cheating import Cheat
from tests.integration.settlement.checks import balances, check
from tests.integration.settlement.scenario import Plan, open_scenario

pytestmark = [
    pytest.mark.network,
    pytest.mark.slow(1),
    pytest.mark.xdist_group("networks of processes"),
    pytest.mark.timeout(1_000),
]
DEADLINE_SECONDS = 900
"""Ends a network that hangs. It says nothing about speed: other tests share the cores, and what a
scenario must do is counted in epochs and wei."""


@pytest.mark.parametrize("cheat", list(Cheat))
async def test_all_are_paid_exactly_once_and_the_cheat_is_slashed(
    cheat: Cheat, tmp_path: Path, nursery: trio.Nursery
) -> None:
    dev: DevChain = await nursery.start(partial(serve_devnet, "127.0.0.1", 0, backend="py-evm"))
    plan = Plan(
        seed=list(Cheat).index(cheat),
        workers=8,
        claimers=1,
        units=40,
        stages=4,
        epochs=4,
        cheat=cheat,
        cheat_from=3,
        confirmations=2,
        # Data that nobody serves are waited for during half of it.
        challenge_window=30 if cheat is Cheat.WITHHOLD else 60,
        answer_window=4,
        kill_pause=(2.0, 6.0),
        reorgs=0,
        reorg_depth=0,
    )
    with trio.fail_after(DEADLINE_SECONDS):
        async with open_scenario(plan, dev.url, tmp_path) as scenario:
            before = await balances(scenario)
            await scenario.run()
            found = await check(scenario, before)
            assert len(found.standing) >= plan.epochs
            assert scenario.chaos.kills > 0
