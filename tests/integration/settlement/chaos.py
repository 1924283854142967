"""What goes wrong in a scenario: processes die, one stays away, the chain changes its mind.

Everything random comes from the scenario's seed. One honest validator always runs: that somebody
honest watches within the challenge window is what the protocol rests on.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable

import trio

from chain.client import ChainClient
from chain.errors import ChainError
from chain.events.reader import EventReader
from chain.events.settlement_events import RootPosted, read_event
from proofs.encoding.leaves import PostedRoot
from tests.integration.settlement.processes import NodeProcess
from tests.integration.settlement.waiting import until

BLOCK_SECONDS = 0.25
LONGEST_AWAY_SECONDS = 15.0


class Chaos:
    """Kills, absence and reorganisations of one scenario."""

    def __init__(
        self,
        random_: random.Random,
        chain: ChainClient,
        honest: list[NodeProcess],
        others: list[NodeProcess],
        epoch: Callable[[], Awaitable[int]],
        confirmations: int,
    ) -> None:
        self._random = random_
        self._chain = chain
        self._honest = honest
        self._others = others
        self._epoch = epoch
        self._confirmations = confirmations
        self._over_at = 0
        self.kills = 0
        self.reorgs: list[int] = []
        self.absences = 0

    async def mine(self) -> None:
        """Blocks come whether anybody sends transactions or not."""
        rpc = self._chain.rpc
        while True:
            await rpc.request("evm_mine", [])
            head = await rpc.block("latest")
            if head is not None and head.timestamp < self._over_at:
                # A reorganisation may take this back, so it is looked at after every block.
                await rpc.request("evm_increaseTime", [self._over_at - head.timestamp])
            await trio.sleep(BLOCK_SECONDS)

    async def hasten(self, wrong: Callable[[PostedRoot], bool], left: int) -> None:
        """Put the chain's clock forward past the window of every right root that is deep enough.

        So windows can be long enough for the slowest machine, and honest epochs are quick
        nevertheless. Of a wrong root's window `left` seconds are left to pass as they do: data that
        nobody serves are waited for before that.
        """
        reader = EventReader(
            self._chain.rpc,
            self._chain.deployment,
            self._chain.database,
            "hasten",
            ("ReceiptSettlement",),
            confirmations=self._confirmations,
            poll=BLOCK_SECONDS,
        )
        async for batch in reader.batches():
            for event in batch.events:
                told = read_event(event)
                if isinstance(told, RootPosted):
                    stays = left if wrong(told.posted) else 0
                    self._over_at = max(self._over_at, told.claimable_at - stays)

    async def kill(self, pause: tuple[float, float], most: int) -> None:
        """Kill one process after another at random moments, at `most` so many, and start it again.

        The next one is left alone for as long as the last one took to come back, besides: what
        needs several of them must find them together on a slow machine too.
        """
        took = 0.0
        while self.kills < most:
            await trio.sleep(self._random.uniform(*pause) + took)
            victim = self._random.choice([*self._honest, *self._others])
            if victim.held_down or not victim.serving or not self._spared(victim):
                continue
            killed_at = trio.current_time()
            victim.kill()
            self.kills += 1
            await trio.sleep(self._random.uniform(0.0, 1.0))
            victim.start()
            await victim.wait_serving()
            took = trio.current_time() - killed_at

    async def stay_away(self) -> None:
        """Keep one honest validator down until two epochs have passed without it, or a while."""
        victim = self._random.choice(self._honest)

        async def dispensable() -> bool:
            return victim.serving and self._spared(victim)

        await until(dispensable)
        victim.held_down = True
        victim.kill()
        self.absences += 1
        back_at = await self._epoch() + 2

        async def missed_enough() -> bool:
            return await self._epoch() >= back_at

        with trio.move_on_after(LONGEST_AWAY_SECONDS):
            await until(missed_enough)
        victim.held_down = False
        victim.start()
        await victim.wait_serving()

    async def reorganise(self, depth: int) -> None:
        """Replace the newest blocks by empty ones; what was in them must be sent again."""
        try:
            head = await self._chain.rpc.block_number()
            await self._chain.rpc.request("anvil_reorg", [depth, []])
        except ChainError as exc:
            raise AssertionError(f"no reorganisation: {exc}") from exc
        self.reorgs.append(head)

    def _spared(self, victim: NodeProcess) -> bool:
        """Whether an honest validator serves besides the victim."""
        return any(node.serving for node in self._honest if node is not victim)
