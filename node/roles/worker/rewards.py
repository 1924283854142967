"""Getting paid: take the leaf a validator sends, check it against the chain, claim it.

A leaf is only believed when it proves into the payouts root that is on chain for this pool, for
this node's own provider. It is journaled, then claimed; a claim that the challenge window still
holds back is tried again. Claims are cumulative: a missed epoch costs nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import trio

from chain.errors import ChainError
from node.context import NodeContext
from node.protocol import ClaimProof, Done, Settled
from p2p.errors import Refused
from proofs.merkle import payout_leaf, verify

FIRST_RETRY_SECONDS = 1.0
LAST_RETRY_SECONDS = 60.0
QUEUE = 64


@dataclass(frozen=True)
class Reward:
    pool_id: int
    epoch: int
    claim: ClaimProof


class Rewards:
    """Claims what validators say was earned."""

    def __init__(self, context: NodeContext) -> None:
        self._context = context
        self._send, self._receive = trio.open_memory_channel[Reward](QUEUE)
        self.claimed = 0

    async def on_settled(self, peer_id: str, notice: Settled) -> Done:
        """Accept a leaf: checked against the chain and journaled before the answer."""
        chain, claim = self._context.chain, notice.claim
        if chain is None or claim is None:
            return Done()
        if claim.account != self._context.provider:
            raise Refused("not_mine", f"the leaf is for {claim.account}")
        root = await chain.latest_root(notice.pool_id)
        if root is None or root.epoch < notice.epoch:
            raise Refused("unknown_epoch", f"epoch {notice.epoch} is not on chain yet")
        leaf = payout_leaf(claim.account, int(claim.cumulative))
        if root.epoch == notice.epoch and not verify(root.payouts_root, leaf, claim.proof):
            raise Refused("bad_leaf", "the leaf does not prove into the root on chain")
        key = f"{notice.pool_id}:{notice.epoch}"
        await self._context.journal.append("peer.reward", key, notice.model_dump(), origin="peer")
        try:
            self._send.send_nowait(Reward(notice.pool_id, notice.epoch, claim))
        except trio.WouldBlock as exc:
            raise Refused("busy", "too many rewards wait; ask again") from exc
        return Done()

    async def run(self) -> None:
        """Claim what the journal holds from before, then whatever arrives."""
        for event in await self._context.journal.events(["peer.reward"]):
            notice = Settled.model_validate(event.body)
            if notice.claim is not None:
                await self._claim(Reward(notice.pool_id, notice.epoch, notice.claim))
        async for reward in self._receive:
            await self._claim(reward)

    async def _claim(self, reward: Reward) -> None:
        chain = self._context.chain
        if chain is None:
            return
        delay = FIRST_RETRY_SECONDS
        amount = int(reward.claim.cumulative)
        while True:
            try:
                if await chain.claimed(reward.pool_id, reward.claim.account) >= amount:
                    return
                root = await chain.latest_root(reward.pool_id)
                if root is not None and root.epoch > reward.epoch:
                    return  # a later leaf, which is cumulative, replaces this one
                result = await chain.claim(
                    reward.pool_id, reward.claim.account, amount, reward.claim.proof
                )
                self.claimed = amount
                self._context.log.info(
                    "reward claimed",
                    epoch=reward.epoch,
                    amount=amount,
                    transaction="" if result is None else "0x" + result.hash.hex(),
                )
                return
            except ChainError as exc:
                self._context.log.warning("claim not possible yet", reason=str(exc))
            await trio.sleep(delay)
            delay = min(delay * 2, LAST_RETRY_SECONDS)
