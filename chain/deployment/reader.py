"""Reading the deployed contracts: view functions, past events, and the chain's time."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from chain.deployment.deployment import Deployment
from chain.encoding.artifacts import load_artifact
from chain.encoding.codec import AbiError
from chain.endpoint.rpc import MALFORMED, Rpc
from chain.errors import BadResponse, InvalidInput


class ContractReader:
    """The contracts of one deployment, as anybody sees them. `clock` gives Unix seconds."""

    def __init__(
        self, rpc: Rpc, deployment: Deployment, clock: Callable[[], float] = time.time
    ) -> None:
        self.rpc = rpc
        self.deployment = deployment
        self._clock = clock
        self._contracts: dict[str, Any] = {}

    async def now(self) -> int:
        """A time (Unix seconds) that the next block will not precede, or only just.

        The later of the head block's time and the clock's: a chain that mines on demand stands
        still while it is idle.
        """
        head = await self.rpc.block("latest")
        return max(head.timestamp if head is not None else 0, int(self._clock()))

    async def read(self, contract: str, function: str, *args: object, at: str | None = None) -> Any:
        """Result of a view function; structs and several results are named tuples.

        `at` is another address with the same interface. Raises ChainError.
        """
        self.encode(contract, function, *args)  # or web3 could blame the endpoint for them below
        fitted = load_artifact(contract).abi.arguments(function, *args)
        try:
            return await self._contract(contract, at).functions[function](*fitted).call()
        except MALFORMED as exc:
            raise BadResponse(
                f"{self.rpc.url}: {contract}.{function} returned something unexpected; "
                "is the deployment of this version?"
            ) from exc

    def _contract(self, name: str, at: str | None) -> Any:
        """web3's view of a contract, on our endpoint."""
        if at is not None:
            return self._bound(name, at)
        if name not in self._contracts:
            self._contracts[name] = self._bound(name, self.deployment.address(name))
        return self._contracts[name]

    def _bound(self, name: str, address: str) -> Any:
        entries = load_artifact(name).abi.entries
        return self.rpc.web3.eth.contract(address, abi=entries, decode_tuples=True)

    def encode(self, contract: str, function: str, *args: object) -> bytes:
        """Calldata; raises InvalidInput for arguments that do not fit."""
        try:
            return load_artifact(contract).abi.encode(function, *args)
        except AbiError as exc:
            raise InvalidInput(str(exc)) from exc

    async def past_events(
        self, contract: str, name: str, first: int, last: int, indexed: Sequence[int]
    ) -> list[dict[str, Any]]:
        """Arguments of events in blocks `first` to `last`, the newest first.

        Only those whose first indexed arguments, unsigned integers, are `indexed`.
        """
        abi = load_artifact(contract).abi
        topics = [abi.topic(name), *(value.to_bytes(32, "big") for value in indexed)]
        logs = await self.rpc.logs(first, last, [self.deployment.address(contract)], topics)
        try:
            return [abi.decode_event(log)[1] for log in reversed(logs)]
        except AbiError as exc:
            raise BadResponse(f"{self.rpc.url} sent logs that were not asked for") from exc
