"""Getting paid: find this node's leaf in every posted epoch, and claim it once that pays.

Nobody has to bring anything: the follower sees each root of the worker's pools on chain and has the
leaves from whichever peer has them. A leaf is journaled with everything that a claim needs, so that
it can be claimed without the network, by hand as well. Claims are cumulative, so only the newest
final leaf of a pool is ever claimed, and waiting costs nothing: the node waits until what it would
get is worth more than the gas, and claims of several pools share one transaction.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Protocol

import trio

from chain.errors import ChainError
from node.context import NodeContext
from node.journal import OnlyNewest
from node.roles.worker.journal_events import PoolJoined
from node.roles.worker.purse import GasPurse
from node.roles.worker.timing import RewardTiming
from node.settlement.follower import SettlementFollower
from node.settlement.history import PostedEpoch
from node.settlement.reward import Reward

if TYPE_CHECKING:
    from chain.client import ChainClient

CLAIM_GAS = 110_000
"""Of one claim in a transaction of its own, with a deep proof; see contracts/snapshots/Gas.json."""
LEAVES_KEPT = 64
"""Of an account in a pool, in the journal. They are cumulative: the newest final one is claimed,
and all but the last few are final."""
CLAIM = "claim"
"""What claims are called among the transactions that a budget counts."""


class WorkerRewards(Protocol):
    """What the worker role asks of its pay. `claimed` is the total after the last claim, in the
    token's smallest unit."""

    claimed: int

    def wants(self, pool_id: int) -> bool:
        """Whether this node ever worked in a pool."""
        ...

    async def restore(self) -> None:
        """The pools that the journal says this node joined."""
        ...

    async def joined(self, pool_id: int) -> None:
        """This node works in a pool from now on."""
        ...

    async def run(self) -> None:
        """Get paid, until cancelled or for ever."""
        ...


class Unpaid:
    """A worker's pay where there is no chain."""

    claimed = 0

    def wants(self, pool_id: int) -> bool:
        """Nobody posts epochs."""
        return False

    async def restore(self) -> None:
        """Nothing was kept."""

    async def joined(self, pool_id: int) -> None:
        """Nothing follows from it."""

    async def run(self) -> None:
        """Nothing to do."""


class Rewards:
    """Finds and claims what `accounts` have earned: this node's provider, unless others are named
    (anyone may claim for anyone). `claimed` is the total after the last claim, in the token's
    smallest unit."""

    def __init__(
        self,
        context: NodeContext,
        chain: ChainClient,
        settled: SettlementFollower,
        purse: GasPurse,
        accounts: Collection[str] | None = None,
        timing: RewardTiming | None = None,
    ) -> None:
        self._context = context
        self._chain = chain
        self._settled = settled
        self._purse = purse
        self._timing = timing or RewardTiming()
        self._accounts = (context.provider,) if accounts is None else tuple(accounts)
        self._pools: set[int] = set()
        self._noted: dict[tuple[int, str], bytes] = {}
        self._known_claimed: dict[tuple[int, str], int] = {}
        self.claimed = 0

    def wants(self, pool_id: int) -> bool:
        """Whether this node ever worked in a pool."""
        return pool_id in self._pools

    async def restore(self) -> None:
        """The pools that the journal says this node joined."""
        self._pools |= {e.pool_id for e in await self._context.journal.replay(PoolJoined)}

    async def joined(self, pool_id: int) -> None:
        """This node works in a pool from now on; its epochs are looked at for good."""
        if pool_id not in self._pools:
            await self._context.journal.record(PoolJoined(pool_id=pool_id))
            self._pools.add(pool_id)
            self._settled.look_again()

    async def run(self) -> None:
        """Note leaves as they come, and claim what is due, until cancelled."""
        version = -1
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._claim_due)
            while True:
                version = await self._settled.wait_changed(version)
                for pool_id in list(self._pools):
                    history = self._settled.history(pool_id)
                    if history.newest is not None:
                        for account in self._accounts:
                            await self._note(history.newest, account)

    async def _note(self, entry: PostedEpoch, account: str) -> None:
        """Journal an account's leaf of a posted epoch, where it has one."""
        if entry.epoch is None:
            return
        root, known_as = entry.posted.root, (entry.posted.root.pool_id, account)
        standing = entry.posted.signers_hash + root.receipts_root + root.payouts_root
        payout = entry.epoch.payout(account)
        if payout is None or self._noted.get(known_as) == standing:
            return
        kept = OnlyNewest(Reward, LEAVES_KEPT * len(self._accounts), f"{root.pool_id}:")
        await self._context.journal.record(Reward.of(entry, account, payout), kept)
        self._noted[known_as] = standing
        units = entry.epoch.units_of(account)
        self._context.log.info(
            "reward noted", pool=root.pool_id, epoch=root.epoch, units=units, wei=payout.cumulative
        )

    async def _claim_due(self) -> None:
        while True:
            pause = self._timing.look
            try:
                due = [reward for p in list(self._pools) for reward in self._final_rewards(p)]
                await self._claim(due)
            except ChainError as exc:
                self._context.log.warning("claim not possible yet", reason=str(exc))
                pause = self._timing.retry
            await trio.sleep(pause)

    def _final_rewards(self, pool_id: int) -> list[Reward]:
        """The newest final leaves of a pool that are here and above what is known to be paid."""
        history = self._settled.history(pool_id)
        for entry in reversed(history.entries):
            if entry.epoch is None or not self._settled.is_final(history, entry):
                continue
            earned = entry.epoch.earned
            return [
                Reward.of(entry, account, payout)
                for account in self._accounts
                if earned.get(account, 0) > self._known_claimed.get((pool_id, account), -1)
                and (payout := entry.epoch.payout(account)) is not None
            ]
        return []

    async def _claim(self, rewards: list[Reward]) -> None:
        """Claim what is above what was claimed, if together it is worth its gas."""
        open_rewards, gain = [], 0
        for reward in rewards:
            total = reward.cumulative
            pool_id = reward.pool_id
            claimed = await self._chain.settlement.claimed(pool_id, reward.account)
            self._known_claimed[pool_id, reward.account] = claimed
            if claimed < total:
                open_rewards.append(reward)
                gain += total - claimed
        if not open_rewards:
            return
        gas, price = CLAIM_GAS * len(open_rewards), await self._purse.price()
        if gain < self._worth(gas * price) or self._purse.refuses(gas * price) is not None:
            return
        async with self._purse.paying(CLAIM, gas, price) as paid:
            sent = await self._chain.settlement.claim_many([r.to_claim() for r in open_rewards])
            for result in sent or (None,):
                paid(result)
        for reward in open_rewards:
            self.claimed = reward.cumulative
            self._known_claimed[reward.pool_id, reward.account] = self.claimed
            self._context.log.info(
                "reward claimed",
                pool=reward.pool_id,
                epoch=reward.epoch,
                amount=self.claimed,
            )

    def _worth(self, cost: int) -> int:
        """The least gain, wei of the token, that is worth claiming for `cost` wei of gas."""
        section = self._context.config.worker
        return max(section.claim_above, int(cost * section.tokens_per_ether))
