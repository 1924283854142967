"""A scenario from beginning to end: the driver of all processes.

Verdicts are fed to every validator in batches until it has acknowledged them, across its deaths; a
few reach one validator later than the others. Batches follow the epochs, so that there are about
as many of these. Nothing here waits for a time to pass, but for the chain to show something.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import trio

from chain.deployment.parameters import TOKEN, DeploymentParams
from node.config.datadir import DataDir
from node.config.keystore import NodeKey, save_key
from node.config.networkfile import ChainTable, NetworkFile
from node.wire.codec import encode
from p2p.errors import P2PError
from p2p.identity import peer_id_of
from p2p.network import Network, NetworkConfig, open_network
from proofs.encoding.leaves import PostedRoot
from tests.integration.settlement.chaos import Chaos
from tests.integration.settlement.cheating import Cheat
from tests.integration.settlement.feeding import FEED, FeedRequest, fed
from tests.integration.settlement.ledger import Ledger, Unit, make_units
from tests.integration.settlement.processes import NodeProcess
from tests.integration.settlement.waiting import until
from tests.integration.settlement.world import RATE, World, open_world
from tests.ports import free_port

STAKES = [100 * TOKEN, 100 * TOKEN, 500 * TOKEN]
"""The last validator carries the quorum alone, until it has lost nine tenths of its stake."""
CHALLENGE_WINDOW, ANSWER_WINDOW, UNBONDING = 1_200, 8, 3_600
"""Seconds of the chain's clock, which runs ahead of ours with every block. `Chaos` lets windows of
right roots pass at once, so a long one costs nothing, and no machine is so slow that a wrong root
becomes final before somebody could look at it."""
LATE_SHARE = 0.04
RETRY_SECONDS = 0.3


@dataclass(frozen=True)
class Plan:
    """How large a scenario is and what happens in it. `kill_pause` bounds the seconds between two
    kills, of which there are `kills` at most, so that it ends on any machine; `ahead` is how many
    batches are fed beyond the last epoch."""

    seed: int
    workers: int
    claimers: int
    units: int
    stages: int
    epochs: int
    cheat: Cheat
    cheat_from: int
    confirmations: int
    kill_pause: tuple[float, float]
    kills: int
    reorgs: int = 0
    reorg_depth: int = 0
    ahead: int = 1

    @property
    def params(self) -> DeploymentParams:
        return DeploymentParams(
            challenge_window=CHALLENGE_WINDOW,
            answer_window=ANSWER_WINDOW,
            unbonding_period=UNBONDING,
            slash_cap=9_000,
            signer_slash=9_000,
        )


@dataclass
class Scenario:
    """A running scenario."""

    plan: Plan
    world: World
    network: Network
    validators: list[NodeProcess]
    claimers: list[NodeProcess]
    ledger: Ledger
    chaos: Chaos
    random: random.Random
    released: int = 0
    last_note: str = "begun"
    began: float = field(default_factory=trio.current_time)
    _more: trio.Event = field(default_factory=trio.Event)

    @property
    def honest(self) -> list[NodeProcess]:
        return self.validators[:-1]

    async def epoch(self) -> int:
        return await _epoch(self.world)

    def note(self, text: str) -> None:
        """Say what happened and when; shown with a failed test, or with -s."""
        self.last_note = f"{text} after {trio.current_time() - self.began:.0f} s"
        print(self.last_note)

    async def standstill(self) -> str:
        """Where a scenario that does not end stands, in one line: what CI shows of a failure."""
        last = await self.world.owner.settlement.epochs_of(self.world.pool)
        final = await self.world.owner.settlement.is_final(self.world.pool, last.epoch)
        nodes = "; ".join(
            f"{node.name}: {'serves' if node.serving else 'does not serve'}, {node.last_event()}"
            for node in (*self.validators, *self.claimers)
        )
        return (
            f"{self.last_note}; epoch {last.epoch}, final {final}, {last.open_disputes} disputes, "
            f"{last.total_payout} of {self.ledger.total} wei, {self.chaos.kills} kills; {nodes}"
        )

    async def run(self) -> None:
        """Feed everything, with everything going wrong, until all of it is claimed."""
        plan, chaos = self.plan, self.chaos
        units = make_units(
            self.random,
            self.world.workers,
            self.world.pool,
            self.world.owner.domain("ReceiptSettlement"),
            units=plan.units,
            stages=plan.stages,
        )
        size = -(-plan.units // plan.epochs)
        batches = [units[at : at + size] for at in range(0, len(units), size)]
        for unit in units:
            self.ledger.enter(unit, self.world.accounts)
        away = self.random.randrange(1, max(2, plan.epochs // 2))
        places = range(1, max(plan.epochs - 1, 2))
        reorg_at = sorted(self.random.sample(places, plan.reorgs)) if plan.reorgs else []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch)
            nursery.start_soon(chaos.mine)
            nursery.start_soon(chaos.hasten, self._wrong, CHALLENGE_WINDOW // 2)
            async with trio.open_nursery() as running:
                running.start_soon(chaos.kill, plan.kill_pause, plan.kills)
                async with trio.open_nursery() as feeding:
                    for node in self.validators:
                        feeding.start_soon(self._feed, node, batches)
                    for place in range(len(batches)):
                        await self._release(place)
                        if place == away:
                            feeding.start_soon(chaos.stay_away)
                        if place in reorg_at:
                            await trio.sleep(self.random.uniform(0.0, 3.0))
                            await chaos.reorganise(plan.reorg_depth)
                            self.note(f"reorganisation below block {chaos.reorgs[-1]}")
                await self._settled()
                running.cancel_scope.cancel()
            for node in (*self.validators, *self.claimers):
                if not node.running:
                    node.start()
                await node.wait_serving()
            self.note("settled")
            await self._claimed()
            self.note("claimed")
            await self._bonds_returned()
            nursery.cancel_scope.cancel()

    async def _watch(self) -> None:
        """Fail as soon as a node falls by itself; nobody would start it again."""
        while True:
            for node in (*self.validators, *self.claimers):
                assert not node.fell, f"{node.name} ended:\n{node.log_tail()}"
            await trio.sleep(RETRY_SECONDS)

    async def _release(self, place: int) -> None:
        """Let batch `place` be fed once the epochs have come near it."""

        async def near() -> bool:
            return await self.epoch() >= place - self.plan.ahead

        await until(near)
        self.released = place + 1
        self.note(f"batch {place + 1}, epoch {await self.epoch()}, {self.chaos.kills} kills")
        self._more.set()
        self._more = trio.Event()

    async def _feed(self, node: NodeProcess, batches: list[list[Unit]]) -> None:
        """Every unit to one validator, a few of them a batch late."""
        late: list[Unit] = []
        for place, batch in enumerate(batches):
            while self.released <= place:
                await self._more.wait()
            held = [unit for unit in batch if self.random.random() < LATE_SHARE]
            await self._send(node, [*late, *(unit for unit in batch if unit not in held)])
            late = held
        await self._send(node, late)

    async def _send(self, node: NodeProcess, units: list[Unit]) -> None:
        request = FeedRequest(units=tuple(fed(unit.unit_id, unit.receipts) for unit in units))
        while True:
            try:
                await self.network.request(
                    node.peer_id, FEED.protocol, encode(request), timeout=FEED.timeout
                )
                return
            except P2PError:
                await trio.sleep(RETRY_SECONDS)

    def _wrong(self, posted: PostedRoot) -> bool:
        alone = posted.signers == (self.world.validators[-1].node,)
        return alone and posted.root.epoch >= self.plan.cheat_from

    # -- waiting for the end ---------------------------------------------------------------------

    async def _settled(self) -> None:
        owner, pool = self.world.owner, self.world.pool

        async def all_final() -> bool:
            last = await owner.settlement.epochs_of(pool)
            return last.total_payout == self.ledger.total and await owner.settlement.is_final(
                pool, last.epoch
            )

        await until(all_final)

    async def _claimed(self) -> None:
        owner, pool = self.world.owner, self.world.pool
        for account, due in self.ledger.due.items():

            async def paid(account: str = account, due: int = due) -> bool:
                return await owner.settlement.claimed(pool, account) >= due

            await until(paid)

    async def _bonds_returned(self) -> None:
        settlement = self.world.deployment.address("ReceiptSettlement")

        async def none_held() -> bool:
            return await self.world.owner.token_balance(settlement) == 0

        await until(none_held)


@asynccontextmanager
async def open_scenario(
    plan: Plan, url: str, folder: Path, node_url: str | None = None
) -> AsyncIterator[Scenario]:
    """The chain furnished and all processes serving; none of them is left afterwards.

    `url` has a faucet; nodes may use another endpoint of the same chain.
    """
    random_ = random.Random(plan.seed)
    (folder / "setup").mkdir()
    opened = open_world(
        url,
        folder / "setup",
        random_,
        plan.params,
        stakes=STAKES,
        workers=plan.workers,
        claimers=plan.claimers,
    )
    async with opened as world:
        key, port = random_.randbytes(32), free_port()
        listen = f"/ip4/127.0.0.1/tcp/{port}"
        file = folder / "network.toml"
        _network_file(plan, world, node_url or url, f"{listen}/p2p/{peer_id_of(key)}").save(file)
        config = NetworkConfig(listen=(listen,), network="scenario")
        async with open_network(config, key) as network:
            validators = _validators(plan, world, folder, file)
            claimers = _claimers(plan, world, folder, file)
            epoch = partial(_epoch, world)
            others = [validators[-1], *claimers]
            chaos = Chaos(random_, world.owner, validators[:-1], others, epoch, plan.confirmations)
            ledger = Ledger(RATE)
            scenario = Scenario(plan, world, network, validators, claimers, ledger, chaos, random_)
            try:
                async with trio.open_nursery() as nursery:
                    for node in (*validators, *claimers):
                        node.start()
                        nursery.start_soon(node.wait_serving)
                yield scenario
            finally:
                for node in (*validators, *claimers):
                    node.stop()


async def _epoch(world: World) -> int:
    return (await world.owner.settlement.epochs_of(world.pool)).epoch


def _network_file(plan: Plan, world: World, url: str, bootstrap: str) -> NetworkFile:
    table = ChainTable(
        rpc_url=url,
        chain_id=world.deployment.chain_id,
        default_domain=world.deployment.default_domain,
        block=world.deployment.block,
        confirmations=plan.confirmations,
        contracts=world.deployment.addresses,
    )
    return NetworkFile(name="scenario", bootstrap=(bootstrap,), chain=table)


def _process(name: str, key: bytes, folder: Path, arguments: list[str]) -> NodeProcess:
    data = DataDir(folder / name)
    data.create()
    save_key(data.node_key, NodeKey(key))
    listen = f"/ip4/127.0.0.1/tcp/{free_port()}"
    return NodeProcess(name, peer_id_of(key), data.path, [*arguments, "--listen", listen])


def _validators(plan: Plan, world: World, folder: Path, file: Path) -> list[NodeProcess]:
    made = []
    for place, validator in enumerate(world.validators):
        size = -(-plan.units // plan.epochs)
        arguments = ["--network-file", str(file), "--role", "validator"]
        arguments += ["--provider", validator.account, "--pool", str(world.pool)]
        arguments += ["--max-units", str(size)]
        if place == len(world.validators) - 1:
            arguments += ["--cheat", plan.cheat.value, "--cheat-from", str(plan.cheat_from)]
        made.append(_process(f"validator-{place + 1}", validator.key, folder, arguments))
    return made


def _claimers(plan: Plan, world: World, folder: Path, file: Path) -> list[NodeProcess]:
    """Processes that claim for all workers; each has a share of them."""
    made = []
    for place in range(plan.claimers):
        accounts = [worker.account for worker in world.workers[place :: plan.claimers]]
        arguments = ["--network-file", str(file), "--role", "worker", "--pool", str(world.pool)]
        arguments += ["--provider", accounts[0], "--accounts", *accounts]
        made.append(_process(f"claimer-{place + 1}", world.claimer_keys[place], folder, arguments))
    return made
