"""`prime-node verify`: check a verdict from its case file, without a network."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from node.cli.options import JsonOption, StoreOption, model_store
from node.console.output import print_json, say, show_table

if TYPE_CHECKING:
    from node.cases.verifying import Report
    from proofs.thresholds.limits import Thresholds
    from proofs.verdict.casefile import CaseFile

MARKS = {True: "yes", False: "no", None: "not checked"}


def command(
    files: Annotated[
        list[Path], typer.Argument(help="Case files, as prime-node export writes them.")
    ],
    store: StoreOption = None,
    device: Annotated[str, typer.Option("--device", help="Where to replay: cpu, cuda:0 …")] = "cpu",
    profile: Annotated[
        str, typer.Option("--profile", help="Judge by this profile, not the file's (name or file).")
    ] = "",
    no_replay: Annotated[
        bool, typer.Option("--no-replay", help="Check signatures only; needs no model.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Check work units and the verdicts on them from case files, without a network.

    Signatures are checked, the unit is replayed with this machine's own copy of the model, rows
    that stages revealed are compared, and the verdict that follows is set beside those in the file.

    Example:

        prime-node verify unit.prime

    You should see a table of checks, each with yes or no, and the verdict. Exit code 0: everything
    was checked and agrees; 1: something does not, or could not be checked.
    """
    from node.cases.verifying import read_case
    from node.errors import EXIT_FAILED

    replay = None if no_replay else _Replay(model_store(store), device)
    plain: list[dict[str, Any]] = []
    held = True
    for number, file in enumerate(files):
        case = read_case(file)
        report, name = _check(case, profile, replay)
        held = held and report.held
        plain.append(_plain(report, name, case))
        if not as_json:
            if number:
                say()
            if len(files) > 1:
                say(file)
            _show(report, name, case)
    if as_json:
        print_json(plain if len(files) > 1 else plain[0])
    if not held:
        raise typer.Exit(EXIT_FAILED)


class _Replay:
    """Replays units with this machine's models; they stay loaded from one to the next."""

    def __init__(self, store: Path, device: str) -> None:
        from pipeline.engine.replay import Replayer

        self._store = store
        self._device = device
        self._replayer = Replayer()

    def check(self, case: CaseFile, report: Report, thresholds: Thresholds) -> None:
        from node.cases.verifying import check_replay
        from pipeline.models.store import open_model
        from proofs.thresholds.builtin import floor_of
        from proofs.verdict.exceedances import RejectConvictLimits

        model = open_model(self._store, report.bundle.model_id.hex())
        limits = RejectConvictLimits.of(thresholds, floor_of(model.manifest.dtype))
        check_replay(case, report, limits, model.path, self._device, self._replayer)


def _check(case: CaseFile, profile: str, replay: _Replay | None) -> tuple[Report, str]:
    """What was found, and the name of the limits that it was judged by."""
    from node.cases.verifying import check_words, thresholds_of

    name, thresholds = thresholds_of(case)
    if profile:
        from node.cli.options import data_dir
        from node.config.profiles import load_thresholds

        name, thresholds = profile, load_thresholds(profile, data_dir(None).path)
    report = check_words(case)
    if replay is None:
        report.add("replay", None, "not asked for")
    else:
        replay.check(case, report, thresholds)
    return report, name


def _show(report: Report, thresholds: str, case: CaseFile) -> None:
    bundle = report.bundle
    say(
        f"unit {bundle.unit_id.hex()[:12]}: {len(bundle.sequences)} sequences,"
        f" {len(bundle.stages)} stages, judged by {thresholds}"
    )
    say(f"receipts for chain {case.chain_id}, contract {case.contract}")
    rows = [(check.name, MARKS[check.held], check.detail) for check in report.checks]
    show_table("Checks", ("", "held", ""), rows)
    if report.verdict is None:
        return
    stages = [
        (str(s.stage), s.peer_id[-12:], s.status.value, s.reason) for s in report.verdict.stages
    ]
    show_table("Own verdict", ("stage", "peer", "", ""), stages)
    say("accepted" if report.verdict.accepted else f"rejected: {report.verdict.reason}")


def _plain(report: Report, thresholds: str, case: CaseFile) -> dict[str, Any]:
    return {
        "unit_id": report.bundle.unit_id.hex(),
        "bundle_id": report.bundle.content_id.hex(),
        "chain_id": case.chain_id,
        "contract": case.contract,
        "thresholds": thresholds,
        "held": report.held,
        "checks": [{"name": c.name, "held": c.held, "detail": c.detail} for c in report.checks],
        "verdict": None if report.verdict is None else report.verdict.summary(),
    }
