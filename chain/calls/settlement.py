"""Settlement: posting epoch roots, knowing when they are final, and claiming against them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from chain.calls.caller import Call, ContractCaller
from chain.deployment.parameters import WHOLE
from chain.encoding.structs import (
    NO_HASH,
    PoolEpochs,
    SettlementTerms,
    message,
    posted_struct,
)
from chain.endpoint.concurrency import for_each
from chain.errors import BadResponse, InvalidInput, Reverted, TransactionFailed
from chain.events.settlement_events import root_posted
from chain.transactions.batches import BatchedCall, split_into_batches
from chain.transactions.manager import TxResult
from proofs.encoding.leaves import PostedRoot, Proof
from proofs.encoding.receipts import Conviction, EpochRoot
from proofs.encoding.signing import address_bytes

SETTLEMENT = "ReceiptSettlement"
SCAN_BLOCKS = 2_000
CLAIM_GAS = 170_000
"""An upper bound on the gas of a claim in a transaction of its own: 129,232 was measured for an
account's first, and proofs can be longer."""


@dataclass(frozen=True)
class Claim:
    """`account`'s right to be paid up to `cumulative` (wei of the token) by a posted root."""

    posted: PostedRoot
    account: str
    cumulative: int
    proof: Proof


class Settlement:
    """The part of `ChainClient` that posts roots and claims."""

    def __init__(self, caller: ContractCaller) -> None:
        self._caller = caller

    async def terms(self) -> SettlementTerms:
        """Quorum, windows and bond of the settlement contract."""
        return SettlementTerms(
            quorum=int(await self._caller.read(SETTLEMENT, "quorum")),
            challenge_window=int(await self._caller.read(SETTLEMENT, "challengeWindow")),
            answer_window=int(await self._caller.read(SETTLEMENT, "answerWindow")),
            bond=int(await self._caller.read(SETTLEMENT, "bond")),
        )

    async def conviction_loss(self, provider: str) -> int:
        """What a conviction would take of a provider's tokens now, within the daily cap."""
        share = int(await self._caller.read(SETTLEMENT, "convictionSlash"))
        active = int(await self._caller.read("StakeManager", "stakeOf", provider))
        unbonding = await self._caller.read("StakeManager", "unbondingOf", provider)
        most = int(await self._caller.read("StakeManager", "slashable", provider))
        return min((active + int(unbonding.amount)) * share // WHOLE, most)

    async def epochs_of(self, pool_id: int) -> PoolEpochs:
        """How far a pool's settlement has come."""
        return PoolEpochs.from_abi(await self._caller.read(SETTLEMENT, "epochsOf", pool_id))

    async def root_hash(self, pool_id: int, epoch: int) -> bytes:
        """`PostedRoot.hash` of the root that stands for an epoch; 32 zero bytes where none does."""
        return bytes(await self._caller.read(SETTLEMENT, "rootHash", pool_id, epoch))

    async def is_final(self, pool_id: int, epoch: int) -> bool:
        """Whether claims on an epoch's root are open.

        Computed here, because a view runs at the head block's time, which stands still on a chain
        that mines on demand.
        """
        if await self.root_hash(pool_id, epoch) == NO_HASH:
            return False
        last = await self.epochs_of(pool_id)
        if epoch < last.epoch:
            return True
        over = last.open_disputes == 0 and await self._caller.now() >= last.claimable_at
        return over or bool(await self._caller.read(SETTLEMENT, "isFinal", pool_id, epoch))

    async def find_posted(self, pool_id: int, epoch: int) -> PostedRoot | None:
        """The root that stands for an epoch, from the event of its posting; None where none does.

        Looks backwards from the head, so it is quick for recent epochs. Raises BadResponse when the
        endpoint does not have the event.
        """
        wanted = await self.root_hash(pool_id, epoch)
        if wanted == NO_HASH:
            return None
        domain = self._caller.deployment.domain(SETTLEMENT)
        last = await self._caller.rpc.block_number()
        while last >= self._caller.deployment.block:
            first = max(last - SCAN_BLOCKS + 1, self._caller.deployment.block)
            for args in await self._caller.past_events(
                SETTLEMENT, "RootPosted", first, last, (pool_id, epoch)
            ):
                found = root_posted(args).posted
                if found.hash(domain) == wanted:
                    return found
            last = first - 1
        raise BadResponse(
            f"{self._caller.rpc.url} has no event of the posting of epoch {epoch} of pool "
            f"{pool_id}; use an endpoint that keeps logs"
        )

    async def post_root(
        self, root: EpochRoot, signatures: Sequence[tuple[str, bytes]]
    ) -> TxResult | None:
        """Post an epoch root with the validators' (address, signature) pairs, in any order.

        Returns None when exactly this root stands for its epoch; raises InvalidInput when another
        does, and Reverted with RootNotFinal while the epoch before can still be disputed.
        """
        ordered = [signature for _, signature in _ascending(signatures)]
        call = Call(SETTLEMENT, "postRoot", (message(root), ordered))

        async def free() -> Call | None:
            return call if await self.root_hash(root.pool_id, root.epoch) == NO_HASH else None

        name = f"post-root/{root.pool_id}/{root.epoch}"
        # Between our look and our transaction another relayer may have posted it.
        result = await self._caller.planned(name, free, done=("WrongEpoch",))
        if result is None:
            await self._check_posted(root, signatures)
        return result

    async def _check_posted(self, root: EpochRoot, signatures: Sequence[tuple[str, bytes]]) -> None:
        domain = self._caller.deployment.domain(SETTLEMENT)
        standing = await self.root_hash(root.pool_id, root.epoch)
        if standing == NO_HASH:
            last = (await self.epochs_of(root.pool_id)).epoch
            raise InvalidInput(
                f"epoch {root.epoch} cannot be posted in pool {root.pool_id}: the next is "
                f"{last + 1}"
            )
        signers = tuple(address for address, _ in _ascending(signatures))
        if PostedRoot(root, signers).hash(domain) == standing:
            return
        posted = await self.find_posted(root.pool_id, root.epoch)
        if posted is None or posted.root != root:
            raise InvalidInput(
                f"epoch {root.epoch} of pool {root.pool_id} is held by another root; "
                "audit that one, and dispute it if it is wrong"
            )

    async def convict(
        self, conviction: Conviction, signatures: Sequence[tuple[str, bytes]]
    ) -> TxResult | None:
        """Slash a node that a quorum of validators found cheating; None when that was done already.

        `signatures` as in `post_root`.
        """
        ordered = [signature for _, signature in _ascending(signatures)]
        digest = conviction.digest(self._caller.deployment.domain(SETTLEMENT)).hex()

        async def plan() -> Call:
            return Call(SETTLEMENT, "convict", (message(conviction), ordered))

        return await self._caller.planned(f"convict/{digest}", plan, done=("AlreadyConvicted",))

    # -- claims --------------------------------------------------------------------------------

    async def claimed(self, pool_id: int, account: str) -> int:
        """Tokens that a pool's roots have paid `account` so far."""
        return int(await self._caller.read(SETTLEMENT, "claimed", pool_id, account))

    async def claim(
        self, posted: PostedRoot, account: str, cumulative: int, proof: Sequence[bytes]
    ) -> TxResult | None:
        """Pay `account` up to `cumulative`; None when that was paid already. Any key may ask.

        Raises Reverted with RootNotFinal while the root can be disputed.
        """
        pool_id = posted.root.pool_id

        async def needed() -> bool:
            return await self.claimed(pool_id, account) < cumulative

        return await self._caller.step(
            f"claim/{pool_id}/{account}/{cumulative}",
            needed,
            SETTLEMENT,
            "claim",
            *_arguments(Claim(posted, account, cumulative, tuple(proof))),
            done=("NothingToClaim",),
        )

    async def claim_many(
        self, claims: Sequence[Claim], *, gas_each: int = CLAIM_GAS
    ) -> list[TxResult]:
        """Make all claims that have not been paid yet, in as few transactions as possible.

        `gas_each` bounds the gas that one claim takes in a transaction of its own. Raises as
        `claim`; what went before stays done, and asking again does the rest.
        """
        unpaid = await self._of_unpaid(claims)
        calls = [BatchedCall(self._encoded(claim), gas_each) for claim in unpaid]
        results = []
        for batch in split_into_batches(calls):
            result = await self._claim_batch(unpaid[batch.first : batch.first + len(batch.calls)])
            if result is not None:
                results.append(result)
        return results

    async def _claim_batch(self, claims: Sequence[Claim]) -> TxResult | None:
        left: Sequence[Claim] = claims

        async def plan() -> Call | None:
            nonlocal left
            left = await self._of_unpaid(left)
            calls = [self._encoded(claim) for claim in left]
            return Call(SETTLEMENT, "multicall", (calls,)) if calls else None

        while True:
            try:
                return await self._caller.planned("claim-many", plan)
            except (Reverted, TransactionFailed):
                # One claim that somebody else has made meanwhile fails the whole batch.
                if len(await self._of_unpaid(left)) == len(left):
                    raise

    async def _of_unpaid(self, claims: Sequence[Claim]) -> list[Claim]:
        async def paid(claim: Claim) -> int:
            return await self.claimed(claim.posted.root.pool_id, claim.account)

        found = await for_each(claims, paid)
        return [claim for claim in claims if found[claim] < claim.cumulative]

    def _encoded(self, claim: Claim) -> bytes:
        return self._caller.encode(SETTLEMENT, "claim", *_arguments(claim))


def _arguments(claim: Claim) -> tuple[object, ...]:
    return (posted_struct(claim.posted), claim.account, claim.cumulative, list(claim.proof))


def _ascending(signatures: Sequence[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
    """By signer, as the contract takes them."""
    return sorted(signatures, key=lambda pair: address_bytes(pair[0]))
