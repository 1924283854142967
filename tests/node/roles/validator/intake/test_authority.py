"""Whose bundles are taken: one question for many who wait, also when it comes to nothing."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing

from chain.errors import ChainError
from node.roles.validator.intake.authority import PoolOwners
from node.wire.peer_addresses import address_of_peer
from p2p.errors import Refused
from p2p.identity import peer_id_of

OWNER, *OTHERS = (peer_id_of(bytes([n]) * 32) for n in range(1, 6))


class Pool:
    """What the chain says of a pool."""

    creator = address_of_peer(OWNER)


class Pools:
    """A chain's pools, which fails as often as it is told, each time only when it is let."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.asked = 0
        self.answering = trio.Semaphore(0)

    async def info(self, pool_id: int) -> Pool:
        self.asked += 1
        await self.answering.acquire()
        if self.failures:
            self.failures -= 1
            raise ChainError("the endpoint is down")
        return Pool()


class Chain:
    """The part of a chain that is asked."""

    def __init__(self, failures: int) -> None:
        self.pools = Pools(failures)


async def test_those_who_waited_for_an_answer_that_failed_ask_one_after_another() -> None:
    chain: Any = Chain(failures=2)
    owners = PoolOwners(chain, trio.current_time)
    refused: list[str] = []

    async def ask(peer_id: str) -> None:
        with pytest.raises(Refused) as found:
            await owners.require_sender(peer_id, 7)
        refused.append(found.value.code)

    async with trio.open_nursery() as nursery:
        for peer_id in OTHERS:
            nursery.start_soon(ask, peer_id)
        for asked in (1, 2, 3):
            await trio.testing.wait_all_tasks_blocked()
            assert chain.pools.asked == asked
            chain.pools.answering.release()
    assert sorted(refused) == ["chain", "chain", "not_your_pool", "not_your_pool"]
    await owners.require_sender(OWNER, 7)
    assert chain.pools.asked == 3
