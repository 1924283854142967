"""Compute pools: creating, funding, joining, and being paid for time."""

from __future__ import annotations

from chain.calls.caller import Call, ContractCaller
from chain.encoding.hexdata import parse_address
from chain.encoding.views import Pool, PoolFunds, PoolState, Strategy, address_or_none
from chain.errors import InvalidInput, Reverted
from chain.transactions.manager import TxResult
from proofs.encoding.receipts import PoolInvite
from proofs.encoding.signing import ZERO_ADDRESS, sign_digest


class Pools:
    """The part of `ChainClient` for compute pools. `key` is the client's own, to sign invites."""

    def __init__(self, caller: ContractCaller, key: bytes) -> None:
        self._caller = caller
        self._key = key

    async def create(
        self,
        name: str,
        *,
        rate: int,
        domain_id: int | None = None,
        uri: str = "",
        inviter: str | None = None,
        strategy: Strategy = Strategy.WORK,
    ) -> int:
        """Create this key's pool called `name`, once, and return its id.

        Asking again for the same `name` returns the same pool. `inviter` None lets every staked
        node in. `rate` is wei of the token, as `strategy` says; 0 for SHARE. Raises InvalidInput
        when the name was used with other settings.
        """
        domain = self._caller.deployment.default_domain if domain_id is None else domain_id
        wanted = (domain, name, uri, _eip55(inviter), int(strategy), rate)
        result = await self._caller.once(f"create-pool/{name}", "ComputePool", "createPool", wanted)
        return int((await self._caller.event(result, "ComputePool", "PoolCreated"))["poolId"])

    async def fund(self, pool_id: int, amount: int, *, purpose: str = "initial") -> TxResult:
        """Add `amount` tokens to a pool's budget, once for each `purpose`."""
        key = f"fund-pool/{pool_id}/{purpose}"
        return await self._caller.once(key, "ComputePool", "fund", pool_id, amount, spend=amount)

    async def start(self, pool_id: int) -> TxResult | None:
        """Open a pool of this key's for nodes."""
        return await self._move_pool(pool_id, PoolState.PENDING, "start")

    async def end(self, pool_id: int) -> TxResult | None:
        """End a pool of this key's; its members leave by themselves."""
        return await self._move_pool(pool_id, PoolState.ACTIVE, "end")

    async def reclaim(self, pool_id: int) -> TxResult | None:
        """Take back what is left of an ended pool of this key's; None when nothing is.

        Raises Reverted with ReclaimTooEarly, which says from when on.
        """

        async def plan() -> Call:
            return Call("ComputePool", "reclaim", (pool_id,))

        return await self._caller.planned(
            f"reclaim-pool/{pool_id}", plan, done=("NothingToRelease",)
        )

    async def claim_time(self, pool_id: int, provider: str) -> TxResult | None:
        """Pay a provider for its nodes' time in a FIXED or SHARE pool; None when nothing is due.
        Any key may ask."""

        async def plan() -> Call:
            return Call("ComputePool", "claimTime", (pool_id, provider))

        return await self._caller.planned(
            f"claim-time/{pool_id}/{provider}", plan, done=("NothingToClaim",)
        )

    async def time_due(self, pool_id: int, provider: str) -> int:
        """What `claim_time` would pay at the head block, in token units of 1e-18; 0 where the pool
        refuses the claim."""
        data = self._caller.encode("ComputePool", "claimTime", pool_id, provider)
        to = self._caller.deployment.address("ComputePool")
        try:
            answer = await self._caller.rpc.call(to, data, sender=self._caller.address)
        except Reverted:
            return 0
        return int.from_bytes(answer[:32])

    async def paid_for_time(self, pool_id: int, provider: str) -> int:
        """What a FIXED or SHARE pool has paid a provider so far, in token units of 1e-18."""
        return int(await self._caller.read("RewardsDistributor", "paidForTime", pool_id, provider))

    async def unit_seconds(self, pool_id: int, provider: str) -> int:
        """Compute units times seconds of membership of a provider's nodes, up to the head block."""
        return int(await self._caller.read("ComputePool", "unitSeconds", pool_id, provider))

    async def _move_pool(self, pool_id: int, source: PoolState, verb: str) -> TxResult | None:
        async def needed() -> bool:
            return (await self.info(pool_id)).state <= source

        return await self._caller.step(
            f"{verb}-pool/{pool_id}", needed, "ComputePool", verb, pool_id
        )

    async def info(self, pool_id: int) -> Pool:
        """A pool's record; its state is NONE when it does not exist."""
        return Pool.from_abi(pool_id, await self._caller.read("ComputePool", "poolInfo", pool_id))

    async def funds(self, pool_id: int) -> PoolFunds:
        """A pool's books."""
        book = await self._caller.read("RewardsDistributor", "bookOf", pool_id)
        settlement = address_or_none(book.settlement)
        committed = 0
        if settlement is not None:
            # Another domain may settle elsewhere; what its contract has promised counts as well.
            committed = await self._caller.read(
                "ReceiptSettlement", "committed", pool_id, at=settlement
            )
        return PoolFunds.from_abi(book, int(committed))

    async def current(self) -> int | None:
        """The pool that this key's own node is in, once all that it sent to join or leave one is
        final; None where it is in none. Raises as `ContractCaller.await_outcomes`."""
        for step in ("join", "leave"):
            await self._caller.await_outcomes(step)
        found = await self._caller.read("ComputeRegistry", "nodeOf", self._caller.address)
        return int(found.poolId) if found.active else None

    async def is_member(self, pool_id: int, node: str) -> bool:
        """Whether a node is in a pool now."""
        return bool(await self._caller.read("ComputePool", "isMember", pool_id, node))

    async def invite_digest(self, pool_id: int, node: str, deadline: int) -> bytes:
        """The 32 bytes that a pool's inviter signs to let `node` in until `deadline` (Unix s)."""
        nonce = await self._caller.read("ComputePool", "inviteNonce", pool_id, node)
        invite = PoolInvite(pool_id=pool_id, node=node, nonce=nonce, deadline=deadline)
        return invite.digest(self._caller.deployment.domain("ComputePool"))

    async def sign_invite(self, pool_id: int, node: str, deadline: int) -> bytes:
        """An invite to `node` by this key, which must be the pool's inviter; 65 bytes."""
        return sign_digest(self._key, await self.invite_digest(pool_id, node, deadline))

    async def join(
        self,
        pool_id: int,
        invite_signature: bytes = b"",
        deadline: int = 0,
        *,
        node: str | None = None,
    ) -> TxResult | None:
        """Put a node into a pool: this key itself, or `node` when this key is its provider.

        A permissionless pool needs neither invite nor deadline.
        """
        member = node or self._caller.address

        async def needed() -> bool:
            return not await self.is_member(pool_id, member)

        return await self._caller.step(
            f"join/{pool_id}/{member}",
            needed,
            "ComputePool",
            "join",
            pool_id,
            member,
            deadline,
            invite_signature,
        )

    async def leave(self, pool_id: int, *, node: str | None = None) -> TxResult | None:
        """Take a node out of a pool: this key itself, or `node` when this key is its provider."""
        member = node or self._caller.address

        async def needed() -> bool:
            return await self.is_member(pool_id, member)

        return await self._caller.step(
            f"leave/{pool_id}/{member}", needed, "ComputePool", "leave", pool_id, member
        )

    async def eject(self, pool_id: int, node: str) -> TxResult | None:
        """Put a node out of a pool of this key's, and bar it from joining again."""

        async def needed() -> bool:
            return not bool(await self._caller.read("ComputePool", "isEjected", pool_id, node))

        return await self._caller.step(
            f"eject/{pool_id}/{node}", needed, "ComputePool", "eject", pool_id, node
        )


def _eip55(address: str | None) -> str:
    """An address for use inside a struct. Raises InvalidInput."""
    try:
        return parse_address(address or ZERO_ADDRESS)
    except ValueError as exc:
        raise InvalidInput(f"inviter: {exc}") from exc
