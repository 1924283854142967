"""`rewards`: what the journal can prove, held against a real chain."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from node.config.datadir import DataDir
from node.config.keystore import NodeKey, save_key
from node.config.networkfile import NetworkFile
from node.journal import Journal
from node.onchain.amounts import UNIT
from node.settlement.history import PostedEpoch
from node.settlement.reward import Reward
from proofs.encoding.leaves import PostedRoot
from proofs.settlement.epoch_data import Epoch
from tests.chain.epochs import RATE, UNITS, Arena, open_arena
from tests.node.cli.conftest import WINDOW, OnChain


def note(folder: Path, posted: PostedRoot, epoch: Epoch, account: str) -> None:
    """What a node journals when it finds its provider's leaf in a posted root."""
    payout = epoch.payout(account)
    assert payout is not None
    entry = PostedEpoch(posted, 0, 0, "0x" + posted.signers_hash.hex())
    reward = Reward.of(entry, account, payout)
    with Journal(folder / "journal.sqlite", time.time) as journal:
        journal.commit([reward.to_entry()])


@pytest.fixture
async def arena(onchain: OnChain) -> Arena:
    return await open_arena(onchain.world, validators=1, workers=2)


def hot_folder(arena: Arena, folder: Path) -> str:
    """A node's folder: its own key, and the address of its provider."""
    worker = arena.workers[0]
    DataDir(folder).create()
    save_key(folder / "node.key", NodeKey(worker.node_key))
    (folder / "config.toml").write_text(f'provider = "{worker.account}"\n')
    return worker.account


async def test_rewards_are_pending_then_claimable_then_claimed(
    onchain: OnChain, arena: Arena, tmp_path: Path
) -> None:
    folder = tmp_path / "hot"
    account = hot_folder(arena, folder)
    at = ("--data-dir", folder)
    empty = await onchain.json("rewards", "list", *at)
    assert [pool["claimable"] for pool in empty["pools"]] == ["0"]  # the node is in the pool

    first = arena.settle([arena.receipt(0), arena.receipt(1)])
    never_posted = arena.settle([arena.receipt(0)], epoch=1)
    posted = await arena.post(first.root)
    note(folder, posted, first, account)
    note(folder, PostedRoot(never_posted.root, (arena.workers[0].node,)), never_posted, account)
    pool = (await onchain.json("rewards", "list", *at))["pools"][0]
    assert (pool["claimable"], pool["pending"]) == ("0", str(UNITS * RATE))
    assert pool["pending_until"] > time.time() - 60
    assert "nothing to claim now" in (await onchain.run("rewards", "claim", *at)).out

    await onchain.pass_time(WINDOW)
    second = arena.settle([arena.receipt(0, epoch=2)], epoch=2, earned=first.earned)
    note(folder, await arena.post(second.root), second, account)
    pool = (await onchain.json("rewards", "list", *at))["pools"][0]
    amounts = {name: int(pool[name]) for name in ("earned", "claimed", "claimable", "pending")}
    once = UNITS * RATE
    assert amounts == {"earned": once, "claimed": 0, "claimable": once, "pending": once}
    balance = await onchain.json("wallet", "balance", *at)
    assert balance["claimable"] == str(once)

    assert (await onchain.json("rewards", "claim", "--min", "100", *at))["transactions"] == []
    before = await arena.owner.token_balance(account)
    # Only the node's key is here; the tokens go to the provider all the same.
    claimed = await onchain.json("rewards", "claim", *at)
    assert claimed["claimed"] == str(once)
    assert len(claimed["transactions"]) == 1
    assert await arena.owner.token_balance(account) == before + once
    assert (await onchain.json("rewards", "claim", *at))["transactions"] == []
    shown = await onchain.run("rewards", "list", *at)
    assert "0.05" in shown.out


async def test_a_running_node_keeps_its_key_to_itself(
    onchain: OnChain, arena: Arena, tmp_path: Path
) -> None:
    folder = tmp_path / "hot"
    account = hot_folder(arena, folder)
    epoch = arena.settle([arena.receipt(0), arena.receipt(1)])
    note(folder, await arena.post(epoch.root), epoch, account)
    await onchain.pass_time(WINDOW)
    with DataDir(folder).lock():
        said = await onchain.refused("rewards", "claim", "--data-dir", folder, code=5)
        assert "claims by itself" in said
        assert "worker.claim_above" in said
        assert (await onchain.json("rewards", "list", "--data-dir", folder))["pools"]
        # The provider's key sends nothing for a running node, so it may.
        (folder / "config.toml").unlink()
        save_key(folder / "provider.key", NodeKey(arena.workers[0].key))
        paid = await onchain.json("rewards", "claim", "--data-dir", folder)
        assert paid["claimed"] == str(UNITS * RATE)


async def test_pools_that_pay_for_time_need_no_proofs(
    onchain: OnChain, arena: Arena, tmp_path: Path
) -> None:
    from chain.encoding.views import Strategy

    folder = tmp_path / "hot"
    account = hot_folder(arena, folder)
    worker, owner = arena.workers[0], arena.owner
    pool = await owner.pools.create("by time", rate=UNIT // 1000, strategy=Strategy.FIXED)
    await owner.pools.fund(pool, 100 * UNIT)
    await owner.pools.start(pool)
    await worker.client.pools.leave(arena.pool, node=worker.node)
    await worker.client.pools.join(pool, node=worker.node)
    await onchain.pass_time(1000)
    listed = (await onchain.json("rewards", "list", "--data-dir", folder))["pools"]
    assert [(entry["pool_id"], entry["by_time"]) for entry in listed] == [(pool, True)]
    assert int(listed[0]["claimable"]) >= UNIT
    before = await owner.token_balance(account)
    await onchain.json("rewards", "claim", "--data-dir", folder)
    assert await owner.token_balance(account) >= before + UNIT


async def test_no_journal_and_no_provider_are_said(onchain: OnChain, tmp_path: Path) -> None:
    said = await onchain.refused("rewards", "list", "--data-dir", tmp_path / "none")
    assert "prime-node wallet new makes one" in said
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "journal.sqlite").write_text("not a database at all" * 100)
    (tmp_path / "bad" / "config.toml").write_text('provider = "0x' + "12" * 20 + '"\n')
    said = await onchain.refused("rewards", "list", "--data-dir", tmp_path / "bad", code=5)
    assert "cannot be read" in said
    assert NetworkFile.load(onchain.network_file).chain is not None
