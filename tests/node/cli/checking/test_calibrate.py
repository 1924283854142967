"""`prime-node calibrate` on a tiny model: what it writes, resumes, and refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from node.cli import run_cli
from node.config.profiles import (
    UnknownProfile,
    load_profile,
    load_thresholds,
    profiles_folder,
    shipped_profiles,
)
from node.errors import InputError
from pipeline.models.prepared import PreparedModel
from pipeline.models.store import prepare
from proofs.thresholds.builtin import FP32
from proofs.thresholds.profiles import Profile
from tests.node.cli.conftest import Cli, Outcome
from tests.pipeline.tiny_models import save_tiny


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> PreparedModel:
    root = tmp_path_factory.mktemp("calibrate")
    (root / "source").mkdir()
    return prepare(str(save_tiny("llama", root / "source")), root / "store")


@pytest.fixture
def calibrate(cli: Cli, model: PreparedModel, tmp_path: Path) -> Cli:
    def run(*arguments: str) -> Outcome:
        fixed = ("--model", str(model.path), "--data-dir", str(tmp_path), "--tokens", "40")
        return cli("calibrate", *fixed, "--batch", "3", *arguments)

    return run


def test_it_writes_a_profile_that_can_be_found_again(
    calibrate: Cli, cli: Cli, model: PreparedModel, tmp_path: Path
) -> None:
    done = calibrate("--sequences", "6", "--stages", "3", "--fpr", "0.1", "--json")
    assert done.code == 0, done.err
    told = json.loads(done.out)
    path = Path(told["path"])
    assert path.parent == profiles_folder(tmp_path)
    profile = Profile.from_toml(path.read_text())
    assert profile.profile_id.hex() == told["profile_id"]
    assert profile.model_id == model.model_id
    assert (profile.sequences, profile.stages, profile.tokens) == (6, 3, 240)
    assert profile.chunks == 6 * 3 * 2
    assert profile.supported_fpr == pytest.approx(1 - 0.05 ** (1 / 3))
    assert not told["is_supported"]
    assert load_profile(told["profile_id"][:12], tmp_path) == profile
    assert load_thresholds(str(path), tmp_path) == profile.thresholds
    shown = cli("profile", "show", told["profile_id"], "--data-dir", str(tmp_path))
    assert shown.code == 0
    assert "needs more sequences" in shown.out
    assert told["profile_id"] in shown.out
    listed = json.loads(cli("profile", "list", "--data-dir", str(tmp_path), "--json").out)
    assert told["profile_id"] in {one["profile_id"] for one in listed}


def test_an_interrupted_run_goes_on_and_gives_the_same_profile(
    calibrate: Cli, tmp_path: Path
) -> None:
    whole, part = tmp_path / "whole.toml", tmp_path / "part.toml"
    assert calibrate("--sequences", "7", "--stages", "2", "--output", str(whole)).code == 0
    assert calibrate("--sequences", "4", "--stages", "2", "--output", str(part)).code == 0
    journal = part.with_suffix(".jsonl")
    kept = journal.read_text()
    journal.write_text(kept + kept.splitlines()[1][:50])  # cut off in the middle of a line
    assert calibrate("--sequences", "7", "--stages", "2", "--output", str(part)).code == 0
    assert journal.read_text().startswith(kept)
    assert len(journal.read_text().splitlines()) == 8
    again = journal.read_text()
    assert calibrate("--sequences", "7", "--stages", "2", "--output", str(part)).code == 0
    assert journal.read_text() == again
    one, other = (Profile.from_toml(path.read_text()) for path in (whole, part))
    assert one.sequences == other.sequences == 7
    assert other.limits.model_copy(update={"rows_error": 0.0, "surprise": 0.0}) == (
        one.limits.model_copy(update={"rows_error": 0.0, "surprise": 0.0})
    )


def test_a_journal_of_something_else_or_a_damaged_one_is_refused(
    calibrate: Cli, tmp_path: Path
) -> None:
    path = tmp_path / "p.toml"
    assert calibrate("--sequences", "2", "--output", str(path)).code == 0
    refused = calibrate("--sequences", "2", "--stages", "2", "--output", str(path))
    assert (refused.code, "something else" in refused.err) == (3, True)
    journal = path.with_suffix(".jsonl")
    lines = journal.read_text().splitlines()
    for bad in ("[1]", "{}", '{"sequence": 0, "measure": 3, "rows_error": 0}', "[" * 9999):
        journal.write_text("\n".join([lines[0], bad]) + "\n")
        refused = calibrate("--sequences", "2", "--output", str(path))
        assert (refused.code, "damaged" in refused.err) == (3, True), refused.err


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("--fpr", "1.5"), 3, "between 0 and 1"),
        (("--stages", "7"), 3, "1 to 6"),
        (("--device", "cuda:99"), 1, "cuda:99"),
        (("--sequences", "1"), 2, "--sequences"),
    ],
)
def test_bad_options_are_one_line(
    calibrate: Cli, arguments: tuple[str, ...], code: int, said: str
) -> None:
    refused = calibrate(*arguments)
    assert refused.code == code, refused.err
    assert said in refused.err
    assert len(refused.err.splitlines()) == 1


def test_names_of_thresholds_and_unknown_profiles(tmp_path: Path) -> None:
    assert load_thresholds("fp32", tmp_path) == FP32
    for name in ("nonesuch", "0" * 64, "", "ab"):
        with pytest.raises(UnknownProfile):
            load_profile(name, tmp_path)
    broken = tmp_path / "broken.toml"
    broken.write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match=r"broken\.toml"):
        load_profile(str(broken), tmp_path)


def test_the_profiles_that_ship_are_well_formed_and_known_by_id(tmp_path: Path) -> None:
    shipped = {name: load_profile(name, tmp_path) for name in shipped_profiles()}
    assert {"smollm2-fp32", "smollm2-bf16"} <= shipped.keys()
    for name, profile in shipped.items():
        assert load_profile(profile.profile_id.hex(), tmp_path) == profile, name
        assert profile.sequences >= 200
        assert profile.limits.rows_error > 0.0
    assert shipped["smollm2-fp32"].thresholds.mant_err_mean == FP32.mant_err_mean


def test_help_says_how_many_sequences_a_rate_needs(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli(["calibrate", "--help"]) == 0
    assert "6/R" in capsys.readouterr().out
