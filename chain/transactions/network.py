"""The state machine's side of the network: sign, broadcast, look.

Turns the machine's commands into JSON-RPC calls, and their outcome into the machine's events. Keeps
nothing between calls but the key.
"""

from __future__ import annotations

from chain.errors import ChainUnreachable, RpcError
from chain.rpc import Rpc
from chain.transactions.fees import FeePolicy, first_offer, raised_offer, read_refusal
from chain.transactions.machine import (
    Accepted,
    Attempt,
    Mined,
    Observed,
    Refused,
    Rules,
    Signed,
    Transaction,
)
from chain.transactions.signing import Fees, Unsigned, sign
from proofs.signing import address_of


class Network:
    """One key's access to one endpoint. Every coroutine raises ChainUnreachable and BadResponse."""

    def __init__(
        self, rpc: Rpc, chain_id: int, private_key: bytes, rules: Rules, fees: FeePolicy
    ) -> None:
        self.address = address_of(private_key)
        self._rpc = rpc
        self._chain_id = chain_id
        self._key = private_key
        self._rules = rules
        self._fees = fees

    def __repr__(self) -> str:
        return f"<Network {self.address} on {self._rpc.url}>"

    async def nonce(self) -> int:
        """The account's transaction count at the head."""
        return await self._rpc.nonce(self.address)

    async def broadcast(self, attempt: Attempt) -> Accepted | Refused:
        """Offer an attempt to the network."""
        try:
            await self._rpc.send_raw(attempt.raw)
        except RpcError as exc:
            refusal = read_refusal(exc.message)
            if refusal is not None:
                return Refused(refusal, exc.message)
        return Accepted(await self._rpc.block_number())

    async def sign(self, tx: Transaction, nonce: int) -> Signed:
        """Sign a first attempt at `nonce`."""
        fees = first_offer(*await self._market(), self._fees)
        return self._signed(tx, nonce, fees)

    async def bump(self, tx: Transaction) -> Signed | None:
        """Sign another attempt with higher fees; None when that would pass the fee cap."""
        assert tx.nonce is not None
        fees = raised_offer(tx.attempts[-1].fees, *await self._market(), self._fees)
        return None if fees is None else self._signed(tx, tx.nonce, fees)

    async def _market(self) -> tuple[int, int]:
        """Base fee of the head block and the suggested tip."""
        head = await self._rpc.block("latest")
        if head is None:
            raise ChainUnreachable(self._rpc.url, "it has no latest block")
        return head.base_fee, await self._rpc.tip()

    def _signed(self, tx: Transaction, nonce: int, fees: Fees) -> Signed:
        unsigned = Unsigned(self._chain_id, nonce, tx.to, tx.value, tx.data, tx.gas, fees)
        signed = sign(unsigned, self._key)
        return Signed(nonce, Attempt(signed.hash, signed.raw, fees))

    async def observe(self, tx: Transaction) -> Observed:
        """Look for the transaction on the canonical chain."""
        head = await self._rpc.block_number()
        final = max(head - self._rules.confirmations + 1, 0)
        # The nonce first: were it read after the receipts, a transaction mined in between would
        # look as if a stranger had taken its nonce.
        nonce = await self._rpc.nonce(self.address, final)
        for attempt in reversed(tx.attempts):
            receipt = await self._rpc.receipt(attempt.hash)
            if receipt is None:
                continue
            block = await self._rpc.block(receipt.block_number)
            if block is None or block.hash != receipt.block_hash:
                continue
            mined = Mined(
                attempt.hash,
                receipt.block_number,
                receipt.block_hash,
                receipt.gas_used,
                receipt.status == 1,
            )
            return Observed(max(head, receipt.block_number), nonce, mined)
        return Observed(head, nonce, None)
