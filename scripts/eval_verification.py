"""How well the proofs tell cheating from honest work, measured on real models.

    python scripts/eval_verification.py collect --output runs/evaluation
    python scripts/eval_verification.py report --output runs/evaluation
    python scripts/eval_verification.py small

`collect` generates and measures block after block and can be stopped and started again at any time;
`report` calibrates on the even prompts, judges the odd ones, and writes tables, plots and JSON into
docs/reference/evaluation.*; `small` is the version for a minute of CI.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import torch
from evaluation.analysis import Evaluation, evaluate
from evaluation.collect import JOBS, Collector, Setup
from evaluation.records import Journal
from evaluation.report import as_json, described, profile_of, roc_plot, section, with_section
from evaluation.tables import table

from node.calibration.measuring import even_boundaries
from pipeline.models.prepared import PreparedModel, open_folder
from pipeline.models.store import open_model

HONEST = {"honest-plain": 3000, "honest-batch-8": 4000}  # and their first prompt
COARSE = (
    "int4-weights", "spoofed-prefill", "wrong-seed", "replayed-proofs", "blind-random",
    "blind-constant", "negated-rows", "malformed",
)  # fmt: skip
STORE = Path("~/.cache/prime-node/models").expanduser()
DOCUMENT = Path(__file__).parent.parent / "docs" / "reference" / "evaluation.md"


def plan(
    jobs: list[str], honest: int, attack: int, batch: int, block: int = 0
) -> list[tuple[str, list[int]]]:
    """Blocks in an order in which every prefix is balanced: honest ones of `batch` lead, and one
    follows after every second of the others, of `block` (0: as many). Attacks get prompts of the
    test half."""
    honest_blocks = [
        ("honest", list(range(start, min(start + batch, honest))))
        for start in range(0, honest if "honest" in jobs else 0, batch)
    ]
    block = block or batch
    others = []
    for start in range(0, attack, block):
        numbers = range(start, min(start + block, attack))
        for name in jobs:
            if name in HONEST:
                others.append((name, [HONEST[name] + number for number in numbers]))
            elif name != "honest":
                others.append((name, [2 * number + 1 for number in numbers]))
    planned, honest_blocks = honest_blocks[:2], honest_blocks[2:]
    for number, other in enumerate(others):
        planned.append(other)
        if number % 2:
            planned, honest_blocks = planned + honest_blocks[:1], honest_blocks[1:]
    return planned + honest_blocks


def collect(options: argparse.Namespace) -> None:
    """Measure what the journal lacks."""
    torch.set_num_threads(options.threads)
    folder = Path(options.model)
    model = open_folder(folder) if folder.is_dir() else open_model(STORE, options.model)
    setup = Setup(
        model,
        even_boundaries(model.manifest.layers, options.stages),
        tokens=options.tokens,
        batch=options.batch,
    )
    stem = options.output / options.name
    stem.parent.mkdir(parents=True, exist_ok=True)
    stem.with_suffix(".setup.json").write_text(json.dumps(described(setup), indent=1) + "\n")
    planned = plan(options.jobs, options.honest, options.attack, options.batch, options.block)
    measure_all(Collector(setup, Journal(stem.with_suffix(".jsonl"))), planned)


def measure_all(collector: Collector, planned: list[tuple[str, list[int]]]) -> None:
    """Collect every planned block that the journal does not have yet."""
    for index, (name, prompts) in enumerate(planned):
        started = time.perf_counter()
        if collector.collect(JOBS[name], prompts):
            seconds = time.perf_counter() - started
            done = f"{index + 1}/{len(planned)}"
            print(f"{done} {name} {len(prompts)} in {seconds:.0f} s", file=sys.stderr, flush=True)


def report(options: argparse.Namespace) -> None:
    """Tables into the document, plots and JSON beside it, profiles into `--profiles`."""
    found = {}
    for name in options.names:
        stem = options.output / name
        evaluation = evaluate(list(Journal(stem.with_suffix(".jsonl")).blocks()))
        profile = profile_of(evaluation, json.loads(stem.with_suffix(".setup.json").read_text()))
        found[name] = as_json(evaluation, profile)
        if options.profiles is not None:
            path = options.profiles / f"profile-{name}.toml"
            path.write_text(profile.to_toml())
        plot = options.document.with_name(f"evaluation-{name}.svg")
        plot.write_text(roc_plot(name, evaluation))
        text = options.document.read_text()
        options.document.write_text(with_section(text, name, section(evaluation, profile)))
    options.document.with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n")


def small(options: argparse.Namespace) -> None:
    """A run of a minute or so; fails where a coarse attack passes."""
    torch.set_num_threads(options.threads)
    folder = Path(options.model)
    model = open_folder(folder) if folder.is_dir() else open_model(STORE, options.model)
    with tempfile.TemporaryDirectory() as output:
        evaluation = evaluate_small(model, Path(output))
    print("\n".join(table(evaluation)))
    passed = [name for name in COARSE if evaluation.result(name).rejected.value < 1.0]
    if passed:
        raise SystemExit(f"error: not always rejected: {', '.join(passed)}")


def evaluate_small(model: PreparedModel, output: Path, tokens: int = 64) -> Evaluation:
    """16 honest sequences and 8 of each coarse attack."""
    setup = Setup(model, even_boundaries(model.manifest.layers, 3), tokens=tokens, batch=8)
    journal = Journal(output / "small.jsonl")
    measure_all(Collector(setup, journal), plan(["honest", "int4-weights"], 16, 8, 8))
    return evaluate(list(journal.blocks()))


def main() -> None:
    """Collect honest work and attacks, or report on what was collected."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    collects = commands.add_parser("collect", help=collect.__doc__)
    collects.set_defaults(run=collect)
    collects.add_argument("--model", default="smollm2", help="a prepared model's name or folder")
    collects.add_argument("--output", type=Path, required=True)
    collects.add_argument("--name", default="smollm2-fp32", help="of the journal and the report")
    collects.add_argument("--jobs", nargs="+", default=list(JOBS), choices=list(JOBS))
    collects.add_argument("--honest", type=int, default=1024)
    collects.add_argument("--attack", type=int, default=128)
    collects.add_argument("--tokens", type=int, default=256)
    collects.add_argument("--batch", type=int, default=64)
    collects.add_argument("--block", type=int, default=0, help="of attacks (0: the batch)")
    collects.add_argument("--stages", type=int, default=3)
    reports = commands.add_parser("report", help=report.__doc__)
    reports.set_defaults(run=report)
    reports.add_argument("--output", type=Path, required=True)
    reports.add_argument("--names", nargs="+", default=["smollm2-fp32"])
    reports.add_argument("--document", type=Path, default=DOCUMENT)
    reports.add_argument("--profiles", type=Path, help="folder for the profiles' TOML files")
    smalls = commands.add_parser("small", help=small.__doc__)
    smalls.set_defaults(run=small)
    smalls.add_argument("--model", default="smollm2", help="a prepared model's name or folder")
    for command in (collects, smalls):
        command.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    main()
