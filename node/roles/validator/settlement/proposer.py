"""Closing epochs: what this node accepted becomes a root that enough validators sign.

When an epoch falls due and it is this node's turn, it settles what is pending
(`proofs.settlement.epoch`), publishes the data, has the other validators sign, and posts the root
once the signatures carry the quorum. What others have not accepted is left out for a while. A
proposal counts for nothing until it is on chain. A crash loses nothing: units stay pending until
the chain itself says that an epoch paid them, and an epoch of a pool can be posted only once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from chain.errors import ChainError
from node.context import NodeContext
from node.errors import InputError
from node.roles.validator.settlement.chain_reads import ChainFacts
from node.roles.validator.settlement.pending import EpochRules, PendingPool, payable
from node.roles.validator.settlement.quorum import NotEnough, collect
from node.roles.validator.settlement.turns import turn_of
from node.settlement.follower import SettlementFollower
from node.wire.messages.settlement import CosignRequest
from node.wire.methods import COSIGN
from node.wire.rpc import call
from proofs.errors import ProofError
from proofs.settlement.epoch import EpochError, build_epoch
from proofs.settlement.epoch_data import Epoch

if TYPE_CHECKING:
    from chain.client import ChainClient


@dataclass(frozen=True)
class ProposalTiming:
    """Seconds. A proposal may take `post`, which is longer than a root normally takes to be final;
    after that its turn has passed. The next one follows after `retry`, or after `fault_retry` where
    the epoch itself could not be made. A unit that names somebody who is no provider's node is left
    out for `strange`."""

    post: float = 90.0
    retry: float = 2.0
    fault_retry: float = 15.0
    strange: float = 60.0


class Proposer:
    """Proposes and posts the epochs of one pool at a time."""

    def __init__(
        self,
        context: NodeContext,
        chain: ChainClient,
        follower: SettlementFollower,
        facts: ChainFacts,
        rules: EpochRules,
        timing: ProposalTiming | None = None,
    ) -> None:
        self._context = context
        self._chain = chain
        self._follower = follower
        self._facts = facts
        self._rules = rules
        self._timing = timing or ProposalTiming()

    async def wait_turn(self, pool: PendingPool) -> float:
        """Seconds until this node should propose; infinity where it cannot."""
        history = self._follower.history(pool.pool_id)
        due = pool.due_at(self._context.now(), self._rules)
        if due == float("inf") or not history.complete(history.last):
            return float("inf")
        if history.newest is not None:
            # Nobody can go before the last root is final; turns are counted from then on.
            now = self._context.now()
            due = max(due, now + history.newest.claimable_at - self._follower.now())
        validators = await self._chain.validators.addresses()
        turn = turn_of(self._context.address, validators, pool.pool_id, history.last + 1)
        if turn == len(validators):
            return float("inf")
        return max(due + turn * self._rules.turn - self._context.now(), 0.0)

    async def propose(self, pool: PendingPool) -> None:
        """Try to settle what is ready. What fails is tried again after a while."""
        log, now, timing = self._context.log, self._context.now, self._timing
        unknown: set[bytes] = set()
        try:
            epoch = await self._make(pool)
            if epoch is None:
                pool.retry_at = now() + timing.retry
                return
            with trio.move_on_after(timing.post):
                await self._sign_and_post(epoch, unknown)
            pool.retry_at = now() + timing.retry  # by then the chain's event is here
        except NotEnough as exc:
            pool.put_aside(unknown, now() + self._rules.set_aside)
            pool.retry_at = now() + timing.retry
            log.info("epoch not signed by enough", pool=pool.pool_id, reason=str(exc))
        except (EpochError, InputError) as exc:
            pool.retry_at = now() + timing.fault_retry
            log.error("cannot settle", pool=pool.pool_id, reason=str(exc))
        except (ChainError, ProofError) as exc:
            pool.retry_at = now() + timing.retry
            log.warning("root not posted", pool=pool.pool_id, reason=str(exc))

    async def _make(self, pool: PendingPool) -> Epoch | None:
        """The next epoch over what is ready, None while the last one is not final or its data are
        not here. What an epoch has paid by now is left out, though it may still be in `pool`."""
        history = self._follower.history(pool.pool_id)
        number = history.last + 1
        if not history.complete(history.last):
            return None
        if not await self._facts.settled_until(history):
            return None
        now = self._context.now()
        units = {u: pool.units[u] for u in pool.choose(now, number, self._rules)}
        facts = await self._facts.before(history, number, [i for u in units.values() for i in u])
        strange = {u for u, i in units.items() if not payable(i, facts.owners, facts.creator)}
        pool.put_aside(strange, now + self._timing.strange)
        paid = {unit_id for unit_id, _ in facts.paid}
        left_out = strange | (paid & units.keys())
        receipts = [item for u, items in units.items() if u not in left_out for item in items]
        if not receipts:
            return None
        budget = await self._facts.budget(pool.pool_id, sum(facts.earned.values()))

        def make() -> Epoch:
            attempt = 0
            while True:
                epoch = build_epoch(
                    receipts,
                    facts.owners,
                    domain=facts.domain,
                    pool_id=pool.pool_id,
                    epoch=number,
                    price=budget.price,
                    available=budget.available,
                    earned=facts.earned,
                    attempt=attempt,
                )
                if not history.was_voided(epoch.root):
                    return epoch
                attempt += 1

        epoch = await trio.to_thread.run_sync(make)
        await self._follower.blobs.put(epoch.content)
        return epoch

    async def _sign_and_post(self, epoch: Epoch, unknown: set[bytes]) -> None:
        """What other validators have not accepted goes into `unknown`."""
        chain, root = self._chain, epoch.root
        digest = root.digest(chain.domain("ReceiptSettlement"))
        request = CosignRequest(root=root.to_bytes())

        async def ask(peer_id: str) -> bytes:
            answer = await call(self._context, peer_id, COSIGN, request)
            unknown.update(answer.unknown)
            return answer.signature

        signatures = await collect(self._context, chain, digest, ask)
        result = await chain.settlement.post_root(root, list(signatures.items()))
        if result is not None:
            self._context.log.info(
                "epoch posted",
                pool=root.pool_id,
                epoch=root.epoch,
                receipts=root.receipt_count,
                signers=len(signatures),
                transaction="0x" + result.hash.hex(),
                gas=result.gas_used,
            )
