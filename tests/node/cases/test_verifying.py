"""Case files: what they bind, and what a damaged or lying one comes to."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from node.cases.verifying import check_replay, check_words, read_case, thresholds_of
from node.cli import run_cli
from node.config.profiles import read_profile, shipped_profiles
from node.errors import InputError
from pipeline.engine.control.replay_messages import Replay, Replayed, ReplayedSequence
from proofs.encoding.signing import address_of
from proofs.evidence.bundle import UnitBundle
from proofs.thresholds.builtin import PUBLISHED
from proofs.thresholds.measures import ChunkMeasure, RevealedRowsCheck, SequenceMeasure
from proofs.verdict.blame import Inquiry
from proofs.verdict.casefile import AskedRows, CaseFile
from proofs.verdict.exceedances import RejectConvictLimits
from proofs.verdict.judge import judge
from proofs.verdict.message import SignedVerdict, Verdict
from tests.proofs.units import (
    DOMAIN,
    OFF,
    bundle,
    evidence,
    measures,
    stage_key,
    with_evidence,
)

KEY = b"\x33" * 32
ROWS = b"the rows that stage 1 received"


@pytest.fixture(autouse=True)
def addresses(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The addresses of `units`' made-up peer ids."""
    known = {f"peer{stage}": address_of(stage_key(stage)) for stage in range(3)}
    monkeypatch.setattr("node.cases.verifying.address_of_peer", lambda peer: known.get(peer, ""))
    return known


def unit_with_rows() -> UnitBundle:
    """Stage 1 received `ROWS` of sequence 1, as stage 0 says it sent."""
    digest = sha256(ROWS).digest()
    unit = bundle()
    for stage, name in ((0, "sent"), (1, "received")):
        first, second = evidence(stage, unit.sequences)
        changed = second.model_copy(update={name: digest})
        unit = with_evidence(unit, stage, (first, changed))
    return unit


UNIT = unit_with_rows()
INQUIRY = Inquiry(1, 1, sha256(ROWS).digest())


LIMITS = RejectConvictLimits.of(PUBLISHED, PUBLISHED)


def verdict(spoilt: dict[int, ChunkMeasure] | None, silent: bool = False) -> Verdict:
    seen = None if silent else RevealedRowsCheck(error=0.0, chunks=(OFF,))
    found = judge(UNIT, measures(UNIT, spoilt), LIMITS, DOMAIN, {INQUIRY: seen})
    assert isinstance(found, Verdict)
    return found


def case(signed: Verdict, **changes: Any) -> CaseFile:
    fields: dict[str, Any] = {
        "chain_id": DOMAIN.chain_id,
        "contract": DOMAIN.verifying_contract,
        "bundle": UNIT.to_bytes(),
        "verdicts": (SignedVerdict.sign(signed, KEY).to_bytes(),),
        "thresholds": "published",
    }
    return CaseFile.model_validate(fields | changes)


class Replayer:
    """Measures as told, and revealed rows as `error`."""

    def __init__(self, found: list[SequenceMeasure], error: float) -> None:
        self.found, self.error, self.seen = found, error, b""

    def replay(self, request: Replay) -> Replayed:
        revealed = [rows for s in request.sequences for rows in s.revealed]
        if not revealed:
            items = [ReplayedSequence(measure=each) for each in self.found]
            return Replayed(items=tuple(items), seconds=0.1)
        self.seen = Path(revealed[0].path).read_bytes()
        check = RevealedRowsCheck(error=self.error, chunks=(OFF,))
        item = ReplayedSequence(measure=self.found[0], revealed=(check,))
        return Replayed(items=(item,), seconds=0.1)


def checked(file: CaseFile, spoilt: dict[int, ChunkMeasure] | None, error: float = 0.0) -> Any:
    report = check_words(file)
    replayer = Replayer(measures(UNIT, spoilt), error)
    check_replay(file, report, LIMITS, Path("model"), "cpu", replayer)  # type: ignore[arg-type]
    return report, replayer


def test_a_case_comes_back_from_its_file(tmp_path: Path) -> None:
    path = tmp_path / "one.prime"
    file = case(verdict(None), asked=(AskedRows(stage=1, index=1, digest=INQUIRY.digest),))
    path.write_bytes(file.to_bytes())
    assert read_case(path) == file
    assert thresholds_of(file) == ("published", PUBLISHED)
    path.write_bytes(file.to_bytes()[:-3])
    with pytest.raises(InputError, match="no case file"):
        read_case(path)
    with pytest.raises(InputError, match="cannot read"):
        read_case(tmp_path / "none.prime")


