"""Getting paid: take the leaf a validator sends, check it against the chain, claim it.

A leaf is only believed when it proves into the payouts root that is on chain for its pool now, for
this node's own provider: anybody may bring it, and nobody can bring another. It is journaled, then
claimed; a claim that the challenge window still holds back is tried again. Claims are cumulative:
a missed epoch costs nothing, and of each pool only the latest leaf is kept.
"""

from __future__ import annotations

from dataclasses import dataclass

import trio

from chain.errors import ChainError
from node.context import NodeContext
from node.protocol import ClaimProof, Done, Settled
from node.settlement import chain_refusals
from p2p.errors import Refused
from proofs.errors import ProofError
from proofs.merkle import payout_leaf, verify

FIRST_RETRY_SECONDS = 1.0
LAST_RETRY_SECONDS = 60.0


@dataclass(frozen=True)
class Reward:
    pool_id: int
    epoch: int
    claim: ClaimProof


class Rewards:
    """Claims what validators say was earned."""

    def __init__(self, context: NodeContext) -> None:
        self._context = context
        self._latest: dict[int, Reward] = {}
        self._claiming: set[int] = set()
        self._changed = trio.Event()
        self.claimed = 0

    async def on_settled(self, peer_id: str, notice: Settled) -> Done:
        """Accept a leaf: checked against the chain and journaled before the answer."""
        chain, claim = self._context.chain, notice.claim
        if chain is None or claim is None:
            return Done()
        if claim.account != self._context.provider:
            raise Refused("not_mine", f"the leaf is for {claim.account}")
        with chain_refusals():
            root = await chain.latest_root(notice.pool_id)
        if root is None or root.epoch < notice.epoch:
            raise Refused("unknown_epoch", f"epoch {notice.epoch} is not on chain yet")
        if root.epoch > notice.epoch:
            return Done()  # a later leaf, which is cumulative, replaces this one
        try:
            leaf = payout_leaf(claim.account, int(claim.cumulative))
        except ProofError as exc:
            raise Refused("bad_leaf", str(exc)) from exc
        if not verify(root.payouts_root, leaf, claim.proof):
            raise Refused("bad_leaf", "the leaf does not prove into the root on chain")
        body = {"pool_id": notice.pool_id, "epoch": notice.epoch, "claim": claim.model_dump()}
        key = f"{notice.pool_id}:{notice.epoch}"
        await self._context.journal.append("peer.reward", key, body, origin="peer")
        self._note(Reward(notice.pool_id, notice.epoch, claim))
        return Done()

    async def run(self) -> None:
        """Claim what the journal holds from before, then whatever arrives."""
        for event in await self._context.journal.events(["peer.reward"]):
            claim = ClaimProof.model_validate(event.body["claim"])
            self._note(Reward(event.body["pool_id"], event.body["epoch"], claim))
        async with trio.open_nursery() as nursery:
            while True:
                changed = self._changed
                for pool_id in self._latest.keys() - self._claiming:
                    self._claiming.add(pool_id)
                    nursery.start_soon(self._claim_all, pool_id)
                await changed.wait()

    def _note(self, reward: Reward) -> None:
        known = self._latest.get(reward.pool_id)
        if known is None or known.epoch < reward.epoch:
            self._latest[reward.pool_id] = reward
            self._changed.set()
            self._changed = trio.Event()

    async def _claim_all(self, pool_id: int) -> None:
        """Claim a pool's leaf, and the later one that came meanwhile, until none is left."""
        reward: Reward | None = None
        while self._latest[pool_id] != reward:
            reward = self._latest[pool_id]
            await self._claim(reward)
        self._claiming.discard(pool_id)
        del self._latest[pool_id]

    async def _claim(self, reward: Reward) -> None:
        chain = self._context.chain
        if chain is None:
            return
        delay = FIRST_RETRY_SECONDS
        amount = int(reward.claim.cumulative)
        while self._latest[reward.pool_id] == reward:
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
