"""Figures as lines of Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from evaluation.analysis import (
    HONEST,
    TARGETS,
    TESTS,
    Evaluation,
    Rate,
    Result,
    sequences_needed,
)

BARS = (
    "int8-weights", "fp8-weights", "int4-weights", "wrong-seed", "temperature+0.1",
    "temperature-0.1", "spoofed-prefill", "dropped-layer", "dropped-layers", "other-weights",
    "prompt-edit", "replayed-proofs", "blind-constant", "blind-random",
)  # fmt: skip
"""Conditions that should be rejected at 0.99 or more; the others are reported."""
BAR = 0.99


def table(evaluation: Evaluation) -> list[str]:
    """A line a condition: how many were rejected, by what, and what the bar says."""
    lines = [
        "| condition | rejected | rate (95 % bound) | at FPR 1e-2 / 1e-4 | chunks rejected | "
        "caught by | bar 0.99 |",
        "|---|---|---|---|---|---|---|",
    ]
    for result in ordered(evaluation.results):
        lines.append(_line(result))
    return lines


def false_positives(evaluation: Evaluation) -> list[str]:
    """A line for each target rate: what the limits set for it did to held-out honest sequences."""
    honest = [r for r in evaluation.results if r.condition in HONEST]
    lines = [
        "| limits set for FPR | held-out honest sequences rejected | supported (95 %) |",
        "|---|---|---|",
    ]
    for target in TARGETS:
        rate = Rate(
            sum(r.at[target].count for r in honest), sum(r.at[target].total for r in honest)
        )
        lines.append(f"| {target:g} | {rate.count} of {rate.total} | ≤ {rate.upper:.2g} |")
    return lines


def missed(evaluation: Evaluation) -> list[str]:
    """A sentence for each bar that was missed: by how much, and what would reach it."""
    lines = []
    for result in ordered(evaluation.results):
        rate = result.rejected
        if result.condition not in BARS or rate.value >= BAR:
            continue
        needed = sequences_needed(rate.value)
        reach = (
            "no number of sequences reaches it with these tests"
            if needed is None
            else f"{needed} sequences of one worker give 0.99, at {needed} times the FPR"
        )
        lines.append(
            f"- `{result.condition}`: {rate.value:.3f}, {BAR - rate.value:.3f} short; {reach}."
        )
    return lines


def _line(result: Result) -> str:
    rate = result.rejected
    caught = ", ".join(f"{test} {result.caught[test]}" for test in TESTS if test in result.caught)
    if result.condition in HONEST:
        bound, bar = f"{rate.value:.3f} (≤ {rate.upper:.2g})", ""
    else:
        bound = f"{rate.value:.3f} (≥ {rate.lower:.3f})"
        bar = ("met" if rate.value >= BAR else "missed") if result.condition in BARS else ""
    others = f"{result.at[1e-2].count} / {result.at[1e-4].count}"
    chunks = f"{result.chunks.count} of {result.chunks.total}"
    return (
        f"| {result.condition} | {rate.count} of {rate.total} | {bound} | {others} | {chunks} | "
        f"{caught or '–'} | {bar} |"
    )


def ordered(results: Sequence[Result]) -> list[Result]:
    """Honest first, then what has a bar, then the rest."""

    def place(result: Result) -> tuple[int, int, str]:
        if result.condition in HONEST:
            return 0, HONEST.index(result.condition), ""
        if result.condition in BARS:
            return 1, BARS.index(result.condition), ""
        return 2, 0, result.condition

    return sorted(results, key=place)
