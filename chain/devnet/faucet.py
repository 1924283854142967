"""The development faucet: an initial balance for whoever asks, within limits.

A grant tops an address up: it is paid only while the balance is below half the grant, and at most
`MAX_GRANTS` times to one address and `MAX_ADDRESSES` addresses, so asking twice is harmless and
asking forever is pointless. Ether comes from an account funded at genesis under a key made at start
and kept in memory. Tokens come from what the deployer transferred to that account, once it has
named the token (`register_token`).
"""

from __future__ import annotations

from collections import Counter

import trio

from chain.devnet.jsonrpc import Backend, Fault
from chain.encoding.artifacts import load_artifact
from chain.encoding.hexdata import parse_address, parse_quantity, to_data
from chain.errors import BadResponse, FaucetRefused
from chain.transactions.signing import Fees, Unsigned, sign
from proofs.encoding.signing import address_of

ETHER = 10**18
ETHER_GRANT = ETHER
TOKEN_GRANT = 10_000 * 10**18
MAX_GRANTS = 5
MAX_ADDRESSES = 10_000
FUNDS = 1_000_000 * ETHER
MINING_SECONDS = 10


class Faucet:
    """Pays grants from one account; requests are served one at a time."""

    def __init__(self, backend: Backend, chain_id: int, private_key: bytes) -> None:
        self._backend = backend
        self._chain_id = chain_id
        self._key = private_key
        self._lock = trio.Lock()
        self._ether: Counter[str] = Counter()
        self._tokens: Counter[str] = Counter()
        self.token: str | None = None
        self.address = address_of(private_key)

    async def register_token(self, token: object) -> str:
        """Name the ERC-20 to pay; the faucet must hold some of it. Raises FaucetRefused."""
        address = _address(token)
        async with self._lock:
            if self.token not in (None, address):
                raise FaucetRefused(f"the faucet already pays {self.token}; restart the chain")
            if await self._token_balance(address, self.address) < TOKEN_GRANT:
                raise FaucetRefused(f"transfer tokens of {address} to {self.address} first")
            self.token = address
        return address

    async def grant(self, recipient: object) -> dict[str, str]:
        """Top `recipient` up; returns what was paid, in wei and token units, as decimal strings.

        Raises FaucetRefused when the address is malformed or its grants are used up.
        """
        address = _address(recipient)
        async with self._lock:
            if address not in self._ether and len(self._ether) >= MAX_ADDRESSES:
                raise FaucetRefused("the faucet serves no further addresses; restart the chain")
            ether = await self._top_up(
                self._ether, address, await self._balance(address), ETHER_GRANT, token=None
            )
            tokens = 0
            if self.token is not None:
                balance = await self._token_balance(self.token, address)
                tokens = await self._top_up(
                    self._tokens, address, balance, TOKEN_GRANT, token=self.token
                )
        return {"address": address, "wei": str(ether), "tokens": str(tokens)}

    async def _top_up(
        self, grants: Counter[str], address: str, balance: int, grant: int, *, token: str | None
    ) -> int:
        if balance * 2 >= grant:
            return 0
        if grants[address] >= MAX_GRANTS:
            raise FaucetRefused(f"{address} had all its {MAX_GRANTS} grants")
        if token is None:
            await self._send(address, grant, b"", gas=21_000)
        else:
            data = load_artifact("PrimeToken").abi.encode("transfer", address, grant)
            await self._send(token, 0, data, gas=200_000)
        grants[address] += 1
        return grant

    async def _send(self, to: str, value: int, data: bytes, *, gas: int) -> None:
        nonce = await self._quantity("eth_getTransactionCount", [self.address, "latest"])
        price = await self._quantity("eth_gasPrice", [])
        fees = Fees(max_fee=2 * price, tip=min(price, 10**9))
        signed = sign(Unsigned(self._chain_id, nonce, to, value, data, gas, fees), self._key)
        await self._backend.request("eth_sendRawTransaction", [to_data(signed.raw)])
        await self._wait_mined(signed.hash)

    async def _wait_mined(self, tx_hash: bytes) -> None:
        """Wait for a transfer's receipt: anvil mines a moment after it has taken a transaction."""
        with trio.move_on_after(MINING_SECONDS):
            while True:
                receipt = await self._backend.request(
                    "eth_getTransactionReceipt", [to_data(tx_hash)]
                )
                if isinstance(receipt, dict):
                    if receipt.get("status") != "0x1":
                        raise FaucetRefused("the faucet's transfer reverted; is it out of tokens?")
                    return
                await trio.sleep(0.02)
        raise FaucetRefused("the faucet's transfer was not mined in time; ask again")

    async def _balance(self, address: str) -> int:
        return await self._quantity("eth_getBalance", [address, "latest"])

    async def _token_balance(self, token: str, address: str) -> int:
        data = load_artifact("PrimeToken").abi.encode("balanceOf", address)
        call: dict[str, object] = {"to": token, "data": to_data(data)}
        try:
            return await self._quantity("eth_call", [call, "latest"])
        except (Fault, BadResponse) as exc:
            raise FaucetRefused(f"{token} does not answer as an ERC-20 token") from exc

    async def _quantity(self, method: str, params: list[object]) -> int:
        try:
            return parse_quantity(await self._backend.request(method, params))
        except ValueError as exc:
            raise BadResponse(f"{self._backend.name}: {method}: {exc}") from exc


def _address(value: object) -> str:
    try:
        return parse_address(value)
    except ValueError as exc:
        raise FaucetRefused(f'send {{"address": "0x…"}}: {exc}') from exc
