"""An orchestrator among dishonest workers, validators and strangers."""

from __future__ import annotations

from typing import Any

import pytest

from node.roles.orchestrator.coordinator.events import Tick
from node.roles.orchestrator.coordinator.groups import GroupState
from node.roles.orchestrator.coordinator.members import MemberState
from node.roles.orchestrator.coordinator.pool import Policy
from node.roles.orchestrator.coordinator.units import UnitState
from node.roles.orchestrator.journal_events import UnitRejected
from node.wire.messages.fields import MAX_RUNS, StageRef
from node.wire.messages.verification import ClaimAnswer, ClaimRequest, VerdictNotice
from node.wire.messages.work import FinishedRun, Progress, TokenRun, Trouble
from node.wire.methods import CLAIM, PROGRESS, TROUBLE, VERDICT
from node.wire.rpc import serve
from proofs.encoding.signing import sign_digest
from proofs.evidence.bundle import StageClaim
from proofs.evidence.sequence import FinishReason
from proofs.verdict.message import SignedVerdict, StageVerdict, Verdict
from tests.adversarial.harness import eventually, key_of, until
from tests.adversarial.standins import DOMAIN, POOL, VOCAB


def ref(network: Any, stage: int, generation: int | None = None) -> StageRef:
    group = network.group
    return StageRef(
        group_id=group.group_id,
        generation=group.generation if generation is None else generation,
        stage=stage,
    )


def tokens(network: Any, unit: Any, offset: int, ids: tuple[int, ...], **at: Any) -> Progress:
    run = TokenRun(sequence_id=unit.sequences[0].sequence_id, offset=offset, ids=ids)
    return Progress(ref=ref(network, 0, **at), tokens=(run,), finished=())


def finished(network: Any, unit: Any, ids: tuple[int, ...]) -> Progress:
    end = FinishedRun(
        sequence_id=unit.sequences[0].sequence_id, reason=FinishReason.LENGTH, ids=ids
    )
    return Progress(ref=ref(network, 0), tokens=(), finished=(end,))


async def silent(network: Any) -> Any:
    """A unit that stage 0 holds and says nothing about."""
    network.engine(0).generate = False
    (unit,) = await network.submit()
    return await network.reached(unit, UnitState.ASSIGNED)


async def test_progress_counts_only_from_stage_0_of_the_running_build(net) -> None:
    async with net(judges=()) as network:
        unit = await silent(network)
        boss = network.boss.peer_id
        report = tokens(network, unit, 0, (10,))
        assert await network.mallory.refused(boss, PROGRESS, report) == "not_a_member"
        assert await network.stage(1).refused(boss, PROGRESS, report) == "not_your_stage"
        old = tokens(network, unit, 0, (10,), generation=0)
        assert await network.stage(0).refused(boss, PROGRESS, old) == "stale"
        assert (await network.current(unit)).sequences[0].output_ids == ()


async def test_tokens_beyond_the_limits_change_nothing(net) -> None:
    async with net(judges=()) as network:
        unit = await silent(network)
        boss, pool = network.boss.peer_id, network.orchestrator.pool
        for report in (
            tokens(network, unit, 2, (10,)),
            tokens(network, unit, 2**63, (10,)),
            Progress(
                ref=ref(network, 0),
                tokens=(TokenRun(sequence_id=b"?" * 16, offset=0, ids=(1,)),) * MAX_RUNS,
                finished=(),
            ),
        ):
            await network.stage(0).ask(boss, PROGRESS, report)
            assert (await network.current(unit)).sequences[0].output_ids == ()
        excess = tokens(network, unit, 0, (10,) * 5)
        assert await network.stage(0).refused(boss, PROGRESS, excess) == "bad_request"
        assert (await network.current(unit)).sequences[0].output_ids == ()
        assert pool.members[network.stage(0).peer_id].strikes == 1


async def test_repeated_progress_is_not_counted_and_text_is_not_taken_from_the_worker(net) -> None:
    async with net(judges=()) as network:
        unit = await silent(network)
        boss = network.boss.peer_id
        for _ in range(50):
            await network.stage(0).ask(boss, PROGRESS, tokens(network, unit, 0, (10, 11)))
        assert network.orchestrator.snapshot().tokens == 2
        await network.stage(0).ask(boss, PROGRESS, finished(network, unit, (10, 11, 12, 13)))
        sequence = (await network.current(unit)).sequences[0]
        assert network.orchestrator.text(sequence) == "<0><1><2><3>"


async def test_a_token_outside_the_vocabulary_rests_stage_0(net) -> None:
    async with net(judges=()) as network:
        unit = await silent(network)
        liar = network.stage(0)
        report = tokens(network, unit, 0, (VOCAB,))
        assert await liar.refused(network.boss.peer_id, PROGRESS, report) == "bad_request"
        member = network.orchestrator.pool.members[liar.peer_id]
        assert member.strikes == 1
        assert network.group.state is GroupState.REPAIRING


