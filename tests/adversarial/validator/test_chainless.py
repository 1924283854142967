"""A validator in a network without a chain: it judges everybody's work, and nobody is paid."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from node.onchain.receipt_domain import NO_CHAIN
from node.roles.validator.journal_events import UnitAccepted
from node.roles.validator.service import Validator
from node.wire.messages.fields import Done
from node.wire.messages.verification import VerdictNotice
from node.wire.methods import VERDICT
from node.wire.rpc import serve
from proofs.evidence.bundle import UnitBundle
from proofs.verdict.message import SignedVerdict, Verdict
from tests.adversarial.harness import Node, eventually, make_validator, open_node, running
from tests.adversarial.standins import POOL, Engine, Ring
from tests.adversarial.validator_scenario import bundle_of, refusal, send


@asynccontextmanager
async def open_judge(folder: Path, sender: Node) -> AsyncIterator[tuple[Node, Validator]]:
    """One run of a validator; the next one finds its journal."""
    async with open_node(82, folder, boot=sender, role="validator") as judge:
        validator = make_validator(judge, Engine(Ring()))
        async with running(judge, validator=validator):
            yield judge, validator


async def test_work_is_judged_once_for_anybody_and_remembered(tmp_path: Path) -> None:
    async with (
        open_node(80, tmp_path / "sender") as sender,
        open_node(81, tmp_path / "worker", boot=sender) as worker,
    ):
        verdicts: list[Verdict] = []

        async def on_verdict(peer_id: str, notice: VerdictNotice) -> Done:
            verdicts.append(SignedVerdict.from_bytes(notice.verdict).verdict)
            return Done()

        def bundle(last: int) -> UnitBundle:
            return bundle_of(worker, sender, b"u", POOL, last, NO_CHAIN)

        serve(sender.network, VERDICT, on_verdict)
        async with open_judge(tmp_path / "judge", sender) as (judge, validator):
            await send(sender, judge.peer_id, bundle(13))
            await eventually(lambda: verdicts)
            assert [verdict.accepted for verdict in verdicts] == [True]
            assert verdicts[0].replayed == (0,)
            await validator.drain()  # nothing waits to be paid
        async with open_judge(tmp_path / "judge", sender) as (judge, validator):
            assert await refusal(sender, judge.peer_id, bundle(14)) == ("already_accepted")
            assert len(await judge.context.journal.replay(UnitAccepted)) == 1
            assert validator.judged == 0
