from __future__ import annotations

import hashlib
from types import SimpleNamespace
from typing import Any

import trio
import trio.testing

from chain.errors import BadResponse
from node.onchain.validators import LookupLimits, ValidatorsOnly
from node.wire.peer_addresses import address_of_peer
from p2p.errors import Refused
from p2p.identity import peer_id_of

PEERS = [peer_id_of(hashlib.sha256(bytes([n])).digest()) for n in range(8)]


class Weights:
    """The chain's answers; it answers once `answering` is set."""

    def __init__(self, *validators: str) -> None:
        self.validators = {address_of_peer(peer_id) for peer_id in validators}
        self.asked: list[str] = []
        self.answering = trio.Event()
        self.fails = False

    async def weight_of(self, address: str) -> int:
        self.asked.append(address)
        await self.answering.wait()
        if self.fails:
            raise BadResponse("no answer")
        return 5 if address in self.validators else 0


def validators_only(weights: Weights, now: Any) -> ValidatorsOnly:
    chain: Any = SimpleNamespace(validators=weights)
    return ValidatorsOnly(chain, lambda: now[0], LookupLimits(at_once=2))


async def code(only: ValidatorsOnly, peer_id: str) -> str:
    try:
        await only.require(peer_id)
    except Refused as refused:
        return refused.code
    return ""


async def test_a_validator_is_remembered_for_a_while_and_a_stranger_is_not():
    weights, now = Weights(PEERS[0]), [0.0]
    only = validators_only(weights, now)
    weights.answering.set()
    for _ in range(3):
        assert await code(only, PEERS[0]) == ""
        assert await code(only, PEERS[1]) == "not_a_validator"
    assert len(weights.asked) == 4
    weights.validators.clear()
    now[0] = 61.0
    assert await code(only, PEERS[0]) == "not_a_validator"


async def test_strangers_keep_no_known_validator_waiting():
    weights, now = Weights(PEERS[0]), [0.0]
    only = validators_only(weights, now)
    weights.answering.set()
    await only.require(PEERS[0])
    weights.answering = trio.Event()
    codes: list[str] = []

    async def ask(peer_id: str) -> None:
        codes.append(await code(only, peer_id))

    async with trio.open_nursery() as nursery:
        for peer_id in (*PEERS[1:], PEERS[1]):
            nursery.start_soon(ask, peer_id)
        await trio.testing.wait_all_tasks_blocked()
        assert codes == ["busy"] * 6
        await only.require(PEERS[0])
        weights.answering.set()
    assert codes[6:] == ["not_a_validator"] * 2


async def test_a_chain_that_does_not_answer_refuses_and_is_asked_again():
    weights = Weights(PEERS[0])
    only = validators_only(weights, [0.0])
    weights.answering.set()
    weights.fails = True
    assert await code(only, PEERS[0]) == "chain"
    weights.fails = False
    assert await code(only, PEERS[0]) == ""
