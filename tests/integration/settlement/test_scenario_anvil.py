"""Ten thousand receipts of fifty workers over twenty epochs on anvil, with everything going wrong.

One of three validators is dishonest and could post roots alone, an honest one is away for a while,
processes are killed at random moments, and the chain reorganises twice, five blocks deep. Takes
about five minutes on two cores.
"""

from __future__ import annotations

import os
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
from tests.integration.settlement.scenario import Plan, open_scenario

pytestmark = [
    pytest.mark.network,
    pytest.mark.slow(5),
    pytest.mark.xdist_group("networks of processes"),
    pytest.mark.timeout(2_100),
    pytest.mark.skipif(
        find_anvil() is None, reason="anvil not found: install Foundry, or `npm ci` in contracts/"
    ),
]
DEADLINE_SECONDS = 2_000
DEPTH = 5

PLAN = Plan(
    seed=2026,
    workers=50,
    claimers=5,
    units=2_500,
    stages=4,
    epochs=20,
    cheat=Cheat.OVERPAY,
    cheat_from=11,
    confirmations=DEPTH + 1,
    challenge_window=60,
    answer_window=8,
    kill_pause=(2.0, 8.0),
    reorgs=2,
    reorg_depth=DEPTH,
)


async def test_ten_thousand_receipts_are_paid_to_the_wei(
    tmp_path: Path, nursery: trio.Nursery
) -> None:
    key, executable = os.urandom(32), find_anvil()
    assert executable is not None
    with trio.fail_after(DEADLINE_SECONDS):
        async with run_anvil(executable, CHAIN_ID, address_of(key), FUNDS) as anvil:
            # The driver has the faucet in front of anvil; for the nodes that would be a detour.
            remote = RemoteChain(anvil.url, key)
            dev: DevChain = await nursery.start(
                partial(serve_devnet, "127.0.0.1", 0, remote=remote)
            )
            async with open_scenario(PLAN, dev.url, tmp_path, anvil.url) as scenario:
                before = await balances(scenario)
                await scenario.run()
                found = await check(scenario, before)
            assert len(scenario.ledger.work) == 10_000
            assert len(found.standing) >= PLAN.epochs
            assert len(scenario.chaos.reorgs) == PLAN.reorgs
            assert scenario.chaos.kills > 0
            assert scenario.chaos.absences == 1
