"""An orchestrator whose workers, engines, validators and chain are simulated: for `bench_scale.py`.

Everything that decides and keeps is the real role: journal, ledger, transitions, coordinator,
settlement watch, snapshots. Only what a command would ask of another node is answered here, at
once, as honest nodes would: stage 0 reports tokens and ends, every stage gives its claim, the one
validator accepts. What is accepted is paid by epochs of `EPOCH` units, each of one receipt, whose
data are made, written to the blob folder and filled into the pool's history as the follower does.
Epochs beyond the newest few have no trees, since only validators look at those.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import psutil
import structlog

from node.config.schema import NodeConfig
from node.context import NodeContext
from node.journal import AsyncJournal
from node.metrics import NodeMetrics
from node.onchain.receipt_domain import receipt_domain
from node.prompts import Prompt
from node.roles.orchestrator.chain_parts import parts_without_chain
from node.roles.orchestrator.coordinator.commands import (
    AssignUnit,
    BuildGroup,
    CollectClaims,
    Command,
    InviteWorker,
    ReadQueue,
    RecordUnit,
    VerifyUnit,
)
from node.roles.orchestrator.coordinator.coordinator import Coordinator
from node.roles.orchestrator.coordinator.events import (
    BundleMade,
    Event,
    GroupUp,
    PeerAnnounced,
    PeerClaimed,
    PeerFinished,
    PeerJoined,
    PeerTokens,
    PeerValidates,
    PeerVerdict,
    QueueGrew,
    QueueRead,
)
from node.roles.orchestrator.coordinator.pool import Policy
from node.roles.orchestrator.coordinator.units import Unit, UnitState
from node.roles.orchestrator.jobs.cutting import JobCutter
from node.roles.orchestrator.ledger import queries
from node.roles.orchestrator.ledger.rows import RowState, pack_outcome
from node.roles.orchestrator.ledger.writes import PutUnit
from node.roles.orchestrator.restore import restore
from node.roles.orchestrator.service import Orchestrator
from node.roles.orchestrator.workers.builder import Builder, GroupTerms
from node.settlement.chain_follower import ChainFollower
from node.settlement.events import ChainPlace, RootSeen
from node.settlement.history import KEPT
from node.wire.blobs import BlobStore
from pipeline.planner import Candidate, CannotPlan, GroupPlan, StagePlan
from proofs.encoding.receipts import EpochRoot, Receipt
from proofs.encoding.signing import address_bytes, address_of
from proofs.evidence.sequence import FinishReason
from proofs.settlement.epoch_data import (
    Epoch,
    EpochData,
    PaidAccount,
    PaidReceipt,
    data_hash,
    make,
)

WORKERS, STAGES, LAYERS = 24, 3, 30
OUTPUT = (65, 66, 67, 68, 69, 70, 71, 72)
EPOCH = 100
POOL = 1
VALIDATOR = "validator"
CLAIM = bytes(512)
BATCH = 64
"""Events that are fed together: about what arrives while the disk takes the batch before."""


class Letters:
    """A tokenizer of the letters' codes; what a real one costs is no question of scale."""

    eos_ids = (2,)
    special: ClassVar[dict[str, int]] = {}

    def encode_chat(self, messages: list[dict[str, str]]) -> list[int]:
        """A token a letter."""
        return [ord(letter) % 200 for message in messages for letter in message["content"]]

    def decode(self, ids: Iterable[int]) -> str:
        """A letter a token."""
        return "".join(map(chr, ids))


