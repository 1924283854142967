"""What a provider has earned, as far as this data folder can prove it.

A node that finds its provider's leaf in a posted root keeps it in its journal as a `Reward`. Here
such leaves are held against the chain: a root that no longer stands counts for nothing, one that is
final can be claimed from, and one in its window is pending. Rewards are cumulative, so of each pool
only the newest final and the newest pending leaf matter.

Pools that pay for time need no proofs: the chain is asked what a claim would pay.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from chain.encoding.views import PoolState, Strategy
from node.journal import read_newest
from node.settlement.reward import Reward

if TYPE_CHECKING:
    from chain.calls.settlement import Claim
    from chain.client import ChainClient


@dataclass(frozen=True)
class Earning:
    """One pool's account. Amounts in the token's smallest unit, times in Unix seconds.

    `earned` is the total that is final, `pending` what a root in its window would add, from
    `pending_until` on. `final` is the leaf to claim with; None for a pool that pays for time.
    """

    pool_id: int
    by_time: bool
    earned: int
    claimed: int
    claimable: int
    pending: int = 0
    pending_until: int = 0
    disputed: bool = False
    epoch: int = 0
    final: Reward | None = None

    def claim(self) -> Claim | None:
        """For `claim_many`; None where there is nothing to prove."""
        return None if self.final is None else self.final.to_claim()


async def find_earnings(
    chain: ChainClient, account: str, journal: Path, pools: Iterable[int] = ()
) -> list[Earning]:
    """By pool. `pools` are looked at, too, besides those in the journal and those of the
    provider's nodes. Raises `JournalError` and ChainError."""
    rewards: dict[int, list[Reward]] = {}
    for reward in read_newest(journal, Reward):
        if reward.account == account:
            rewards.setdefault(reward.pool_id, []).append(reward)
    wanted = set(pools) | set(rewards)
    for node in await chain.providers.nodes_of(account):
        record = await chain.nodes.find(node)
        if record is not None and record.pool_id is not None:
            wanted.add(record.pool_id)
    found = []
    for pool_id in sorted(wanted):
        newest = sorted(rewards.get(pool_id, ()), key=lambda one: -one.epoch)
        found.append(await _earning(chain, account, pool_id, newest))
    return [earning for earning in found if earning is not None]


async def _earning(
    chain: ChainClient, account: str, pool_id: int, rewards: list[Reward]
) -> Earning | None:
    if (await chain.pools.info(pool_id)).state is PoolState.NONE:
        return None
    if (await chain.pools.funds(pool_id)).strategy is not Strategy.WORK:
        return await _by_time(chain, account, pool_id)
    return await _by_work(chain, account, pool_id, rewards)


async def _by_work(
    chain: ChainClient, account: str, pool_id: int, rewards: list[Reward]
) -> Earning:
    claimed = await chain.settlement.claimed(pool_id, account)
    last = await chain.settlement.epochs_of(pool_id)
    domain = chain.domain("ReceiptSettlement")
    final: Reward | None = None
    pending: Reward | None = None
    for reward in rewards:
        if await chain.settlement.root_hash(pool_id, reward.epoch) != reward.posted.hash(domain):
            continue  # voided, or posted anew with another root
        if await chain.settlement.is_final(pool_id, reward.epoch):
            final = reward
            break
        pending = pending or reward
    earned = max(claimed, final.cumulative if final else 0)
    return Earning(
        pool_id=pool_id,
        by_time=False,
        earned=earned,
        claimed=claimed,
        claimable=earned - claimed,
        pending=max(0, pending.cumulative - earned) if pending else 0,
        pending_until=last.claimable_at if pending else 0,
        disputed=bool(pending and last.open_disputes),
        epoch=final.epoch if final else 0,
        final=final,
    )


async def _by_time(chain: ChainClient, account: str, pool_id: int) -> Earning:
    paid = await chain.pools.paid_for_time(pool_id, account)
    due = await chain.pools.time_due(pool_id, account)
    return Earning(pool_id=pool_id, by_time=True, earned=paid + due, claimed=paid, claimable=due)