def evil_claims(network: Any, stage: int, change: Any) -> None:
    """Have a stage answer its claims with `change(claim)`."""
    node = network.stage(stage)
    worker = network.workers[node.peer_id]

    async def on_claim(peer_id: str, request: ClaimRequest) -> ClaimAnswer:
        answer = await worker._receipts.on_claim(peer_id, request)
        claim = StageClaim.from_bytes(answer.claim)
        changed = change(claim)
        return ClaimAnswer(claim=changed if isinstance(changed, bytes) else changed.to_bytes())

    serve(node.network, CLAIM, on_claim)


def resigned(network: Any, signer: int, /, **changes: Any) -> Any:
    """A change of a claim's receipt, truly signed by its stage."""

    def change(claim: StageClaim) -> StageClaim:
        key = network.stage(signer).context.key
        receipt = claim.receipt.model_copy(update=changes)
        signature = sign_digest(key, receipt.digest(DOMAIN))
        return claim.model_copy(update={"receipt": receipt, "receipt_signature": signature})

    return change


CHANGES = {
    "another peer": lambda n: lambda c: c.model_copy(update={"peer_id": n.stage(0).peer_id}),
    "another address": lambda n: lambda c: c.model_copy(update={"address": n.stage(0).address}),
    "no receipt": lambda n: lambda c: c.model_copy(update={"receipt": None}),
    "no countersignature": lambda n: lambda c: c.model_copy(update={"counter_signature": None}),
    "other evidence": lambda n: lambda c: c.model_copy(update={"evidence": ()}),
    "another unit": lambda n: resigned(n, 1, job_id=b"u" * 32),
    "another pool": lambda n: resigned(n, 1, pool_id=POOL + 1),
    "another stage": lambda n: resigned(n, 1, stage=0),
    "another generation": lambda n: resigned(n, 1, seq=99),
    "more units": lambda n: resigned(n, 1, units=10**9),
    "not a claim": lambda n: lambda c: b"\xc1",
    "huge": lambda n: lambda c: bytes(5 * 2**20),
}


@pytest.mark.parametrize("name", CHANGES)
async def test_a_claim_that_is_not_the_stages_own_never_reaches_a_validator(net, name: str) -> None:
    async with net() as network:
        evil_claims(network, 1, CHANGES[name](network))
        honest, liar = network.stage(0).peer_id, network.stage(1).peer_id
        members = network.orchestrator.pool.members
        (unit,) = await network.submit()
        await until(network.orchestrator, lambda: members[liar].strikes > 0)
        assert members[honest].strikes == 0
        assert {m.state for m in members.values() if m.state is MemberState.BANNED} == set()
        assert (await network.current(unit)).state is UnitState.PRODUCED
        assert not (await network.current(unit)).bundle_id
        assert network.group.state is GroupState.REPAIRING


async def test_rows_that_differ_from_the_output_convict_nobody(net) -> None:
    """Stage 0 schedules rows: by sending one too many it would get stage 1 convicted."""
    async with net() as network:
        network.engine(1).says["rows"] = 5
        members = network.orchestrator.pool.members
        await network.submit()
        pool = network.orchestrator.pool
        await until(network.orchestrator, lambda: pool.generation > 2)
        assert [m.strikes for m in members.values()] == [0, 0]
        assert not network.orchestrator.rejections


@pytest.mark.parametrize(("kind", "struck"), [("engine", 1), ("crash", 1), ("downstream", 0)])
async def test_trouble_goes_on_the_account_of_whom_it_is_about(net, kind: str, struck: int) -> None:
    """Its own engine is its own affair; of an edge it may be either end, and two stages alone are
    never told apart."""
    async with net(judges=()) as network:
        liar, orchestrator = network.stage(1), network.orchestrator
        members = orchestrator.pool.members
        for _ in range(3):
            await network.formed()
            stage = network.group.peers.index(liar.peer_id)
            trouble = Trouble(ref=ref(network, stage), kind=kind, reason="so I say")
            await liar.ask(network.boss.peer_id, TROUBLE, trouble)
        assert members[liar.peer_id].strikes == struck
        assert members[network.stage(0).peer_id].strikes == 0
        stale = Trouble(ref=ref(network, stage, generation=1), kind=kind, reason="again")
        assert await liar.refused(network.boss.peer_id, TROUBLE, stale) == "stale"


