"""At each append of a validator the disk fails or stalls: no verdict, record, payment or signature
is seen before, and what is remembered then is what a restart finds."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trio

from node.context import NodeContext
from node.journal import JournalEvent
from node.roles.validator import journal_events
from node.roles.validator.bundle_state import QueuedBundle
from node.roles.validator.journal_events import (
    BundleCounted,
    BundleTried,
    ConvictionFound,
    EpochCosigned,
    LimitsUsed,
    RowsAsked,
    UnitAccepted,
    VerdictSigned,
    WorkerChecked,
    WorkerDrifted,
)
from node.roles.validator.judging.inquiries import Answer, Ruling
from node.roles.validator.judging.plan import JudgingPlan
from node.roles.validator.judging.reputation import WorkerRecords
from node.roles.validator.keeping.retention import KeepLimits
from node.roles.validator.keeping.store import BundleStore
from node.roles.validator.settlement.accepted import AcceptedUnits
from node.roles.validator.settlement.convictions import Convictions, conviction_of
from node.roles.validator.settlement.cosigner import Cosigner
from node.roles.validator.verdicts import Verdicts
from node.settlement.history import PoolHistory
from node.wire.messages.settlement import CosignRequest
from proofs.encoding.signing import recover
from proofs.evidence.bundle import UnitBundle
from proofs.thresholds.builtin import FP32
from proofs.thresholds.drift import DriftTest
from proofs.verdict.blame import Inquiry
from proofs.verdict.exceedances import RejectConvictLimits
from proofs.verdict.judge import judge
from proofs.verdict.message import Verdict
from tests.node.journal.disks import Disk
from tests.node.roles.chains import open_context
from tests.node.roles.durable import HOW, shown_once_on_disk
from tests.proofs.settlement.epochs import PRICE, facts, settled, signed
from tests.proofs.units import DOMAIN, NULL, bundle, measures

MADE = bundle()
LIMITS = RejectConvictLimits.of(FP32, FP32)
SENSITIVE = DriftTest(alpha=0.9)
"""Raises an alarm at the first unusual unit."""


def verdict_on(made: UnitBundle, spoilt: bool = False) -> Verdict:
    found = judge(made, list(measures(made, {0: NULL} if spoilt else None)), LIMITS, DOMAIN)
    assert isinstance(found, Verdict)
    return found


class Validator:
    """From a bundle to what follows from its verdict; `acted` is what settlement and prosecution
    were told."""

    def __init__(self, context: NodeContext, verdict: Verdict) -> None:
        self.context, self.verdict = context, verdict
        self.judged = 0
        self.acted: list[str] = []
        self.records = WorkerRecords(context.journal, context.metrics, context.log, SENSITIVE)
        parts: Any = self
        self.verdicts = Verdicts(context, parts, self.records, parts, parts)

    async def rule(self, *_: Any) -> Ruling:
        self.judged += 1
        asked = Inquiry(stage=1, index=0, digest=b"d" * 32)
        return Ruling(self.verdict, (Answer(asked, None),), "fp32", {0: (1e-6,)})

    async def accept(self, *_: Any) -> None:
        self.acted.append("paid")

    async def note(self, *_: Any) -> None:
        self.acted.append("prosecuted")

    async def on(self) -> Any:
        queued = QueuedBundle(self.verdict.bundle_id, "sender")
        return await self.verdicts.on(MADE, queued, JudgingPlan(), lambda: None)


@asynccontextmanager
async def on_disk(folder: Path) -> AsyncIterator[tuple[NodeContext, Disk]]:
    disk = Disk()
    async with open_context(folder, disk=disk) as context:
        yield replace(context, receipt_domain=DOMAIN), disk


IN_ORDER: tuple[type[JournalEvent], ...] = (
    BundleTried,
    RowsAsked,
    LimitsUsed,
    VerdictSigned,
    BundleCounted,
    WorkerChecked,
    WorkerDrifted,
)


def test_every_kind_is_here() -> None:
    kinds = {
        value
        for value in vars(journal_events).values()
        if isinstance(value, type) and issubclass(value, JournalEvent)
    }
    others = {UnitAccepted, ConvictionFound, EpochCosigned}
    taken = {journal_events.BundleTaken, JournalEvent}  # before its sender is answered: intake
    assert kinds == {*IN_ORDER} | others | taken


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("kind", IN_ORDER)
async def test_a_verdict_and_what_follows_wait_for_the_disk(
    tmp_path: Path, how: str, kind: type[JournalEvent]
) -> None:
    async with on_disk(tmp_path) as (context, disk):
        spoilt = how == "stall" and kind is not WorkerDrifted  # a cheat's figures are not compared
        v = Validator(context, verdict_on(MADE, spoilt))
        new_verdict = kind in (RowsAsked, LimitsUsed, VerdictSigned)

        def seen() -> Any:
            tried = v.judged if kind is BundleTried else 0
            return tried, list(v.acted), set(v.records.suspects), v.verdicts.judged * new_verdict

        signed = await shown_once_on_disk(disk, how, kind.kind, v.on, seen)
        assert v.acted == ["prosecuted" if spoilt else "paid"]
        assert v.verdicts.judged == v.judged == 1
        for kind_on_disk in IN_ORDER[:6]:
            assert await context.journal.replay(kind_on_disk), kind_on_disk.kind
        again = Validator(context, v.verdict)  # a restart: nothing is judged or counted again
        await again.records.restore()
        assert again.records.suspects == v.records.suspects
        assert await again.on() == signed
        assert again.judged == again.verdicts.judged == 0
        for claim in MADE.stages:
            record = await again.records.of(claim.address)
            assert record == await v.records.of(claim.address)


@pytest.mark.parametrize("how", HOW)
async def test_a_unit_is_accepted_once_that_is_on_disk(tmp_path: Path, how: str) -> None:
    async with on_disk(tmp_path) as (context, disk):
        units = AcceptedUnits(context.journal, context.log, context.wall)
        work, first, other = (signed(1), signed(1, 1)), b"b" * 32, b"c" * 32

        def seen() -> Any:
            return units.knows("peer", b"u" * 32), units.accepted_other("peer", b"u" * 32, other)

        assert await shown_once_on_disk(
            disk,
            how,
            UnitAccepted.kind,
            lambda: units.accept("peer", b"u" * 32, first, work),
            seen,
        )
        restored = AcceptedUnits(context.journal, context.log, context.wall)
        assert await restored.restore() == [("peer", b"u" * 32, work)]
        assert restored._bundles == units._bundles == {("peer", b"u" * 32): first}
        # Forgetting follows the disk as well: else a second bundle would be accepted too early.
        await shown_once_on_disk(
            disk, how, UnitAccepted.kind, lambda: units.settle([("peer", b"u" * 32)]), seen
        )
        assert not units.knows("peer", b"u" * 32)
        assert await context.journal.replay(UnitAccepted) == []


@pytest.mark.parametrize("how", HOW)
async def test_nobody_is_prosecuted_before_the_conviction_is_on_disk(
    tmp_path: Path, how: str
) -> None:
    async with on_disk(tmp_path) as (context, disk):
        nobody: Any = None
        convictions = Convictions(context, nobody, nobody)
        verdict = verdict_on(MADE, spoilt=True)
        expected = conviction_of(MADE, verdict, DOMAIN)
        assert expected is not None
        await shown_once_on_disk(
            disk,
            how,
            ConvictionFound.kind,
            lambda: convictions.note(MADE, verdict),
            lambda: convictions._receive.statistics().current_buffer_used,
        )
        assert convictions._receive.receive_nowait() == expected
        (found,) = await context.journal.replay(ConvictionFound)
        assert found.conviction == expected.to_bytes()


class Epochs:
    """A pool without an epoch yet, what the chain says of it, and a proposer that has the data."""

    def __init__(self) -> None:
        self.epoch = settled([signed(1), signed(1, 1)], available=10**18)
        self.blobs = self
        self.kept: list[bytes] = []

    def history(self, pool_id: int) -> PoolHistory:
        return PoolHistory(pool_id)

    async def fetch_from(self, peer_id: str, digest: bytes) -> bytes:
        return self.epoch.content

    async def put(self, content: bytes) -> None:
        self.kept.append(content)

    async def settled_until(self, history: PoolHistory) -> bool:
        return True

    async def before(self, *_: Any) -> Any:
        return facts()

    async def budget(self, pool_id: int, committed: int) -> Any:
        return SimpleNamespace(price=PRICE, available=10**18)


@pytest.mark.parametrize("how", HOW)
async def test_no_epoch_is_signed_before_that_is_on_disk(tmp_path: Path, how: str) -> None:
    async with on_disk(tmp_path) as (context, disk):
        chain: Any = Epochs()
        cosigner = Cosigner(context, chain, chain, chain)
        root = chain.epoch.root
        request = CosignRequest(root=root.to_bytes())
        accepted = {(1).to_bytes(32, "big"): (signed(1), signed(1, 1))}

        async def ask() -> Any:
            return await cosigner.on_cosign("peer", request, lambda pool_id: accepted)

        answer = await shown_once_on_disk(disk, how, EpochCosigned.kind, ask)
        assert recover(root.digest(DOMAIN), answer.signature) == context.address
        assert chain.kept  # its data are served before the signature is given
        assert [event.root for event in await context.journal.replay(EpochCosigned)] == [
            root.to_bytes()
        ]
        assert await ask() == answer


@pytest.mark.parametrize("how", HOW)
async def test_a_bundles_file_stays_until_the_journal_has_forgotten_it(
    tmp_path: Path, how: str
) -> None:
    async with on_disk(tmp_path) as (context, disk):
        now = [1000.0]
        limits = KeepLimits(accepted=10.0, rejected=10.0)
        store = BundleStore(tmp_path, context.journal, limits, lambda: (), lambda: now[0])
        await store.open()
        content = MADE.to_bytes()
        await store.put(MADE.content_id, content)
        await store.judged(MADE.content_id, accepted=False)
        await context.journal.record(VerdictSigned(bundle_id=MADE.content_id, verdict=b"v"))
        now[0] = 1e12

        def files() -> Any:
            return sorted(path.name for path in (tmp_path / "bundles").iterdir())

        await shown_once_on_disk(disk, how, VerdictSigned.kind, store.sweep, files)
        assert files() == []
        assert await context.journal.replay(VerdictSigned) == []
        assert store.size == 0


async def test_a_try_that_the_end_cut_short_is_counted_if_and_only_if_it_began(
    tmp_path: Path,
) -> None:
    async with on_disk(tmp_path) as (context, disk):
        v = Validator(context, verdict_on(MADE))
        disk.stall()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(v.on)
            await disk.tried()
            context.journal.let_go()  # the node ends
            nursery.cancel_scope.cancel()
            disk.heal()
        assert v.judged == 0
    async with on_disk(tmp_path) as (context, _):
        again = Validator(context, v.verdict)
        assert await again.verdicts.tried(v.verdict.bundle_id) <= 1
        assert (await again.on()).verdict.accepted
