"""The small evaluation on a tiny model, and the parts that turn records into figures."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from eval_verification import COARSE, evaluate_small, plan
from evaluation.analysis import Evaluation, Rate, roc, sequences_needed, severity, verdict
from evaluation.attacks import MALFORMED_KINDS, malformed_proofs
from evaluation.collect import JOBS, Collector, Setup
from evaluation.plot import roc_svg
from evaluation.records import Block, Journal, Record
from evaluation.report import as_json, described, profile_of, roc_plot, section, with_section
from evaluation.tables import missed

from node.calibration.prompts import prompt_texts
from pipeline.models.prepared import PreparedModel
from pipeline.models.store import prepare
from proofs.thresholds.calibration import scaled
from proofs.thresholds.profiles import Profile
from proofs.toploc import build_row_proofs, measure_rows
from tests.pipeline.tiny_models import save_tiny


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> PreparedModel:
    root = tmp_path_factory.mktemp("evaluation")
    (root / "source").mkdir()
    return prepare(str(save_tiny("llama", root / "source")), root / "store")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("journal")


@pytest.fixture(scope="module")
def evaluation(model: PreparedModel, folder: Path) -> Evaluation:
    return evaluate_small(model, folder, tokens=40)


def test_coarse_attacks_are_always_rejected_and_honest_work_is_not(evaluation: Evaluation) -> None:
    for name in COARSE:
        result = evaluation.result(name)
        assert result.rejected.count == result.rejected.total == 8, name
    assert evaluation.result("honest").rejected.count == 0
    assert evaluation.result("honest").chunks.total == 8 * 3 * 2
    assert evaluation.calibrated_on == 8


def test_each_attack_is_caught_by_the_test_that_is_meant_for_it(evaluation: Evaluation) -> None:
    caught = {name: set(evaluation.result(name).caught) for name in COARSE}
    assert caught["malformed"] >= {"form"}
    assert caught["wrong-seed"] == caught["spoofed-prefill"] == {"sampling"}
    for name in ("replayed-proofs", "blind-random", "blind-constant", "negated-rows"):
        assert caught[name] == {"chunk"}


def test_a_second_run_measures_nothing_again(
    evaluation: Evaluation, model: PreparedModel, folder: Path
) -> None:
    journal = folder / "small.jsonl"
    before = journal.read_bytes()
    journal.write_bytes(before + before[:100])  # as if it had been cut off
    collector = Collector(Setup(model, (2, 4, 6), tokens=40, batch=8), Journal(journal))
    planned = plan(["honest", "int4-weights"], 16, 8, 8)
    assert not any(collector.collect(JOBS[name], prompts) for name, prompts in planned)
    journal.write_bytes(before)


def test_figures_become_a_document_a_plot_a_profile_and_json(
    evaluation: Evaluation, model: PreparedModel
) -> None:
    setup = json.loads(json.dumps(described(Setup(model, (2, 4, 6)))))
    profile = profile_of(evaluation, setup)
    assert Profile.from_toml(profile.to_toml()) == profile
    assert profile.model_id == model.model_id
    text = section(evaluation, profile)
    assert "| wrong-seed | 8 of 8 |" in text
    assert f"`{profile.profile_id.hex()[:12]}`" in text
    found = json.loads(json.dumps(as_json(evaluation, profile)))
    assert {one["condition"] for one in found["conditions"]} >= {*COARSE, "honest"}
    document = "a\n<!-- x -->\nold\n<!-- /x -->\nb\n"
    assert with_section(document, "x", "new") == "a\n<!-- x -->\n\nnew\n\n<!-- /x -->\nb\n"
    with pytest.raises(ValueError):
        with_section(document, "y", "new")
    ElementTree.fromstring(roc_plot("tiny", evaluation))


def test_severity_is_where_a_record_just_passes(evaluation: Evaluation, folder: Path) -> None:
    thresholds = evaluation.calibration.thresholds
    blocks = list(Journal(folder / "small.jsonl").blocks())
    records = [r for block in blocks for r in block.records if r.condition == "temperature+0.1"]
    for record in records:
        at = severity(record, thresholds)
        assert not verdict(record, scaled(thresholds, at * 1.001))
        assert verdict(record, scaled(thresholds, at / 1.05))


def test_a_bar_that_is_missed_is_said_to_be(evaluation: Evaluation) -> None:
    assert not any("wrong-seed" in line for line in missed(evaluation))
    results = tuple(
        replace(one, rejected=Rate(4, 8)) if one.condition == "wrong-seed" else one
        for one in evaluation.results
    )
    lines = missed(replace(evaluation, results=results))
    assert any("`wrong-seed`: 0.500, 0.490 short; 7 sequences" in line for line in lines)


def test_rates_have_exact_bounds() -> None:
    assert Rate(0, 300).upper == pytest.approx(3 / 300, rel=0.01)
    assert Rate(128, 128).lower == pytest.approx(0.05 ** (1 / 128))
    assert Rate(0, 5).lower == pytest.approx(0.0, abs=1e-9)
    assert math.isnan(Rate(0, 0).value)
    assert [sequences_needed(rate) for rate in (0.0, 0.5, 0.9, 1.0)] == [None, 7, 2, 1]


def test_roc_goes_from_none_to_all() -> None:
    curve = roc([0.1, 0.2, 0.5], [0.4, 0.9])
    assert curve == [(0, 0.5), (1 / 3, 0.5), (1 / 3, 1), (2 / 3, 1), (1, 1)]
    svg = roc_svg("a < b", {"x & y": curve}, 0.01)
    assert "polyline" in ElementTree.tostring(ElementTree.fromstring(svg)).decode()


def test_every_prefix_of_the_plan_has_honest_work_and_attacks_use_test_prompts() -> None:
    planned = plan(["honest", "int8-weights", "honest-plain", "mixed-10"], 40, 8, 8)
    assert [name for name, _ in planned] == [
        "honest", "honest", "int8-weights", "honest-plain", "honest", "mixed-10", "honest", "honest"
    ]  # fmt: skip
    numbers = [n for name, block in planned if name in ("int8-weights", "mixed-10") for n in block]
    assert all(number % 2 for number in numbers)
    assert sorted(n for name, b in planned if name == "honest" for n in b) == list(range(40))


def test_prompts_are_all_different() -> None:
    texts = prompt_texts(5600)
    assert len(set(texts)) == 5600
    assert prompt_texts(3, 100) == texts[100:103]
    with pytest.raises(ValueError):
        prompt_texts(1, 5600)


def test_every_malformed_kind_is_malformed() -> None:
    import torch

    rows = torch.randn(70, 48, generator=torch.Generator().manual_seed(1)).to(torch.bfloat16)
    honest = tuple(build_row_proofs(rows))
    for kind in range(MALFORMED_KINDS):
        (broken,) = malformed_proofs([honest], kind)
        assert any(result.malformed for result in measure_rows(rows, broken)), kind


def test_a_journal_keeps_records_as_they_were(folder: Path, evaluation: Evaluation) -> None:
    blocks = list(Journal(folder / "small.jsonl").blocks())
    copy = Journal(folder / "copy.jsonl")
    for block in blocks:
        copy.append(block)
    assert list(Journal(copy.path).blocks()) == blocks
    assert all(isinstance(block, Block) for block in blocks)
    assert all(isinstance(record, Record) for block in blocks for record in block.records)
