"""A judge replays what a plan chose, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import structlog

from node.config.hardware import Device
from node.roles.validator.judging.engine import ReplayEngine
from node.roles.validator.judging.errors import CannotJudge, DamagedWeights
from node.roles.validator.judging.judge import Judge
from node.roles.validator.judging.limits import LimitsByPool, NoPoolThresholds
from node.roles.validator.judging.models import Models
from node.roles.validator.judging.noise_check import NoiseCheck, NoiseFault
from node.roles.validator.judging.plan import JudgingPlan
from pipeline.engine.control.operations import REPLAY, Operation
from pipeline.engine.control.replay_messages import Replay, Replayed, ReplayedSequence
from pipeline.engine.errors import EngineError
from pipeline.models.errors import InvalidModel
from pipeline.models.manifest import Manifest
from pipeline.models.prepared import PreparedModel
from proofs.evidence.bundle import UnitBundle
from tests.proofs.units import DOMAIN, NULL, bundle, changed, measures, sequence


class Engine:
    """Measures honest work, but for the sequence `spoilt`."""

    def __init__(self, made: UnitBundle, spoilt: int = -1) -> None:
        self.asked: list[tuple[bytes, ...]] = []
        self.again: list[bool] = []
        self.extra = False
        self.rotten = False
        """The weights in memory are wrong until they are loaded anew."""
        self.damaged = False
        """And so are the files."""
        self._good = {m.sequence_id: ReplayedSequence(measure=m) for m in measures(made)}
        found = measures(made)
        if spoilt >= 0:
            bad = tuple((NULL,) * len(chunks) for chunks in found[spoilt].stages)
            found[spoilt] = found[spoilt].model_copy(update={"stages": bad})
        self._items = {m.sequence_id: ReplayedSequence(measure=m) for m in found}

    async def request(
        self, operation: Operation[Replay, Replayed], body: Replay, timeout: float
    ) -> Replayed:
        assert operation is REPLAY
        ids = tuple(item.sequence.sequence_id for item in body.sequences)
        self.asked.append(ids)
        self.again.append(body.verify_again)
        if body.verify_again and self.damaged:
            raise EngineError("damaged", "model/weights is damaged: prepare it again")
        if body.verify_again and self.rotten:
            self.rotten, self._items = False, self._good
        items = tuple(self._items[sequence_id] for sequence_id in ids)
        return Replayed(items=items + items[:1] if self.extra else items, seconds=1.0)


class NoRows:
    """Nobody is asked for rows here."""

    def path(self, digest: bytes) -> Path:
        raise AssertionError("no rows are here")

    async def get(self, peer_id: str, digest: bytes, limit: int) -> Path | None:
        raise AssertionError("no stage was to be asked")


class NoContents:
    """Nobody has any profile."""

    async def fetch(self, digest: bytes) -> bytes | None:
        return None


JudgeWith = Callable[[Engine], Judge]


def make_judge(engine: Engine, model: PreparedModel, thresholds: str = "fp32") -> Judge:
    """A judge with this engine, this model and these thresholds."""
    log = structlog.get_logger("test")
    replays = ReplayEngine(engine, Device("cpu", "test", 1 << 30), log)  # type: ignore[arg-type]
    limits = LimitsByPool(NoPoolThresholds(), NoContents(), thresholds, model.path, log)
    models = Models(lambda _model_id: model, lambda: 0.0)
    return Judge(replays, models, limits, NoRows(), DOMAIN, log)


@pytest.fixture
def judge_with(tmp_path: Path) -> JudgeWith:
    """A judge with this engine, whose model is only named."""
    manifest = Manifest.model_construct(layers=30, hidden_size=8, dtype="float32")
    return lambda engine: make_judge(engine, PreparedModel(tmp_path, manifest))


MADE = bundle(3, [sequence(n, 10) for n in range(1, 6)])


def nobody() -> None:
    raise AssertionError("no stage was to be asked")


async def test_the_chosen_alone_are_replayed_and_named(judge_with: JudgeWith) -> None:
    engine = Engine(MADE)
    ruling = await judge_with(engine).rule(MADE, JudgingPlan((1, 3)), nobody)
    assert engine.asked == [(bytes([2]) * 16, bytes([4]) * 16)]
    assert ruling.verdict.accepted
    assert ruling.verdict.replayed == (1, 3)


async def test_a_fault_is_found_where_one_looks(judge_with: JudgeWith) -> None:
    for chosen, accepted in (((0, 1, 2, 3, 4), False), ((2,), False), ((0, 4), True)):
        ruling = await judge_with(Engine(MADE, spoilt=2)).rule(MADE, JudgingPlan(chosen), nobody)
        assert ruling.verdict.accepted is accepted


async def test_nothing_chosen_asks_no_engine_and_still_checks_words(judge_with: JudgeWith) -> None:
    engine = Engine(MADE)
    ruling = await judge_with(engine).rule(MADE, JudgingPlan(()), nobody)
    assert engine.asked == []
    assert ruling.verdict.accepted
    longer = changed(MADE.sequences[0], max_tokens=5)
    told = MADE.model_copy(update={"sequences": (longer, *MADE.sequences[1:])})
    assert not (await judge_with(engine).rule(told, JudgingPlan(()), nobody)).verdict.accepted


async def test_false_noise_rejects_without_a_replay(judge_with: JudgeWith) -> None:
    engine = Engine(MADE)
    plan = JudgingPlan((), NoiseCheck(NoiseFault.OTHER_HASH, 3))
    verdict = (await judge_with(engine).rule(MADE, plan, nobody)).verdict
    assert (engine.asked, verdict.accepted, verdict.first_faulty) == ([], False, None)
    assert verdict.reason == f"sequence 3: {NoiseFault.OTHER_HASH.value}"


async def test_noise_that_cannot_be_looked_up_gives_no_verdict(judge_with: JudgeWith) -> None:
    plan = JudgingPlan((), NoiseCheck(unknown="block 7 is not deep enough yet"))
    with pytest.raises(CannotJudge, match="block 7"):
        await judge_with(Engine(MADE)).rule(MADE, plan, nobody)


async def test_nobody_is_blamed_by_weights_that_rotted_in_memory(judge_with: JudgeWith) -> None:
    engine = Engine(MADE, spoilt=2)
    engine.rotten = True
    ruling = await judge_with(engine).rule(MADE, JudgingPlan((1, 2)), nobody)
    assert ruling.verdict.accepted
    assert engine.again == [False, True]


async def test_weights_are_verified_again_once_an_hour_at_most(judge_with: JudgeWith) -> None:
    engine, plan = Engine(MADE, spoilt=2), JudgingPlan((1, 2))
    judge = judge_with(engine)
    for _ in range(3):
        assert (await judge.rule(MADE, plan, nobody)).verdict.first_faulty == 0
    assert engine.again == [False, True, False, False]
    assert (await judge.rule(MADE, JudgingPlan((1,)), nobody)).verdict.accepted
    judge._engine._now = lambda: 1e9
    await judge.rule(MADE, plan, nobody)
    assert engine.again[-2:] == [False, True]


async def test_damaged_files_judge_nobody_and_are_not_asked_for_again(
    judge_with: JudgeWith,
) -> None:
    engine = Engine(MADE, spoilt=2)
    engine.damaged = True
    judge = judge_with(engine)
    with pytest.raises(DamagedWeights, match="weights is damaged"):
        await judge.rule(MADE, JudgingPlan((2,)), nobody)
    assert len(engine.asked) == 2
    with pytest.raises(CannotJudge, match="weights is damaged"):
        await judge.rule(MADE, JudgingPlan((2,)), nobody)
    assert len(engine.asked) == 2
    with pytest.raises(InvalidModel):
        judge._models.find(MADE.model_id)


async def test_words_are_judged_before_any_model_is_asked(judge_with: JudgeWith) -> None:
    (first, *others), blank = MADE.stages, {"receipt_signature": bytes(65)}
    told = MADE.model_copy(update={"stages": (first.model_copy(update=blank), *others)})
    engine = Engine(MADE)
    verdict = (await judge_with(engine).rule(told, JudgingPlan((0,)), nobody)).verdict
    assert (engine.asked, verdict.accepted, verdict.first_faulty) == ([], False, None)


async def test_an_engine_that_measures_too_much_is_not_believed(judge_with: JudgeWith) -> None:
    engine = Engine(MADE)
    engine.extra = True
    with pytest.raises(CannotJudge, match="other sequences"):
        await judge_with(engine).rule(MADE, JudgingPlan((1, 3)), nobody)
