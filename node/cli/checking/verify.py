"""`prime-node verify`: check a verdict from its case file, without a network."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from node.cli.options import JsonOption, StoreOption, model_store
from node.console.output import print_json, say, show_table

if TYPE_CHECKING:
    from node.cases.verifying import Report
    from proofs.verdict.casefile import CaseFile

MARKS = {True: "yes", False: "no", None: "not checked"}


def command(
    file: Annotated[Path, typer.Argument(help="A case file, as prime-node export writes it.")],
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
    """Check a work unit and the verdicts on it from a case file, without a network.

    Signatures are checked, the unit is replayed with this machine's own copy of the model, rows
    that stages revealed are compared, and the verdict that follows is set beside those in the file.

    Example:

        prime-node verify unit.prime

    You should see a table of checks, each with yes or no, and the verdict. Exit code 0: everything
    was checked and agrees; 1: something does not, or could not be checked.
    """
    from node.cases.verifying import check_replay, check_words, read_case, thresholds_of
    from node.errors import EXIT_FAILED

    case = read_case(file)
    name, thresholds = thresholds_of(case)
    if profile:
        from node.cli.options import data_dir
        from node.config.profiles import load_thresholds

        name, thresholds = profile, load_thresholds(profile, data_dir(None).path)
    report = check_words(case)
    if no_replay:
        report.add("replay", None, "not asked for")
    else:
        from pipeline.engine.replay import Replayer
        from pipeline.models.store import open_model
        from proofs.thresholds.builtin import floor_of
        from proofs.verdict.exceedances import RejectConvictLimits

        model = open_model(model_store(store), report.bundle.model_id.hex())
        limits = RejectConvictLimits.of(thresholds, floor_of(model.manifest.dtype))
        check_replay(case, report, limits, model.path, device, Replayer())
    if as_json:
        print_json(_plain(report, name, case))
    else:
        _show(report, name, case)
    if not report.held:
        raise typer.Exit(EXIT_FAILED)


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
