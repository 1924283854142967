"""Three validators, one of them dishonest, and workers who must be paid to the wei all the same.

In every scenario processes die at random moments and an honest validator is away for a while. Each
way to cheat has one; the long one has more workers and epochs, and a chain that reorganises twice,
five blocks deep. `--full` runs the long one in its full size: ten thousand receipts of fifty
workers over twenty epochs.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import trio

from chain.devnet.anvil import find_anvil, run_anvil
from chain.devnet.evm import CHAIN_ID
from chain.devnet.faucet import FUNDS
from chain.devnet.remote import RemoteChain
from chain.devnet.server import DevChain, serve_devnet
from proofs.encoding.signing import address_of
from tests.integration.settlement.cheating import Cheat
from tests.integration.settlement.checks import balances, check
from tests.integration.settlement.scenario import Plan, Scenario, open_scenario

pytestmark = [
    pytest.mark.network,
    pytest.mark.xdist_group("networks of processes"),
    pytest.mark.timeout(1_500),
]
needs_anvil = pytest.mark.skipif(
    find_anvil() is None, reason="anvil not found: install Foundry, or `npm ci` in contracts/"
)
DEADLINE_SECONDS = 1_200
"""Ends a network that hangs. It says nothing about speed: other tests share the cores, and what a
scenario must do is counted in epochs and wei."""
DEPTH = 5

SHORT = Plan(
    seed=0,
    workers=8,
    claimers=1,
    units=40,
    stages=4,
    epochs=4,
    cheat=Cheat.OVERPAY,
    cheat_from=3,
    confirmations=2,
    kill_pause=(5.0, 12.0),
    kills=10,
)
LONG = replace(
    SHORT,
    seed=2026,
    workers=16,
    claimers=2,
    units=480,
    epochs=6,
    kills=24,
    cheat_from=4,
    confirmations=DEPTH + 1,
    reorgs=2,
    reorg_depth=DEPTH,
)
SHORT_CHEATS = [cheat for cheat in Cheat if cheat is not LONG.cheat or find_anvil() is None]
FULL = replace(
    LONG,
    workers=50,
    claimers=5,
    units=2_500,
    epochs=20,
    cheat_from=11,
    kill_pause=(2.0, 8.0),
    kills=200,
)


@asynccontextmanager
async def on_anvil(plan: Plan, folder: Path, nursery: trio.Nursery) -> AsyncIterator[Scenario]:
    """The driver has the faucet in front of anvil; for the nodes that would be a detour."""
    key, executable = os.urandom(32), find_anvil()
    assert executable is not None
    async with run_anvil(executable, CHAIN_ID, address_of(key), FUNDS) as anvil:
        remote = RemoteChain(anvil.url, key)
        dev: DevChain = await nursery.start(partial(serve_devnet, "127.0.0.1", 0, remote=remote))
        async with open_scenario(plan, dev.url, folder, anvil.url) as scenario:
            yield scenario


@asynccontextmanager
async def on_embedded(plan: Plan, folder: Path, nursery: trio.Nursery) -> AsyncIterator[Scenario]:
    dev: DevChain = await nursery.start(partial(serve_devnet, "127.0.0.1", 0, backend="py-evm"))
    async with open_scenario(plan, dev.url, folder) as scenario:
        yield scenario


@pytest.mark.slow(1)
@pytest.mark.parametrize("cheat", SHORT_CHEATS)
async def test_all_are_paid_exactly_once_and_the_cheat_is_slashed(
    cheat: Cheat, tmp_path: Path, nursery: trio.Nursery
) -> None:
    """One on the embedded chain wherever it runs; the others on anvil, which is faster."""
    plan = replace(SHORT, seed=list(Cheat).index(cheat), cheat=cheat)
    embedded = cheat is Cheat.DOUBLE or find_anvil() is None
    async with (on_embedded if embedded else on_anvil)(plan, tmp_path, nursery) as scenario:
        await paid_to_the_wei(scenario)


@needs_anvil
@pytest.mark.slow(3)
async def test_all_are_paid_though_the_chain_changes_its_mind(
    full_size: bool, tmp_path: Path, nursery: trio.Nursery
) -> None:
    plan = FULL if full_size else LONG
    async with on_anvil(plan, tmp_path, nursery) as scenario:
        await paid_to_the_wei(scenario)
        assert len(scenario.ledger.work) == plan.units * plan.stages
        assert len(scenario.chaos.reorgs) == plan.reorgs
        assert scenario.chaos.absences == 1


async def paid_to_the_wei(scenario: Scenario) -> None:
    """Run it, and look at everything that must be true afterwards."""
    before = await balances(scenario)
    with trio.move_on_after(DEADLINE_SECONDS) as scope:
        await scenario.run()
    if scope.cancelled_caught:
        pytest.fail(await scenario.standstill())
    found = await check(scenario, before)
    assert len(found.standing) >= scenario.plan.epochs
    assert scenario.chaos.kills > 0
