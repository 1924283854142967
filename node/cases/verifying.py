"""Checking a case file: everything a verdict rests on, done again on this machine.

In order: the signatures, the statements, then a replay over the whole model with this machine's own
engine code, the rows that were revealed, and the verdict that follows. A verdict in the file holds
if the check reaches the same one: accepted or not, and whom it blames.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from node.errors import InputError
from node.roles.validator.judging.errors import CannotJudge
from node.roles.validator.judging.replay import replay_request, rows_request, shown_by
from node.roles.validator.judging.texts import Texts, has_stops
from node.wire.peer_addresses import address_of_peer
from pipeline.models.errors import ModelError
from pipeline.models.prepared import open_folder
from proofs.errors import ProofError
from proofs.evidence.bundle import UnitBundle, check_claims
from proofs.thresholds.limits import Thresholds
from proofs.thresholds.measures import RevealedRowsCheck, SequenceMeasure
from proofs.thresholds.named import builtin, kernel_class_of
from proofs.thresholds.profiles import Profile
from proofs.verdict.blame import Inquiry, inquiry_of
from proofs.verdict.casefile import AskedRows, CaseFile
from proofs.verdict.exact import ExactClass
from proofs.verdict.exceedances import RejectConvictLimits
from proofs.verdict.judge import StopReadings, judge
from proofs.verdict.message import SignedVerdict, Verdict

if TYPE_CHECKING:
    from pipeline.engine.replay import Replayer


@dataclass(frozen=True)
class Check:
    """`held` None: it could not be checked. What does not count is said for whoever cares."""

    name: str
    held: bool | None
    detail: str
    counts: bool = True


@dataclass
class Report:
    """What came of a case. `verdict` is this machine's own, None where it reached none."""

    bundle: UnitBundle
    checks: list[Check] = field(default_factory=list)
    verdict: Verdict | None = None

    @property
    def held(self) -> bool:
        """Whether everything that counts was checked and is as the file says."""
        return all(check.held is True for check in self.checks if check.counts)

    def add(self, name: str, held: bool | None, detail: str) -> None:
        """Note a check that counts."""
        self.checks.append(Check(name, held, detail))


def read_case(path: Path) -> CaseFile:
    """Raises InputError for a file that is not a case."""
    try:
        with path.open("rb") as file:
            data = file.read(CaseFile.MAX_BYTES + 1)
        return CaseFile.from_bytes(data)
    except OSError as exc:
        raise InputError(f"{path}: cannot read: {exc.strerror}") from exc
    except ProofError as exc:
        raise InputError(f"{path}: no case file: {exc}", "prime-node export makes them") from exc


def thresholds_of(case: CaseFile) -> tuple[str, Thresholds]:
    """The case's thresholds and what they are called. Raises InputError, also for a profile of
    another model than the bundle's."""
    try:
        if not case.profile:
            return case.thresholds, builtin(case.thresholds)
        found = Profile.from_bytes(case.profile)
        if found.model_id != case.unit().model_id:
            raise InputError("the case's thresholds: the profile is of another model")
    except ProofError as exc:
        raise InputError(f"the case's thresholds: {exc}") from exc
    return f"profile {found.profile_id.hex()[:12]}", found.thresholds


def check_words(case: CaseFile) -> Report:
    """Everything that needs no model: signatures and what they are about. Raises InputError."""
    try:
        bundle, verdicts = case.unit(), case.signed_verdicts()
    except ProofError as exc:
        raise InputError(f"the case's bundle or verdict is damaged: {exc}") from exc
    report = Report(bundle)
    reason = check_claims(bundle, case.domain)
    for stage, claim in enumerate(bundle.stages):
        if address_of_peer(claim.peer_id) != claim.address:
            reason = reason or f"stage {stage}: the peer id is another address's"
    report.add("stages", not reason, reason or f"{len(bundle.stages)} signed and countersigned")
    for signed in verdicts:
        report.add(f"verdict of {signed.validator[:10]}", *_about(signed, bundle))
    for block in sorted({s.noise.block for s in bundle.sequences if s.noise and s.noise.block}):
        asked = Check(f"hash of block {block}", None, "noise follows from it; ask the chain", False)
        report.checks.append(asked)
    return report