def planner(candidates: Sequence[Candidate], previous: GroupPlan | None) -> GroupPlan:
    """Even slices over `STAGES` workers."""
    names = sorted(c.peer_id for c in candidates)[:STAGES]
    if len(names) < STAGES:
        raise CannotPlan("too few workers")
    cuts = [LAYERS * number // STAGES for number in range(STAGES + 1)]
    plans = [StagePlan(n, a, b) for n, a, b in zip(names, cuts, cuts[1:], strict=False)]
    return GroupPlan(tuple(plans), micro_batches=2)


def coordinator() -> Coordinator:
    """The rules and tables of the pool."""
    return Coordinator(
        Policy(stages=STAGES), planner, identity=b"bench", draw=random.Random(1).random
    )


async def prompts(count: int) -> AsyncIterator[Sequence[Prompt]]:
    """So many prompts, by batches."""
    for at in range(0, count, 512):
        numbers = range(at, min(count, at + 512))
        yield [
            Prompt.model_validate({"prompt": f"tell me about the number {n}", "max_tokens": 8})
            for n in numbers
        ]


def context_of(folder: Path, journal: AsyncJournal) -> NodeContext:
    """A node without a network."""
    nothing: Any = None
    return NodeContext(
        config=NodeConfig(data_dir=folder, roles=("orchestrator",)),
        network_name="bench",
        key=bytes(31) + b"\1",
        peer_id="bench",
        address="",
        provider="",
        network=nothing,
        journal=journal,
        receipt_domain=receipt_domain(None),
        metrics=NodeMetrics(),
        engine_dir=folder,
        blobs=folder / "blobs",
        log=structlog.get_logger(),
    )


class QuietBlobs(BlobStore):
    """Tells nobody what it has."""

    async def announce(self, digest: bytes) -> None:
        """There is nobody to tell."""


class PaidChain(ChainFollower):
    """Follows a chain on which every epoch is final as soon as it is posted; `epochs` in all."""

    def __init__(self, context: NodeContext, epochs: int = 0) -> None:
        nothing: Any = None
        super().__init__(
            context,
            nothing,
            nothing,
            QuietBlobs(context),
            all_epochs=True,
            pays_by_work=False,
            confirmations=1,
        )
        self._domain = context.receipt_domain
        self._epochs = epochs
        self._earned: Counter[str] = Counter()

    async def pay(self, unit_ids: Sequence[bytes]) -> None:
        """Post an epoch of these units."""
        history = self.history(POOL)
        number = history.last + 1
        receipts = [self._receipt(unit_id, number, at) for at, unit_id in enumerate(unit_ids)]
        receipts.sort(key=lambda item: address_bytes(item.account))
        self._earned.update({item.account: item.receipt.units for item in receipts})
        payouts = [
            PaidAccount(account=account, cumulative=earned)
            for account, earned in sorted(
                self._earned.items(), key=lambda item: address_bytes(item[0])
            )
        ]
        data = EpochData(
            pool_id=POOL, epoch=number, rate=1, receipts=tuple(receipts), payouts=tuple(payouts)
        )
        newest = number > self._epochs - 2 * KEPT
        epoch = make(data, self._domain) if newest else without_trees(data)
        await self.blobs.put(epoch.content)
        place = ChainPlace(
            rewinds=0, block=number, log_index=0, transaction=number.to_bytes(32, "big")
        )
        signers = (_address(0),)
        await self._record(RootSeen(place=place, root=epoch.root, signers=signers, claimable_at=0))
        entry = history.newest
        assert entry is not None
        await self._fetcher._take(history, entry, epoch)

    @staticmethod
    def _receipt(unit_id: bytes, number: int, at: int) -> PaidReceipt:
        account = _address(1 + at % WORKERS)
        receipt = Receipt(
            job_id=unit_id,
            worker=account,
            pool_id=POOL,
            stage=0,
            seq=0,
            counterparty=_address(0),
            epoch=number,
            units=LAYERS * len(OUTPUT),
            commitment=unit_id,
        )
        signature = unit_id * 2 + b"\x1b"
        return PaidReceipt(
            account=account,
            receipt=receipt,
            worker_signature=signature,
            counter_signature=signature,
        )


class SimulatedPool(Orchestrator):
    """The role, with commands answered here. Figures: `events` that were taken in, and the
    `seconds` and `cpu` seconds that took, journal and tables included."""

    def __init__(self, context: NodeContext, chain: PaidChain) -> None:
        terms = GroupTerms(POOL, b"m" * 32, "bench", 2**20, 1024)
        cutter = JobCutter(Letters(), b"m" * 32, "bench", 512, unit_size=1, vocab_size=200)
        builder = Builder(context, terms)
        parts = parts_without_chain()
        super().__init__(context, coordinator(), cutter, builder, parts, chain)
        self._chain = chain
        self._asked: list[Command] = []
        self._unpaid: list[bytes] = []
        self.events = 0
        self.seconds = self.cpu = 0.0

    async def start(self) -> None:
        """Restore, as the role does when it begins; `transitions` must run for what comes next."""
        recovered = await restore(self._context.journal, self.ledger)
        await self._settlement.restore()
        self._restored = recovered.event

    async def transitions(self) -> None:
        """The task that owns the tables."""
        await self._transitions.run()

    async def gather(self) -> None:
        """Have workers and a validator come."""
        await self.feed(self._restored, QueueGrew(), PeerValidates(VALIDATOR, 1))
        for number in range(WORKERS):
            await self.feed(PeerAnnounced(f"worker{number:02}", 1 << 34, 0.01, None, ""))
        while self._asked:
            await self._answer_all()

    async def write_as_done(self, job_id: str, count: int) -> None:
        """Have the rows of a job's next `count` units say that they are accepted, and epochs pay
        them, without the work: for a history that is there before anything is measured."""
        job, journal = self.ledger.jobs[job_id], self._context.journal
        (made,) = self._cutter.cut(job_id, 0, [Prompt.model_validate({"prompt": "p"})]).units
        (ended,) = (s.ended(1, FinishReason.LENGTH, OUTPUT) for s in made.sequences)
        made = replace(made, sequences=(ended,), verdict={"validator": VALIDATOR})
        tokens = len(OUTPUT)
        while count > 0:
            page = queries.in_state(
                job.number, RowState.QUEUED, job.read_to, min(count, 10 * EPOCH)
            )
            rows = await journal.read(page)
            ids = [row.unit_id for row in rows]
            packed = [pack_outcome(replace(made, bundle_id=unit_id)) for unit_id in ids]
            await journal.write(
                *(
                    PutUnit(unit_id, RowState.ACCEPTED, 0, tokens, outcome)
                    for unit_id, outcome in zip(ids, packed, strict=True)
                )
            )
            job.read_to, count = rows[-1].cursor, count - len(rows)
            job.add(RowState.QUEUED, -len(rows), -len(rows), 0)
            job.add(RowState.ACCEPTED, len(rows), len(rows), tokens * len(rows))
            for at in range(0, len(ids), EPOCH):
                await self._chain.pay(ids[at : at + EPOCH])
                await self._settlement.note_final()

    async def work_off(self, every: Callable[[], Awaitable[None]], each: int) -> None:
        """Answer commands until there are none; `every` is called each `each` units or so."""
        done = 0
        while self._asked:
            await self._answer_all()
            done += await self._pay(EPOCH)
            if done >= each:
                await every()
                done = 0
        await self._pay(1)
        await every()

    def _start(self, command: Command) -> None:
        self._asked.append(command)

    def _began(
        self, events: Sequence[Event], commands: Sequence[Command], units: Iterable[bytes]
    ) -> None:
        super()._began(events, commands, units)
        for command in commands:
            if isinstance(command, RecordUnit) and command.unit.state is UnitState.ACCEPTED:
                self._unpaid.append(command.unit.unit_id)

    async def _pay(self, least: int) -> int:
        """Post what there is in whole epochs; how many units they pay."""
        paid = 0
        while len(self._unpaid) >= least and self._unpaid:
            units, self._unpaid = self._unpaid[:EPOCH], self._unpaid[EPOCH:]
            await self._chain.pay(units)
            await self._settlement.note_final()
            paid += len(units)
        return paid

    async def _answer_all(self) -> None:
        asked, self._asked = self._asked, []
        events = [event for command in asked for event in await self._answers(command)]
        with self._counted():
            for at in range(0, len(events), BATCH):
                await self.feed(*events[at : at + BATCH])
        self.events += len(events)

    @contextmanager
    def _counted(self) -> Iterator[None]:
        started, cpu = time.perf_counter(), time.process_time()
        yield
        self.seconds += time.perf_counter() - started
        self.cpu += time.process_time() - cpu

    async def _answers(self, command: Command) -> list[Event]:
        match command:
            case InviteWorker(peer_id=peer_id):
                return [PeerJoined(peer_id, _address(1), _address(1))]
            case BuildGroup():
                return [GroupUp(command.group_id, command.generation)]
            case ReadQueue():
                with self._counted():
                    units = await self.ledger.next_queued(command.limit)
                return [QueueRead(units, command.arrivals)]
            case AssignUnit():
                return generated(self.pool.units[command.unit_id], command.generation)
            case CollectClaims():
                return claimed(command.unit_id, command.generation)
            case VerifyUnit():
                return judged(command.unit_id)
        return []


def without_trees(data: EpochData) -> Epoch:
    """An epoch's data as they are published, and a root that states only what roles read."""
    content, nothing = data.to_bytes(), bytes(32)
    root = EpochRoot(
        pool_id=data.pool_id,
        epoch=data.epoch,
        receipts_root=nothing,
        payouts_root=nothing,
        receipt_count=len(data.receipts),
        total_units=sum(item.receipt.units for item in data.receipts),
        rate=data.rate,
        total_payout=sum(item.cumulative for item in data.payouts),
        data_hash=data_hash(content),
    )
    return Epoch(data, content, (), root)


def generated(unit: Unit, generation: int) -> list[Event]:
    """What stage 0 reports of a unit: half of the tokens, then the end."""
    events: list[Event] = []
    for sequence in unit.sequences:
        name, half = sequence.sequence_id, OUTPUT[: len(OUTPUT) // 2]
        events.append(PeerTokens(generation, unit.unit_id, name, 0, half))
        ended = PeerFinished(generation, unit.unit_id, name, FinishReason.LENGTH, OUTPUT)
        events.append(ended)
    return events


def claimed(unit_id: bytes, generation: int) -> list[Event]:
    """Every stage's evidence."""
    return [PeerClaimed(unit_id, generation, stage, CLAIM) for stage in range(STAGES)]


def judged(unit_id: bytes) -> list[Event]:
    """The bundle, and the verdict on it."""
    verdict = PeerVerdict(VALIDATOR, unit_id, unit_id, True, "", "", {"validator": VALIDATOR})
    return [BundleMade(unit_id, unit_id), verdict]


def rss_mib() -> float:
    """Resident memory of this process, MiB."""
    return float(psutil.Process().memory_info().rss / 2**20)


@cache
def _address(number: int) -> str:
    return address_of((number + 1).to_bytes(32, "big"))
