"""What a validator remembers of the chain does not grow with what the chain has seen."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import structlog
import trio
import trio.testing

from node.journal import AsyncJournal, open_journal
from node.roles.validator.journal_events import UnitAccepted
from node.roles.validator.settlement.chain_reads import ChainFacts
from node.roles.validator.settlement.disputes import RootGuard
from node.roles.validator.settlement.settling import ValidatorSettlement
from node.settlement.history import PoolHistory, PostedEpoch
from node.settlement.paid import PaidWork
from node.supervisor.supervisor import Supervisor
from proofs.encoding.leaves import PostedRoot, SignedReceipt
from tests.proofs.settlement.epochs import settled, signed

EPOCH = settled([signed(1)])


class Chain:
    """Everybody owns itself; one creator has all pools."""

    def __init__(self) -> None:
        self.nodes = self.pools = self
        self.asked: list[Any] = []

    async def owners_of(self, nodes: list[str]) -> dict[str, str]:
        self.asked += nodes
        return {node: node.upper() for node in nodes}

    async def info(self, pool_id: int) -> Any:
        self.asked.append(pool_id)
        return SimpleNamespace(creator="0xcc")


def work(number: int) -> SignedReceipt:
    receipt = signed(1).receipt.model_copy(update={"worker": f"w{number}", "counterparty": "boss"})
    return SignedReceipt(receipt, b"", b"")


async def test_owners_and_creators_are_kept_of_the_newest_and_asked_again() -> None:
    chain: Any = Chain()
    nobody: Any = None
    facts = ChainFacts(chain, nobody, nodes=8, pools=4)
    for number in range(100):
        found = await facts.owners([work(number)])
        assert found == {f"w{number}": f"W{number}", "boss": "BOSS"}
        assert await facts.creator(number) == "0xcc"
    assert (len(facts._owners), len(facts._creators)) == (8, 4)
    assert chain.asked.count("boss") == 1  # who is asked about again stays
    crowd = [work(number) for number in range(100)]
    assert len(await facts.owners(crowd)) == 101  # more than are kept
    chain.asked.clear()
    await facts.creator(99)
    await facts.creator(0)
    assert chain.asked == [0]


async def test_units_that_nobody_pays_are_forgotten_after_a_while(tmp_path: Path) -> None:
    now = [1000.0]

    class Context:
        """A node's, whose clock is the test's."""

        def __init__(self, journal: AsyncJournal) -> None:
            self.journal, self.log = journal, structlog.get_logger()

        def now(self) -> float:
            return now[0]

        wall = now

    nobody: Any = None
    histories: Any = SimpleNamespace(history=PoolHistory, histories={})
    async with open_journal(tmp_path / "j") as journal:
        context: Any = Context(journal)

        async def restored() -> ValidatorSettlement:
            paid = PaidWork(journal)
            settlement = ValidatorSettlement(context, histories, paid, nobody, unpaid=100.0)
            await settlement.restore()
            return settlement

        settlement = await restored()
        for number in (1, 2):
            unit_id = number.to_bytes(32, "big")
            await settlement.accept("peer", unit_id, b"b" * 32, [signed(number)])
            await settlement.accept("peer", bytes([number]), b"b" * 32, [])  # from itself
            now[0] += 50.0
        await settlement.forget_unpaid()
        assert settlement.waiting == (await restored()).waiting == 2
        now[0] += 1.0
        await settlement.forget_unpaid()
        assert (settlement.waiting, len(settlement._free), len(settlement._senders)) == (1, 1, 1)
        again = await restored()
        assert (again.waiting, len(again._free), len(again._senders)) == (1, 1, 1)
        now[0] += 1000.0
        await again.forget_unpaid()
        assert again.waiting == 0
        assert await journal.replay(UnitAccepted) == []


class Follower:
    """One pool whose roots become final as soon as the next one is posted."""

    def __init__(self) -> None:
        self.version = 0
        self.history = PoolHistory(1)
        self.histories = {1: self.history}
        self.disputes: dict[int, bytes] = {}
        self.changed = trio.Event()

    async def wait_changed(self, version: int) -> int:
        while self.version <= version:
            await self.changed.wait()
        return self.version

    def is_final(self, history: PoolHistory, entry: PostedEpoch) -> bool:
        return False

    def now(self) -> float:
        return 0.0

    def post(self, number: int) -> None:
        root = EPOCH.root.model_copy(update={"epoch": number})
        self.history.post(PostedEpoch(PostedRoot(root, ()), 0, number, "0x"))
        self.version += 1
        self.changed.set()
        self.changed = trio.Event()


async def test_roots_that_were_audited_are_not_remembered_for_ever() -> None:
    follower: Any = Follower()
    context: Any = SimpleNamespace(supervisor=Supervisor(), log=structlog.get_logger())
    auditor: Any = SimpleNamespace(
        timing=SimpleNamespace(retry=1.0), gone=lambda history, entry: True
    )
    guard = RootGuard(context, follower, auditor)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(guard.run)
        for number in range(1, 60):
            follower.post(number)
            await trio.testing.wait_all_tasks_blocked()
            assert len(guard._seen) == 1
        nursery.cancel_scope.cancel()
