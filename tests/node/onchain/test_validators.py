"""Strangers who say that they validate cost the chain nothing, and validators little."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from chain.errors import ChainUnreachable
from node.onchain.validators import StakedPeers
from p2p.errors import Refused
from p2p.identity import peer_id_of
from proofs.encoding.signing import address_of

KEYS = [bytes([n]) * 32 for n in range(1, 30)]
PEERS = [peer_id_of(key) for key in KEYS]


class Chain:
    """Says who validates, by weight, and counts the questions."""

    def __init__(self, *weights: int) -> None:
        self.validators = self
        self.weights = {address_of(key): w for key, w in zip(KEYS, weights, strict=False)}
        self.asked = 0
        self.down = False

    async def _answer(self) -> None:
        await trio.lowlevel.checkpoint()
        self.asked += 1
        if self.down:
            raise ChainUnreachable("http://test", "down")

    async def addresses(self) -> list[str]:
        await self._answer()
        return list(self.weights)

    async def weight_of(self, address: str) -> int:
        await self._answer()
        return self.weights.get(address, 0)


class Asked:
    def __init__(self, *weights: int) -> None:
        self.now = 1000.0
        self.chain = Chain(*weights)
        chain: Any = self.chain
        self.staked = StakedPeers(chain, lambda: self.now)

    async def code(self, peer_id: str) -> str:
        try:
            await self.staked.require(peer_id)
        except Refused as exc:
            return exc.code
        return "admitted"


async def test_a_crowd_of_strangers_costs_one_question() -> None:
    a = Asked(10, 0)
    async with trio.open_nursery() as nursery:
        for peer in PEERS[2:] * 20:
            nursery.start_soon(a.code, peer)
    assert a.chain.asked == 1
    assert await a.code(PEERS[0]) == "admitted"
    assert await a.code(PEERS[1]) == "not_a_validator"  # the role, and no stake
    assert await a.code("12D3KooWnobody") == "not_a_validator"
    for _ in range(50):
        await a.code(PEERS[0])
        await a.code(PEERS[1])
    assert a.chain.asked == 3


async def test_a_new_validator_waits_for_seconds_and_one_that_left_is_refused_as_soon() -> None:
    a = Asked(10)
    assert await a.code(PEERS[0]) == "admitted"
    assert await a.code(PEERS[1]) == "not_a_validator"
    a.chain.weights = {address_of(KEYS[1]): 5}
    assert await a.code(PEERS[0]) == "admitted"
    a.now += 5.0
    assert await a.code(PEERS[1]) == "admitted"
    assert await a.code(PEERS[0]) == "not_a_validator"


async def test_a_chain_that_does_not_answer_is_not_asked_for_every_request() -> None:
    a = Asked(10)
    assert await a.code(PEERS[0]) == "admitted"
    a.chain.down = True
    a.now += 30.0
    before = a.chain.asked
    for _ in range(50):
        assert await a.code(PEERS[0]) == "admitted"  # as it said last
        assert await a.code(PEERS[9]) == "not_a_validator"
    assert a.chain.asked == before + 1
    a.now += 60.0
    for _ in range(50):
        assert await a.code(PEERS[0]) == "chain"
    assert a.chain.asked == before + 2
    a.chain.down = False
    a.now += 5.0
    assert await a.code(PEERS[0]) == "admitted"


async def test_where_a_stake_is_not_told_nobody_is_admitted() -> None:
    a = Asked(10)
    assert await a.code(PEERS[3]) == "not_a_validator"
    a.chain.down = True
    assert await a.code(PEERS[0]) == "chain"
    with pytest.raises(Refused):
        await a.staked.require(PEERS[0])
