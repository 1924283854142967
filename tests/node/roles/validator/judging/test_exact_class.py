"""A pool that demands an exact kernel class is judged in that class, or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from node.roles.validator.judging.errors import CannotJudge
from node.roles.validator.judging.judge import Judge
from node.roles.validator.judging.plan import JudgingPlan
from pipeline.engine.control.operations import Operation
from pipeline.engine.control.replay_messages import Replay, Replayed, ReplayedSequence
from pipeline.models.manifest import Manifest
from pipeline.models.prepared import PreparedModel
from tests.node.roles.validator.judging.test_judge import MADE, Engine, make_judge, nobody
from tests.proofs.verdict.test_exact import NAME, replayed, stated

STATED = stated(MADE, [NAME] * 3)
OTHER = "cuda-bf16-torch-sm90-torch2.13"


class ExactEngine(Engine):
    """Replays in `kernel_class`; the first stage's rows of sequence `differs` are other ones."""

    def __init__(self, kernel_class: str, differs: int = -1) -> None:
        super().__init__(STATED)
        self._class = kernel_class
        found = replayed(STATED)
        if differs >= 0:
            sent = (bytes(32), *found[differs].sent[1:])
            found[differs] = found[differs].model_copy(update={"sent": sent})
        self._items = {m.sequence_id: ReplayedSequence(measure=m) for m in found}

    async def request(
        self, operation: Operation[Replay, Replayed], body: Replay, timeout: float
    ) -> Replayed:
        answer = await super().request(operation, body, timeout)
        named = {"kernel_class": self._class, "exact": self._class == NAME}
        return answer.model_copy(update=named)


def judge_in(folder: Path, engine: Engine, thresholds: str) -> Judge:
    manifest = Manifest.model_construct(layers=30, hidden_size=8, dtype="float32")
    return make_judge(engine, PreparedModel(folder, manifest), thresholds)


async def test_equal_work_is_accepted_and_one_row_convicts(tmp_path: Path) -> None:
    for chosen, differs, faulty in (((0, 3), -1, None), ((0, 3), 3, 0), ((0, 1), 3, None)):
        judge = judge_in(tmp_path, ExactEngine(NAME, differs), f"exact:{NAME}")
        ruling = await judge.rule(STATED, JudgingPlan(chosen), nobody)
        assert ruling.verdict.accepted is (faulty is None)
        assert ruling.verdict.first_faulty == faulty
        assert ruling.limits == f"exact:{NAME}"


async def test_another_class_is_no_reason_to_judge(tmp_path: Path) -> None:
    judge = judge_in(tmp_path, ExactEngine(OTHER), f"exact:{NAME}")
    with pytest.raises(CannotJudge, match=f"computes in {OTHER}, the pool demands {NAME}"):
        await judge.rule(STATED, JudgingPlan((0,)), nobody)


async def test_stages_of_another_class_are_not_taken_and_not_blamed(tmp_path: Path) -> None:
    for chosen in ((), (0,)):
        judge = judge_in(tmp_path, ExactEngine(NAME), f"exact:{NAME}")
        verdict = (await judge.rule(MADE, JudgingPlan(chosen), nobody)).verdict
        assert (verdict.accepted, verdict.first_faulty) == (False, None)
        assert "states no kernel class" in verdict.reason


async def test_who_shares_a_class_is_compared_though_no_pool_demands_it(tmp_path: Path) -> None:
    judge = judge_in(tmp_path, ExactEngine(NAME, differs=0), "fp32")
    assert (await judge.rule(STATED, JudgingPlan((0,)), nobody)).verdict.first_faulty == 0
    judge = judge_in(tmp_path, ExactEngine(NAME, differs=0), "fp32")
    assert (await judge.rule(MADE, JudgingPlan((0,)), nobody)).verdict.accepted
