"""What must be true after a scenario, read from the chain and from the honest nodes' disks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from chain.client import ChainClient
from chain.events.reader import ChainEvent, EventReader
from chain.events.settlement_events import RootPosted, RootVoided, read_event
from node.config.datadir import DataDir
from proofs.encoding.leaves import PostedRoot
from proofs.settlement.epoch_data import EpochData, data_hash
from tests.integration.settlement.processes import NodeProcess
from tests.integration.settlement.scenario import Scenario


@dataclass
class Told:
    """What the settlement contract's events tell, folded: `standing` roots by epoch."""

    standing: dict[int, PostedRoot] = field(default_factory=dict)
    voided: list[PostedRoot] = field(default_factory=list)
    paid: Counter[str] = field(default_factory=Counter)
    slashed: Counter[str] = field(default_factory=Counter)
    posts: list[bytes] = field(default_factory=list)

    def take(self, event: ChainEvent) -> None:
        match read_event(event):
            case RootPosted(posted=posted):
                assert posted.root.epoch not in self.standing
                self.standing[posted.root.epoch] = posted
                self.posts.append(event.tx_hash)
            case RootVoided(epoch=epoch):
                self.voided.append(self.standing.pop(epoch))
        if event.name == "Claimed":
            self.paid[event.args["account"]] += event.args["amount"]
        if event.name == "SignerSlashed":
            self.slashed[event.args["provider"]] += event.args["amount"]


async def told(chain: ChainClient) -> Told:
    """All events from the beginning."""
    reader = EventReader(
        chain.rpc, chain.deployment, chain.database, "checks", ("ReceiptSettlement",)
    )
    found = Told()
    while (batch := await reader.read()) is not None:
        for event in batch.events:
            found.take(event)
        await reader.finish(batch)
    return found


async def balances(scenario: Scenario) -> dict[str, int]:
    """Tokens of all accounts and of the validators' nodes, which pay the bonds."""
    world = scenario.world
    addresses = [worker.account for worker in world.workers]
    addresses += [validator.node for validator in world.validators]
    return {address: await world.owner.token_balance(address) for address in addresses}


async def check(scenario: Scenario, before: Mapping[str, int]) -> Told:
    """Everything that the scenario promises; returns what the events told."""
    found = await told(scenario.world.owner)
    await _check_money(scenario, found, before)
    await _check_stakes(scenario, found, before)
    for node in scenario.honest:
        _check_published(node, scenario, found)
    receipts = [await scenario.world.owner.rpc.receipt(tx) for tx in found.posts]
    gas = [receipt.gas_used for receipt in receipts if receipt is not None]
    scenario.note(
        f"{len(found.standing)} epochs, {len(scenario.ledger.work)} receipts, {max(gas)} gas at "
        f"most to post one, {scenario.chaos.kills} kills, {scenario.chaos.reorgs} reorganised"
    )
    return found


async def _check_money(scenario: Scenario, found: Told, before: Mapping[str, int]) -> None:
    world, due = scenario.world, scenario.ledger.due
    after = await balances(scenario)
    for worker in world.workers:
        gained = after[worker.account] - before[worker.account]
        assert gained == due[worker.account], worker.account
        assert found.paid[worker.account] == due[worker.account], worker.account
    assert sum(found.paid.values()) == scenario.ledger.total
    last = await world.owner.settlement.epochs_of(world.pool)
    assert last.total_payout == scenario.ledger.total
    assert last.open_disputes == 0
    funds = await world.owner.pools.funds(world.pool)
    assert funds.paid == scenario.ledger.total
    distributor = world.deployment.address("RewardsDistributor")
    held = await world.owner.token_balance(distributor)
    assert held == funds.funded - funds.paid


async def _check_stakes(scenario: Scenario, found: Told, before: Mapping[str, int]) -> None:
    world = scenario.world
    *honest, cheater = world.validators
    for validator in honest:
        assert await world.owner.providers.stake_of(validator.account) == validator.stake
        # Its bonds came back, and whoever was right first has a bounty.
        assert await world.owner.token_balance(validator.node) >= before[validator.node]
    assert set(found.slashed) == {cheater.account}
    left = await world.owner.providers.stake_of(cheater.account)
    assert left == cheater.stake - found.slashed[cheater.account] == cheater.stake // 10
    assert [posted.signers for posted in found.voided] == [(cheater.node,)]


def _check_published(node: NodeProcess, scenario: Scenario, found: Told) -> None:
    """Every epoch's data are on an honest validator's disk, and pay everything exactly once."""
    seen: list[tuple[bytes, int]] = []
    for number in range(1, max(found.standing) + 1):
        wanted = found.standing[number].root.data_hash
        content = (DataDir(node.folder).blobs / f"{wanted.hex()}.epoch").read_bytes()
        assert data_hash(content) == wanted
        data = EpochData.from_bytes(content)
        seen += [(item.receipt.job_id, item.receipt.stage) for item in data.receipts]
    assert len(seen) == len(set(seen))
    assert set(seen) == scenario.ledger.work
