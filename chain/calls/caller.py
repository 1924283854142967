"""Calling the deployed contracts: steps that are taken only while they are needed.

A step of the protocol (approve, register, join, claim, …) must happen once, though the process that
wants it may die anywhere. `planned` makes it so: first, whatever an earlier run left unfinished
under the step's name is completed; then the plan asks the chain whether and how the step is still
needed, and only then is a transaction sent, under a fresh key. One step runs at a
time, because an allowance that one step sets must not be spent by another.

Two steps may race for the same thing (two relayers claim for one account). Whoever comes second is
told so by the contract's error; a step names the errors that say "done already".
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from typing import Any

import trio

from chain.deployment.deployment import Deployment
from chain.deployment.reader import ContractReader
from chain.encoding.artifacts import load_artifact
from chain.encoding.codec import AbiError
from chain.endpoint.rpc import Rpc
from chain.errors import BadResponse, InvalidInput, Reverted, TransactionFailed
from chain.transactions.manager import TransactionManager, TxResult


@dataclass(frozen=True)
class Call:
    """A call of a contract's function; `spend` tokens are first approved to the contract."""

    contract: str
    function: str
    args: tuple[object, ...]
    spend: int = 0


class ContractCaller(ContractReader):
    """The contracts of one deployment, called from one key. `clock` gives Unix seconds.

    `address` is the account that the key belongs to.
    """

    def __init__(
        self,
        rpc: Rpc,
        manager: TransactionManager,
        deployment: Deployment,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(rpc, deployment, clock)
        self.manager = manager
        self.address = manager.address
        self._steps = trio.Lock()

    async def step(
        self,
        name: str,
        needed: Callable[[], Awaitable[bool]],
        contract: str,
        function: str,
        *args: object,
        spend: int = 0,
        done: Collection[str] = (),
    ) -> TxResult | None:
        """Call `contract.function` unless `needed` says no; as `planned` otherwise."""
        call = Call(contract, function, args, spend)

        async def plan() -> Call | None:
            return call if await needed() else None

        return await self.planned(name, plan, done=done)

    async def planned(
        self,
        name: str,
        plan: Callable[[], Awaitable[Call | None]],
        *,
        done: Collection[str] = (),
    ) -> TxResult | None:
        """Make the call that `plan` finds necessary now; None when it finds none.

        Custom errors named in `done` say that it was not necessary either. Raises other Reverted,
        TransactionFailed when the mined call failed, and ChainError as `TransactionManager.send`.
        """
        async with self._steps:
            await self.await_outcomes(name)
            call = await plan()
            if call is None:
                return None
            data = self.encode(call.contract, call.function, *call.args)
            if call.spend:
                await self._approve(name, call.contract, call.spend)
            target = self.deployment.address(call.contract)
            try:
                result = await self.manager.send_next(name, target, data)
                return await self.checked(name, call.contract, data, result)
            except Reverted as exc:
                if exc.name in done:
                    return None
                raise

    async def once(
        self, key: str, contract: str, function: str, *args: object, spend: int = 0
    ) -> TxResult:
        """Call `contract.function` exactly once for `key`, ever; raises as `planned` does."""
        data = self.encode(contract, function, *args)
        async with self._steps:
            if spend and not await self.has_key(key):
                await self._approve(key, contract, spend)
            target = self.deployment.address(contract)
            result = await self.manager.send(key, target, data, retry_failed=True)
        return await self.checked(key, contract, data, result)

    async def has_key(self, key: str) -> bool:
        """Whether a transaction was ever asked for under `key` by `once`."""
        return await self.manager.has_key(key)

    async def await_outcomes(self, name: str) -> None:
        """Wait until nothing that was sent under `name/` is unfinished, as after a restart.

        Raises ChainUnreachable, and TransactionPending after two minutes.
        """
        await self.manager.await_outcomes(name)

    async def checked(self, key: str, contract: str, data: bytes, result: TxResult) -> TxResult:
        """`result` if it succeeded; otherwise raises the contract's reason, as far as it shows."""
        if not result.status:
            await self.rpc.call(
                self.deployment.address(contract),
                data,
                sender=self.address,
                tag=result.block,
            )
            raise TransactionFailed(key, "0x" + result.hash.hex())
        return result

    async def event(self, result: TxResult, contract: str, name: str) -> dict[str, Any]:
        """Arguments of an event that a transaction emitted; raises BadResponse without it."""
        receipt = await self.rpc.receipt(result.hash)
        abi = load_artifact(contract).abi
        for log in receipt.logs if receipt is not None else ():
            if log.address != self.deployment.address(contract):
                continue
            try:
                found, arguments = abi.decode_event(log)
            except AbiError:
                continue
            if found == name:
                return arguments
        raise BadResponse(f"transaction 0x{result.hash.hex()} emitted no {name}")

    async def _approve(self, name: str, contract: str, amount: int) -> None:
        spender = self.deployment.address(contract)
        owner = self.address
        if await self.read("PrimeToken", "allowance", owner, spender) >= amount:
            return
        balance = await self.read("PrimeToken", "balanceOf", owner)
        if balance < amount:
            raise InvalidInput(
                f"{owner} holds {balance} token units, but {amount} are needed; fund it first"
            )
        data = self.encode("PrimeToken", "approve", spender, amount)
        key = f"{name}/approve"
        await self.await_outcomes(key)
        result = await self.manager.send_next(key, self.deployment.address("PrimeToken"), data)
        await self.checked(key, "PrimeToken", data, result)
