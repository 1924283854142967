"""Settlement: posting epoch roots, and claiming against them."""

from __future__ import annotations

from collections.abc import Sequence

from chain.caller import ContractUser
from chain.errors import InvalidInput
from chain.transactions.manager import TxResult
from chain.views import SettledRoot
from proofs.receipts import EpochRoot


class Settlement(ContractUser):
    """The part of `ChainClient` that speaks to ReceiptSettlement."""

    async def post_root(
        self, root: EpochRoot, signatures: Sequence[tuple[str, bytes]]
    ) -> TxResult | None:
        """Post an epoch root with the validators' (address, signature) pairs, in any order.

        Returns None when exactly this epoch was posted before; raises InvalidInput when another
        root holds its place.
        """
        ordered = [signature for _, signature in sorted(signatures, key=lambda s: s[0].lower())]

        async def needed() -> bool:
            return int(await self.next_epoch(root.pool_id)) <= root.epoch

        result = await self.caller.step(
            f"post-root/{root.pool_id}/{root.epoch}",
            needed,
            "ReceiptSettlement",
            "postRoot",
            tuple(getattr(root, field) for field in EpochRoot.model_fields),
            ordered,
        )
        if result is None:
            await self._check_posted(root)
        return result

    async def _check_posted(self, root: EpochRoot) -> None:
        for posted in (await self.pending_root(root.pool_id), await self.latest_root(root.pool_id)):
            if posted is not None and posted.epoch == root.epoch:
                if (posted.payouts_root, posted.receipts_root) != (
                    root.payouts_root,
                    root.receipts_root,
                ):
                    raise InvalidInput(
                        f"epoch {root.epoch} of pool {root.pool_id} was settled with another root"
                    )
                return

    async def next_epoch(self, pool_id: int) -> int:
        """The epoch that the pool's next root must carry."""
        return int(await self.caller.read("ReceiptSettlement", "nextEpoch", pool_id))

    async def latest_root(self, pool_id: int) -> SettledRoot | None:
        """The root that claims verify against now."""
        return SettledRoot.from_abi(
            await self.caller.read("ReceiptSettlement", "latestRoot", pool_id)
        )

    async def pending_root(self, pool_id: int) -> SettledRoot | None:
        """The root that waits for its challenge window."""
        return SettledRoot.from_abi(
            await self.caller.read("ReceiptSettlement", "pendingRoot", pool_id)
        )

    async def claim(
        self, pool_id: int, account: str, cumulative: int, proof: Sequence[bytes]
    ) -> TxResult | None:
        """Have `account` paid up to `cumulative`; None when it already was. Any key may ask."""

        async def needed() -> bool:
            return await self.claimed(pool_id, account) < cumulative

        return await self.caller.step(
            f"claim/{pool_id}/{account}/{cumulative}",
            needed,
            "ReceiptSettlement",
            "claim",
            pool_id,
            account,
            cumulative,
            list(proof),
        )

    async def claimed(self, pool_id: int, account: str) -> int:
        """Tokens that `account` was paid from a pool so far."""
        return int(await self.caller.read("ReceiptSettlement", "claimed", pool_id, account))