def check_replay(
    case: CaseFile,
    report: Report,
    limits: RejectConvictLimits,
    model_dir: Path,
    device: str,
    replayer: Replayer,
) -> None:
    """Replay and judge, and compare with each verdict of the file. Raises EngineError.

    A verdict is first compared with one on the sequences that it rests on, then with one on all of
    them: a validator that looked at few may have missed what is there to be seen.
    """
    bundle = report.bundle
    replayed = replayer.replay(replay_request(bundle, str(model_dir), device))
    measures = list(replayed.measures)
    tokens = sum(len(s.output_ids) for s in bundle.sequences)
    report.add("replay", True, f"{tokens} tokens in {replayed.seconds:.1f} s")
    demanded = "" if case.profile else kernel_class_of(case.thresholds)
    exact = ExactClass(replayed.kernel_class, bool(demanded)) if replayed.exact else None
    if demanded and (exact is None or exact.name != demanded):
        report.add(
            "kernel class", None, f"{replayed.kernel_class} here, the pool demands {demanded}"
        )
        return
    stops = _read_texts(bundle, model_dir)
    case_judge = _CaseJudge(case, report, limits, model_dir, device, replayer, stops, exact)
    report.verdict = case_judge.verdict(measures)
    for signed in case.signed_verdicts():
        chosen = set(signed.verdict.replayed)
        own = case_judge.verdict([m if n in chosen else None for n, m in enumerate(measures)])
        name = f"agrees with {signed.validator[:10]}"
        if own is None:
            report.add(name, None, "it rests on rows that are not in the file")
        else:
            same = _finding(own) == _finding(signed.verdict)
            report.add(name, same, _described(own))
    found = [_finding(signed.verdict) for signed in case.signed_verdicts()]
    if report.verdict is None:
        report.add("whole replay", None, "it takes rows that are not in the file")
    else:
        agrees = bool(found) and all(one == _finding(report.verdict) for one in found)
        report.add("whole replay", agrees, _described(report.verdict))


def _read_texts(bundle: UnitBundle, model_dir: Path) -> StopReadings | None:
    if not has_stops(bundle):
        return None
    try:
        return Texts().read(bundle, open_folder(model_dir))
    except (CannotJudge, ModelError) as exc:
        raise InputError(f"the texts cannot be read: {exc}") from exc


def _about(signed: SignedVerdict, bundle: UnitBundle) -> tuple[bool, str]:
    try:
        signed.signer()
    except ProofError as exc:
        return False, str(exc)
    if signed.verdict.bundle_id != bundle.content_id:
        return False, "it is about another bundle"
    return True, f"signed by {signed.validator}: {_described(signed.verdict)}"


def _finding(verdict: Verdict) -> tuple[bool, int | None, str]:
    return verdict.accepted, verdict.first_faulty, verdict.doubted_peer


def _described(verdict: Verdict) -> str:
    return "accepted" if verdict.accepted else f"rejected: {verdict.reason}"


@dataclass
class _CaseJudge:
    """Answers inquiries from the file."""

    case: CaseFile
    report: Report
    limits: RejectConvictLimits
    model_dir: Path
    device: str
    replayer: Replayer
    stops: StopReadings | None
    exact: ExactClass | None
    revealed: dict[Inquiry, RevealedRowsCheck | None] = field(default_factory=dict)

    @cached_property
    def asked(self) -> dict[Inquiry, AskedRows]:
        return {item.inquiry: item for item in self.case.asked}

    def verdict(
        self, measures: list[SequenceMeasure] | list[SequenceMeasure | None]
    ) -> Verdict | None:
        """None where it takes rows that the file does not have."""
        bundle, domain = self.report.bundle, self.case.domain
        while True:
            found = judge(
                bundle, measures, self.limits, domain, self.revealed, self.stops, self.exact
            )
            if isinstance(found, Verdict):
                return found
            item = self.asked.get(found)
            if item is None:
                return None
            self.revealed[found] = self._shown(found, item)

    def _shown(self, inquiry: Inquiry, item: AskedRows) -> RevealedRowsCheck | None:
        name = f"rows of stage {inquiry.stage}"
        if not item.rows:
            self.report.add(name, None, "the file says they were never shown; that leaves no trace")
            return None
        if not item.is_content:
            self.report.add(name, False, "they are not those that the neighbours signed for")
            return None
        after = self.asked.get(inquiry_of(self.report.bundle, inquiry.stage + 1, inquiry.index))
        with tempfile.TemporaryDirectory() as folder:
            path, sent = Path(folder) / "rows", None
            path.write_bytes(item.rows)
            if after is not None and after.is_content:
                sent = Path(folder) / "sent"
                sent.write_bytes(after.rows)
            request = rows_request(
                self.report.bundle, str(self.model_dir), self.device, inquiry, path, sent
            )
            shown = shown_by(self.replayer.replay(request))
        assert shown is not None, "the replay was asked for one set of rows"
        self.report.add(name, True, f"as signed by both neighbours, off by {shown.error:.3g}")
        return shown
