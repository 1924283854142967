"""Providers and the stake behind their nodes.

A provider is an account that staked once through PrimeNetwork; its tokens are held by StakeManager
and its record by ComputeRegistry. All amounts are in token units of 1e-18, all times in Unix
seconds. Methods without a `provider` argument speak for this client's own key.
"""

from __future__ import annotations

from datetime import UTC, datetime

from chain.calls.caller import Call, ContractCaller
from chain.encoding.views import StakeStatus
from chain.errors import InvalidInput
from chain.transactions.manager import TxResult

ADD_STAKE, FIRST_STAKE, UNSTAKE, WITHDRAW = "add-stake", "first-stake", "unstake", "withdraw"
"""Idempotency keys begin with these."""


class Providers:
    """The part of `ChainClient` for providers and their stake."""

    def __init__(self, caller: ContractCaller) -> None:
        self._caller = caller

    async def is_registered(self, address: str) -> bool:
        """Whether an account ever registered as a provider."""
        record = await self._caller.read("ComputeRegistry", "providerOf", address)
        return bool(record.registeredAt)

    async def compute_units_of(self, provider: str) -> int:
        """Sum over a provider's nodes."""
        record = await self._caller.read("ComputeRegistry", "providerOf", provider)
        return int(record.computeUnits)

    async def nodes_of(self, provider: str) -> list[str]:
        """Addresses of a provider's registered nodes, in no particular order."""
        return list(await self._caller.read("ComputeRegistry", "nodesOf", provider))

    async def set_blacklisted(self, provider: str, blacklisted: bool = True) -> TxResult | None:
        """Bar a provider from registering nodes and joining pools, or lift that; federators only.

        What it has earned can still be claimed.
        """

        async def differs() -> bool:
            return await self.is_blacklisted(provider) != blacklisted

        return await self._caller.step(
            f"blacklist/{provider}",
            differs,
            "PrimeNetwork",
            "setBlacklisted",
            provider,
            blacklisted,
        )

    async def is_blacklisted(self, provider: str) -> bool:
        """Whether a provider is barred from registering nodes and joining pools."""
        return bool(await self._caller.read("ComputeRegistry", "isBlacklisted", provider))

    # -- stake: reading --------------------------------------------------------------------------

    async def stake_of(self, provider: str) -> int:
        """A provider's active stake."""
        return int(await self._caller.read("StakeManager", "stakeOf", provider))

    async def minimum_stake(self, compute_units: int) -> int:
        """Stake that a provider of so many compute units needs."""
        return int(await self._caller.read("StakeManager", "minimumStake", compute_units))

    async def is_backed(self, provider: str) -> bool:
        """Whether a provider has the stake that its nodes need, and is not barred: what a pool asks
        of those who join."""
        if await self.is_blacklisted(provider):
            return False
        required = int(await self._caller.read("StakeManager", "requiredStake", provider))
        return await self.stake_of(provider) >= required

    async def stake_status(self, provider: str) -> StakeStatus:
        """All of a provider's tokens in StakeManager."""
        unbonding = await self._caller.read("StakeManager", "unbondingOf", provider)
        return StakeStatus(
            active=await self.stake_of(provider),
            unbonding=unbonding.amount,
            release_time=unbonding.releaseTime,
            required=int(await self._caller.read("StakeManager", "requiredStake", provider)),
            slashable=int(await self._caller.read("StakeManager", "slashable", provider)),
        )

    # -- stake: changing -------------------------------------------------------------------------

    async def stake_to(self, stake: int) -> None:
        """Make this key a provider and raise its active stake to `stake`, where it is less."""

        async def is_new() -> bool:
            return not await self.is_registered(self._caller.address)

        await self._caller.step(
            "register-provider",
            is_new,
            "PrimeNetwork",
            "registerProvider",
            stake,
            spend=stake,
            done=("ProviderAlreadyRegistered",),
        )

        async def missing() -> Call | None:
            lack = stake - await self.stake_of(self._caller.address)
            return Call("PrimeNetwork", "increaseStake", (lack,), lack) if lack > 0 else None

        await self._caller.planned("increase-stake", missing)

    async def add_stake(self, amount: int, *, purpose: str) -> TxResult:
        """Stake `amount` more, once for each `purpose`; the first time registers the provider."""
        first = f"{FIRST_STAKE}/{purpose}"
        if await self._caller.has_key(first) or not await self.is_registered(self._caller.address):
            return await self._caller.once(
                first, "PrimeNetwork", "registerProvider", amount, spend=amount
            )
        return await self._caller.once(
            f"{ADD_STAKE}/{purpose}", "PrimeNetwork", "increaseStake", amount, spend=amount
        )

    async def has_added_stake(self, purpose: str) -> bool:
        """Whether a transaction was ever asked for by `add_stake` for `purpose`."""
        has_key = self._caller.has_key
        return await has_key(f"{ADD_STAKE}/{purpose}") or await has_key(f"{FIRST_STAKE}/{purpose}")

    async def await_added_stake(self) -> None:
        """Wait for whatever an interrupted `add_stake` left unfinished.

        Raises ChainUnreachable, and TransactionPending after two minutes.
        """
        await self._caller.await_outcomes(ADD_STAKE)
        await self._caller.await_outcomes(FIRST_STAKE)

    async def unstake(self, amount: int, *, purpose: str) -> TxResult:
        """Ask for `amount` of this provider's stake back, once for each `purpose`.

        What its nodes need must remain. The waiting time starts again for everything that is
        already unbonding.
        """
        return await self._caller.once(f"{UNSTAKE}/{purpose}", "StakeManager", "unstake", amount)

    async def has_unstaked(self, purpose: str) -> bool:
        """Whether a transaction was ever asked for by `unstake` for `purpose`."""
        return await self._caller.has_key(f"{UNSTAKE}/{purpose}")

    async def await_unstaked(self) -> None:
        """Wait for whatever an interrupted `unstake` left unfinished; raises as
        `await_added_stake`."""
        await self._caller.await_outcomes(UNSTAKE)

    async def withdraw(self) -> TxResult | None:
        """Take the stake that this provider asked for; None when nothing is unbonding.

        Raises InvalidInput that says when, if it is too early.
        """

        async def due() -> Call | None:
            status = await self.stake_status(self._caller.address)
            if status.unbonding == 0:
                return None
            now = await self._caller.now()
            if now < status.release_time:
                when = datetime.fromtimestamp(status.release_time, UTC)
                raise InvalidInput(
                    f"{status.unbonding} token units are unbonding until {when:%Y-%m-%d %H:%M:%S} "
                    f"UTC, {status.release_time - now} s from now; withdraw then"
                )
            return Call("StakeManager", "withdraw", ())

        return await self._caller.planned(WITHDRAW, due, done=("NothingUnbonding",))

    async def await_withdrawn(self) -> None:
        """Wait for whatever an interrupted `withdraw` left unfinished; raises as
        `await_added_stake`."""
        await self._caller.await_outcomes(WITHDRAW)
