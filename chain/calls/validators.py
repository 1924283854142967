"""Validators: who is admitted, and the stake behind each signature."""

from __future__ import annotations

from chain.calls.caller import ContractCaller
from chain.transactions.manager import TxResult


class Validators:
    """The part of `ChainClient` for validators. Weights are stakes in token units of 1e-18."""

    def __init__(self, caller: ContractCaller) -> None:
        self._caller = caller

    async def is_admitted(self, address: str) -> bool:
        """Whether an account is admitted as a validator; it signs with weight once registered."""
        return bool(await self._caller.read("PrimeNetwork", "isValidator", address))

    async def addresses(self) -> list[str]:
        """All validators, in no particular order."""
        return list(await self._caller.read("PrimeNetwork", "validators"))

    async def weight_of(self, node: str) -> int:
        """Active stake behind a validator's signature; 0 for everyone else."""
        return int(await self._caller.read("PrimeNetwork", "weightOf", node))

    async def total_weight(self) -> int:
        """Sum of all validators' weights."""
        return int(await self._caller.read("PrimeNetwork", "totalWeight"))

    async def grant(self, address: str) -> TxResult | None:
        """Admit a node as a validator, registered before or later; federators only."""

        async def needed() -> bool:
            return not await self.is_admitted(address)

        return await self._caller.step(
            f"grant-validator/{address}",
            needed,
            "PrimeNetwork",
            "grantValidator",
            address,
            done=("AlreadyValidator",),
        )

    async def revoke(self, address: str) -> TxResult | None:
        """Dismiss a validator; federators, or the validator itself."""

        async def needed() -> bool:
            return await self.is_admitted(address)

        return await self._caller.step(
            f"revoke-validator/{address}", needed, "PrimeNetwork", "revokeValidator", address
        )
