"""Entering and leaving a pool: on chain where there is one, at the inviter's word where not.

On chain an invite counts when the pool's inviter sent and signed it for this node; where the pool
is open to all, when its creator sent it. Without a chain the first inviter is believed (and nobody
is paid).

The chain alone knows which pool this node is in. So a step asks it first, and does what is missing:
a node that was killed between leaving one pool and joining another, or after sending a transaction
whose outcome it never saw, goes on from where it really is, and pays for nothing twice. What is
about to be sent is in the journal before it is sent (`purse`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Protocol

from chain.errors import ChainError
from node.context import NodeContext
from node.onchain.receipt_domain import chain_refusals
from node.roles.worker.purse import GasPurse
from node.wire.messages.work import Invite
from p2p.errors import Refused
from proofs.encoding.signing import recover
from proofs.errors import ProofError

if TYPE_CHECKING:
    from chain.client import ChainClient

JOIN_GAS = 300_000
LEAVE_GAS = 200_000
"""More than either takes, so that what is counted before the outcome is known is not too little."""

Before = Callable[[], Awaitable[None]]


class PoolRegister(Protocol):
    """Who is in which pool."""

    async def price(self, invite: Invite, sender: str) -> int | None:
        """What the pool pays for one layer and one token, in wei of the token; None where it does
        not pay for work. Raises `Refused` for an invite of `sender` (an address) that does not
        count."""
        ...

    async def enter(self, invite: Invite, before: Before) -> int:
        """Be in the pool, and in no other; `before` is awaited before the first transaction.

        Returns wei of gas that this was reckoned at. Raises `Refused`.
        """
        ...

    async def leave(self, pool_id: int) -> None:
        """Leave a pool, as far as that is possible now."""
        ...

    async def restore(self, keeps: Callable[[int], bool]) -> None:
        """Finish what an earlier run began, and leave a pool that `keeps` does not want."""
        ...


class ChainPools:
    """The register is the pool contract."""

    def __init__(self, context: NodeContext, chain: ChainClient, purse: GasPurse) -> None:
        self._context = context
        self._chain = chain
        self._purse = purse

    async def price(self, invite: Invite, sender: str) -> int | None:
        """Check the invite and read the pool's rate. Raises `Refused`."""
        if invite.deadline <= self._context.wall():
            raise Refused("expired", "the invite's deadline has passed")
        from chain.encoding.views import Strategy

        with chain_refusals():
            await self._check(invite, sender)
            funds = await self._chain.pools.funds(invite.pool_id)
        return funds.rate if funds.strategy is Strategy.WORK else None

    async def enter(self, invite: Invite, before: Before) -> int:
        """Leave the pool that the chain says this node is in, and join. Raises `Refused`."""
        with chain_refusals():
            here = await self._chain.pools.current()
            if here == invite.pool_id:
                await before()
                return 0
            price = await self._purse.price()
            moving = JOIN_GAS + (LEAVE_GAS if here is not None else 0)
            # With what it takes to get out again.
            declined = self._purse.refuses((moving + LEAVE_GAS) * price)
            if declined is not None:
                raise Refused(declined.code, declined.reason)
            await before()
            if here is not None:
                await self._leave(here)
            async with self._purse.paying(f"join/{invite.pool_id}", JOIN_GAS, price) as paid:
                paid(
                    await self._chain.pools.join(invite.pool_id, invite.signature, invite.deadline)
                )
        return moving * price

    async def leave(self, pool_id: int) -> None:
        """Leave on chain; a chain that does not answer is only logged, and `restore` tries again.

        Never held back by the budget: joining left room for it.
        """
        try:
            await self._leave(pool_id)
        except ChainError as exc:
            self._context.log.warning("not left on chain", reason=str(exc))

    async def restore(self, keeps: Callable[[int], bool]) -> None:
        """Finish leaving, and see what became of joining."""
        await self._purse.restore()
        try:
            here = await self._chain.pools.current()
            for what in self._purse.unfinished:
                step, _, pool = what.partition("/")
                if step == "leave" and pool == str(here):
                    await self._leave(int(pool))
                    here = None
                elif step == "leave" or pool == str(here):
                    await self._purse.finish(what)
            if here is not None and not keeps(here):
                self._context.log.info("leaving a pool that the policy refuses", pool=here)
                await self._leave(here)
        except ChainError as exc:
            self._context.log.warning("pools not looked at", reason=str(exc))

    async def _leave(self, pool_id: int) -> None:
        price = await self._purse.price()
        async with self._purse.paying(f"leave/{pool_id}", LEAVE_GAS, price) as paid:
            paid(await self._chain.pools.leave(pool_id))

    async def _check(self, invite: Invite, sender: str) -> None:
        pool = await self._chain.pools.info(invite.pool_id)
        if pool.inviter is None:
            if sender != pool.creator:
                raise Refused("bad_invite", f"pool {invite.pool_id} belongs to {pool.creator}")
            return
        digest = await self._chain.pools.invite_digest(
            invite.pool_id, self._context.address, invite.deadline
        )
        try:
            signer = recover(digest, invite.signature)
        except ProofError as exc:
            raise Refused("bad_invite", str(exc)) from exc
        if signer != pool.inviter or signer != sender:
            raise Refused("bad_invite", f"signed by {signer}, the pool's is {pool.inviter}")


class ChainlessPools:
    """There is no register: every invite counts."""

    async def price(self, invite: Invite, sender: str) -> int | None:
        """Nothing to check, and nobody is paid."""
        return None

    async def enter(self, invite: Invite, before: Before) -> int:
        """Nothing to enter."""
        await before()
        return 0

    async def leave(self, pool_id: int) -> None:
        """Nothing to leave."""

    async def restore(self, keeps: Callable[[int], bool]) -> None:
        """Nothing was begun."""
