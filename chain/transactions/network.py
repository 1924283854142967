"""The state machine's side of the network: sign, broadcast, look.

Turns the machine's commands into JSON-RPC calls, and their outcome into the machine's events. Keeps
nothing between calls but the key.

One URL may lead to several nodes that are not equally up to date. A nonce that one of them calls
used, while another does not yet have our receipt, would look like a stranger's doing, and a new
nonce would be given to what was in fact executed. So before a nonce is reported as used by none of
ours, the block that used it is found and checked to hold none of our attempts. Only the last
`LAG_BLOCKS` are searched: no node lags further, and every node still has the state of that many.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, Field, ValidationError

from chain.encoding.hexdata import parse_data, to_quantity
from chain.endpoint.rpc import Rpc
from chain.errors import BadResponse, ChainUnreachable, Reverted, RpcError
from chain.transactions.fees import FeePolicy, first_offer, raised_offer, read_refusal
from chain.transactions.machine import (
    Accepted,
    Attempt,
    Mined,
    Observed,
    Refusal,
    Refused,
    Rules,
    Signed,
    Transaction,
)
from chain.transactions.signing import Fees, Unsigned, sign
from proofs.encoding.signing import address_of

LAG_BLOCKS = 64


@dataclass(frozen=True)
class Survey:
    """One key's account: the head block's number, and the transaction count there (`nonce`) and at
    the newest block of final depth (`final_nonce`), whose number is `final`."""

    head: int
    final: int
    final_nonce: int
    nonce: int


_Hash = Annotated[bytes, BeforeValidator(lambda value: parse_data(value, size=32))]


class _Body(BaseModel):
    transactions: Annotated[list[_Hash], Field(max_length=100_000)]


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

    async def survey(self) -> Survey:
        """The account as it stands now."""
        head = await self._rpc.block_number()
        final = max(head - self._rules.confirmations + 1, 0)
        final_nonce = await self._rpc.nonce(self.address, final)
        return Survey(head, final, final_nonce, await self.nonce())

    async def nonce(self) -> int:
        """The account's transaction count at the head."""
        return await self._rpc.nonce(self.address)

    async def broadcast(self, attempt: Attempt) -> Accepted | Refused:
        """Offer an attempt to the network."""
        try:
            await self._rpc.send_raw(attempt.raw)
        except Reverted as exc:  # some sequencers run a transaction before they take it
            return Refused(Refusal.OTHER, str(exc))
        except RpcError as exc:
            refusal = read_refusal(exc.message, exc.code)
            if refusal is not None:
                return Refused(refusal, exc.message or refusal)
        return Accepted(await self._rpc.block_number())

    async def sign(self, tx: Transaction, nonce: int, shade: int = 0) -> Signed:
        """Sign a first attempt at `nonce`, `shade` wei cheaper than the market says."""
        fees = first_offer(*await self._market(), self._fees)
        return self._signed(tx, nonce, fees, shade)

    async def bump(self, tx: Transaction, shade: int = 0) -> Signed | None:
        """Sign another attempt with higher fees; None when that would pass the fee cap."""
        assert tx.nonce is not None
        fees = raised_offer(tx.attempts[-1].fees, *await self._market(), self._fees)
        return None if fees is None else self._signed(tx, tx.nonce, fees, shade)

    async def _market(self) -> tuple[int, int]:
        """Base fee of the head block and the suggested tip."""
        head = await self._rpc.block("latest")
        if head is None:
            raise ChainUnreachable(self._rpc.url, "it has no latest block")
        return head.base_fee, await self._rpc.tip()

    def _signed(self, tx: Transaction, nonce: int, fees: Fees, shade: int) -> Signed:
        max_fee = max(fees.max_fee - shade, 1)
        fees = Fees(max_fee, min(fees.tip, max_fee))
        unsigned = Unsigned(self._chain_id, nonce, tx.to, tx.value, tx.data, tx.gas, fees)
        signed = sign(unsigned, self._key)
        return Signed(nonce, Attempt(signed.hash, signed.raw, fees))

    async def observe(self, tx: Transaction, survey: Survey) -> Observed:
        """Look for the transaction on the canonical chain.

        `survey` is older than the receipts: were it younger, a transaction mined in between would
        look as if a stranger had taken its nonce.
        """
        assert tx.nonce is not None
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
            return Observed(max(survey.head, receipt.block_number), survey.final_nonce, mined)
        if survey.final_nonce > tx.nonce and not await self._taken(tx, tx.nonce, survey.final):
            return Observed(survey.head, tx.nonce, None)
        return Observed(survey.head, survey.final_nonce, None)

    async def _taken(self, tx: Transaction, nonce: int, final: int) -> bool:
        """Whether a block up to `final` used `nonce` for something that is no attempt of `tx`."""
        before, used = max(final - LAG_BLOCKS, 0), final
        if await self._rpc.nonce(self.address, before) > nonce:
            return True
        while used - before > 1:
            middle = (before + used) // 2
            if await self._rpc.nonce(self.address, middle) > nonce:
                used = middle
            else:
                before = middle
        answer = await self._rpc.request("eth_getBlockByNumber", [to_quantity(used), False])
        if answer is None:
            return False
        try:
            body = _Body.model_validate(answer)
        except ValidationError as exc:
            raise BadResponse(f"{self._rpc.url} sent a block without transaction hashes") from exc
        return not {attempt.hash for attempt in tx.attempts} & set(body.transactions)