async def test_a_pair_between_whom_no_edge_comes_up_is_separated_or_told_of(net) -> None:
    """Stage 0's engine cannot connect to the other's; the two are all that there are."""
    async with net(judges=()) as network:
        orchestrator, first = network.orchestrator, network.group.peers[0]
        engine = network.engine(0 if network.stage(0).peer_id == first else 1)
        engine.refuse["ring"] = "downstream"
        before = orchestrator.pool.generation
        broken = Trouble(ref=ref(network, 0), kind="downstream", reason="it broke")
        liar = network.stage(0 if network.stage(0).peer_id == first else 1)
        await liar.ask(network.boss.peer_id, TROUBLE, broken)
        pool = orchestrator.pool
        await until(orchestrator, lambda: "do not connect to one another" in pool.unplannable)
        assert pool.generation == before + 2
        assert "ring fails in this test" in pool.unplannable


async def test_a_ring_that_answers_pings_but_brings_no_tokens_is_rebuilt(net) -> None:
    policy = Policy(stages=2, stall_timeout=0.2)
    async with net(judges=(), policy=policy) as network:
        network.engine(0).generate = False
        (unit,) = await network.submit()
        orchestrator = network.orchestrator
        await until(orchestrator, lambda: orchestrator.pool.generation > 1)
        network.engine(0).generate = network.engine(1).generate = True
        await network.reached(unit, UnitState.PRODUCED)


def verdict_of(unit: Any, network: Any, key: bytes, **changes: Any) -> VerdictNotice:
    stages = tuple(
        StageVerdict(stage=i, peer_id=network.stage(i).peer_id, status="honest") for i in (0, 1)
    )
    fields = {
        "unit_id": unit.unit_id,
        "bundle_id": unit.bundle_id or bytes(32),
        "accepted": True,
        "stages": stages,
        "figures": {},
    }
    signed = SignedVerdict.sign(Verdict.model_validate(fields | changes), key)
    return VerdictNotice(verdict=signed.to_bytes())


async def verifying(network: Any) -> Any:
    """A unit whose bundle the validator holds, with its engine taking for ever."""
    network.judge_engines[0].answers_after = 3600.0
    (unit,) = await network.submit()
    await network.reached(unit, UnitState.VERIFYING)
    await eventually(lambda: network.validator.queued)
    return await network.current(unit)


async def test_only_a_validator_that_was_asked_may_judge(net) -> None:
    async with net() as network:
        unit = await verifying(network)
        boss, judge = network.boss.peer_id, network.judge
        forged = verdict_of(unit, network, key_of(9))
        assert await network.mallory.refused(boss, VERDICT, forged) == "not_asked"
        assert await judge.refused(boss, VERDICT, forged) == "bad_verdict"
        broken = VerdictNotice(verdict=forged.verdict[:-1])
        assert await judge.refused(boss, VERDICT, broken) == "bad_verdict"
        nan = verdict_of(unit, network, judge.context.key, figures={"tokens": float("nan")})
        assert await judge.refused(boss, VERDICT, nan) == "bad_verdict"
        assert (await network.current(unit)).state is UnitState.VERIFYING
        network.ledger.weights.clear()
        own = verdict_of(unit, network, judge.context.key)
        assert await judge.refused(boss, VERDICT, own) == "not_a_validator"


async def test_rejections_of_other_bundles_leave_no_trace(net) -> None:
    async with net() as network:
        unit = await verifying(network)
        for number in range(20):
            notice = verdict_of(
                unit,
                network,
                network.judge.context.key,
                bundle_id=bytes([number]) * 32,
                accepted=False,
                reason="made up",
            )
            await network.judge.ask(network.boss.peer_id, VERDICT, notice)
        assert network.orchestrator.rejections == []
        assert await network.boss.context.journal.replay(UnitRejected) == []
        assert (await network.current(unit)).state is UnitState.VERIFYING


async def test_a_settlement_is_believed_only_from_the_chain_and_once_it_is_final(net) -> None:
    async with net() as network:
        network.ledger.window = 3600
        (unit,) = await network.submit()
        await network.reached(unit, UnitState.ACCEPTED)
        history = network.boss.follower.history(POOL)
        await eventually(lambda: history.newest is not None and history.newest.epoch is not None)
        await network.orchestrator.feed(Tick())
        assert (await network.current(unit)).state is UnitState.ACCEPTED  # it may yet be disputed
        assert (await network.current(unit)).epoch == 0
        network.ledger.void(POOL)
        await eventually(lambda: network.ledger.posts == 2)
        assert (await network.current(unit)).state is UnitState.ACCEPTED
        network.ledger.window = 0
        network.ledger.void(POOL)
        settled = await network.reached(unit, UnitState.SETTLED)
        assert settled.epoch == 1
        assert settled.transaction == network.boss.follower.history(POOL).newest.transaction
        assert network.ledger.posts == 3