def test_an_honest_accepted_case_holds() -> None:
    report, _ = checked(case(verdict(None)), None)
    assert report.held
    assert report.verdict.accepted


def test_a_rejected_case_holds_with_the_rows_that_it_rests_on() -> None:
    asked = AskedRows(stage=1, index=1, digest=INQUIRY.digest, rows=ROWS)
    report, replayer = checked(case(verdict({1: OFF}), asked=(asked,)), {1: OFF})
    assert report.held
    assert replayer.seen == ROWS
    assert report.verdict.first_faulty == 1


def test_rows_that_are_off_here_move_the_blame_and_the_verdict_no_longer_agrees() -> None:
    asked = AskedRows(stage=1, index=1, digest=INQUIRY.digest, rows=ROWS)
    report, _ = checked(case(verdict({1: OFF}), asked=(asked,)), {1: OFF}, error=9.0)
    assert not report.held
    assert report.verdict.first_faulty == 0


@pytest.mark.parametrize(
    ("rows", "held"), [(b"", None), (b"other rows", False)], ids=["none", "other"]
)
def test_rows_that_are_not_there_are_not_believed(rows: bytes, held: bool | None) -> None:
    asked = AskedRows(stage=1, index=1, digest=INQUIRY.digest, rows=rows)
    report, _ = checked(case(verdict({1: OFF}, silent=True), asked=(asked,)), {1: OFF})
    assert not report.held
    assert [c.held for c in report.checks if c.name == "rows of stage 1"] == [held]
    nothing, _ = checked(case(verdict({1: OFF})), {1: OFF})
    assert not nothing.held
    assert nothing.verdict is None


def test_a_verdict_that_does_not_follow_is_told() -> None:
    report, _ = checked(case(verdict(None)), {0: OFF})
    assert not report.held
    assert report.verdict.first_faulty == 0


def test_a_peer_id_of_somebody_else_is_told(addresses: dict[str, str]) -> None:
    addresses["peer1"] = addresses["peer2"]
    report = check_words(case(verdict(None)))
    assert not report.held
    assert "another address" in report.checks[0].detail


def test_forged_words_are_told() -> None:
    good = SignedVerdict.sign(verdict(None), KEY)
    other = good.model_copy(update={"validator": "0x" + "0" * 40})
    elsewhere = SignedVerdict.sign(verdict(None).model_copy(update={"bundle_id": bytes(32)}), KEY)
    for forged in (other, elsewhere):
        report = check_words(case(verdict(None), verdicts=(forged.to_bytes(),)))
        assert not report.held
    assert not check_words(case(verdict(None), chain_id=1)).held  # signed for another chain
    for broken in ({"bundle": b"x"}, {"verdicts": (b"x",)}):
        with pytest.raises(InputError, match="damaged"):
            check_words(case(verdict(None), **broken))
    with pytest.raises(InputError, match="thresholds"):
        thresholds_of(case(verdict(None), thresholds="none"))
    with pytest.raises(InputError, match="thresholds"):
        thresholds_of(case(verdict(None), profile=b"x"))


def test_a_profile_is_named_by_its_id_and_only_good_for_its_model() -> None:
    profile = read_profile(shipped_profiles()["smollm2-fp32"])
    with pytest.raises(InputError, match="the profile is of another model"):
        thresholds_of(case(verdict(None), profile=profile.to_bytes()))
    own = profile.model_copy(update={"model_id": UNIT.model_id})
    name, thresholds = thresholds_of(case(verdict(None), profile=own.to_bytes()))
    assert name == f"profile {own.profile_id.hex()[:12]}"
    assert thresholds == own.thresholds


def test_many_files_are_checked_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [tmp_path / f"{name}.prime" for name in "ab"]
    for path in paths:
        path.write_bytes(case(verdict(None)).to_bytes())
    arguments = ["verify", *map(str, paths), "--no-replay"]
    assert run_cli([*arguments, "--json"]) == 1  # what was not checked does not hold
    reports = json.loads(capsys.readouterr().out)
    assert [report["bundle_id"] for report in reports] == [UNIT.content_id.hex()] * 2
    assert run_cli(arguments) == 1
    shown = capsys.readouterr().out
    assert all(str(path) in shown for path in paths)
    assert run_cli(["verify"]) == 2
