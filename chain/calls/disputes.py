"""Questions about posted roots, their answers, and what becomes of both.

The caller says what is wrong or right (`proofs.settlement.audit`, `proofs.settlement.epoch_data`);
this module only takes it to the chain. Opening a question costs the bond, which is approved first.
Everything that ends a question returns None when the chain shows that it is over already.
"""

from __future__ import annotations

from chain.calls.caller import Call, ContractCaller
from chain.calls.settlement import SETTLEMENT
from chain.encoding.structs import (
    Dispute,
    answer_struct,
    leaf_struct,
    message,
    payout_struct,
    posted_struct,
    signed_struct,
    signer_list,
)
from chain.transactions.manager import TxResult
from proofs.encoding.leaves import PayoutAnswer, PostedRoot, ProvenLeaf, ProvenPayout, SignedReceipt
from proofs.encoding.receipts import Receipt


class Disputes:
    """The part of `ChainClient` that asks, answers and proves."""

    def __init__(self, caller: ContractCaller) -> None:
        self._caller = caller

    async def find(self, dispute_id: int) -> Dispute | None:
        """An open dispute; None when it is over, or there never was one."""
        return Dispute.from_abi(await self._caller.read(SETTLEMENT, "disputeOf", dispute_id))

    async def dispute_receipt(self, posted: PostedRoot, index: int) -> int:
        """Ask for leaf `index` of a pending root; returns the dispute's id. Costs the bond.

        This key asks each question once: asking again returns the same id.
        """
        return await self._ask(
            posted, f"receipt/{index}", "disputeReceipt", posted_struct(posted), index
        )

    async def dispute_payout(self, posted: PostedRoot, account: str, payout: ProvenPayout) -> int:
        """Ask whether exactly `payout`, a leaf of the pending root, is due to its account;
        otherwise as `dispute_receipt`."""
        return await self._ask(
            posted,
            f"payout/{account}/{payout.cumulative}",
            "disputePayout",
            posted_struct(posted),
            account,
            payout_struct(payout),
        )

    async def dispute_omission(
        self,
        posted: PostedRoot,
        previous: PostedRoot | None,
        account: str,
        payout: ProvenPayout | None,
    ) -> int:
        """Ask whether the pending root pays an account its due. `payout` is the account's leaf in
        the epoch before, None where it had none. Otherwise as `dispute_receipt`."""
        return await self._ask(
            posted,
            f"omission/{account}",
            "disputeOmission",
            posted_struct(posted),
            posted_struct(previous),
            account,
            payout_struct(payout),
        )

    async def _ask(self, posted: PostedRoot, subject: str, function: str, *args: object) -> int:
        bond = int(await self._caller.read(SETTLEMENT, "bond"))
        # A voided root never comes back, so its hash and the subject name the question for good.
        key = f"dispute/{posted.hash(self._caller.deployment.domain(SETTLEMENT)).hex()}/{subject}"
        result = await self._caller.once(key, SETTLEMENT, function, *args, spend=bond)
        opened = await self._caller.event(result, SETTLEMENT, "DisputeOpened")
        return int(opened["disputeId"])

    async def answer_receipt(
        self,
        dispute_id: int,
        posted: PostedRoot,
        disputed: ProvenLeaf,
        before: ProvenLeaf | None,
        signed: SignedReceipt,
    ) -> TxResult | None:
        """Answer for a leaf; `before` is the one with the index below, None for index 0.

        None when the dispute is over or its root was voided. Raises Reverted with InvalidAnswer
        when it shows something else.
        """
        return await self._answer(
            dispute_id,
            "answerReceipt",
            posted_struct(posted),
            leaf_struct(disputed),
            leaf_struct(before),
            signed_struct(signed),
        )

    async def answer_payout(
        self, dispute_id: int, posted: PostedRoot, previous: PostedRoot | None, answer: PayoutAnswer
    ) -> TxResult | None:
        """Answer a PAYOUT or OMISSION dispute; `previous` is the epoch before, None for epoch 1.
        Otherwise as `answer_receipt`."""
        return await self._answer(
            dispute_id,
            "answerPayout",
            posted_struct(posted),
            posted_struct(previous),
            answer_struct(answer),
        )

    async def _answer(self, dispute_id: int, function: str, *args: object) -> TxResult | None:
        async def answerable() -> Call | None:
            asked = await self.find(dispute_id)
            if asked is None:
                return None
            standing = await self._caller.read(SETTLEMENT, "rootHash", asked.pool_id, asked.epoch)
            if bytes(standing) != asked.root:
                return None
            return Call(SETTLEMENT, function, (dispute_id, *args))

        return await self._caller.planned(
            f"answer/{dispute_id}", answerable, done=("UnknownDispute",)
        )

    async def uphold(self, dispute_id: int, posted: PostedRoot) -> TxResult | None:
        """Void a root whose dispute nobody answered in time, or take the bond back where the root
        was voided otherwise; None when the dispute is over.

        Raises Reverted with AnswerTooEarly while an answer may still come.
        """

        async def open_still() -> bool:
            return await self.find(dispute_id) is not None

        return await self._caller.step(
            f"uphold/{dispute_id}",
            open_still,
            SETTLEMENT,
            "uphold",
            dispute_id,
            posted_struct(posted),
            signer_list(posted),
            done=("UnknownDispute",),
        )

    async def prove_double_count(
        self,
        posted: PostedRoot,
        leaf: ProvenLeaf,
        receipt: Receipt,
        other_posted: PostedRoot,
        other_leaf: ProvenLeaf,
        other_receipt: Receipt,
    ) -> TxResult | None:
        """Void a pending root that pays for one stage of one unit twice, itself or after an earlier
        root; None when it no longer stands."""
        return await self._void(
            posted,
            "proveDoubleCount",
            posted_struct(posted),
            signer_list(posted),
            leaf_struct(leaf),
            message(receipt),
            posted_struct(other_posted),
            leaf_struct(other_leaf),
            message(other_receipt),
        )

    async def cancel_root(self, posted: PostedRoot) -> TxResult | None:
        """Void a pending root by a federator's word; None when it no longer stands."""
        return await self._void(posted, "cancelRoot", posted_struct(posted))

    async def _void(self, posted: PostedRoot, function: str, *args: object) -> TxResult | None:
        root, digest = posted.root, posted.hash(self._caller.deployment.domain(SETTLEMENT))

        async def stands() -> bool:
            standing = await self._caller.read(SETTLEMENT, "rootHash", root.pool_id, root.epoch)
            return bytes(standing) == digest

        return await self._caller.step(
            f"{function}/{digest.hex()}", stands, SETTLEMENT, function, *args, done=("UnknownRoot",)
        )
