"""One line of JSON for each measured sequence, appended as it is measured.

A journal is what makes a run of an hour survive an interruption: a block of sequences is written in
one piece when it is complete, and a block that is there is not measured again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from proofs.thresholds.measures import ChunkMeasure, SamplingMeasure, SequenceMeasure


@dataclass(frozen=True)
class Record:
    """A sequence as the verifier measured it.

    Attributes:
        prompt: number of the prompt, by which calibration and test are split.
        errors: `rows_error` of each stage, empty where rows were not compared.
        eos: the output ends with an end-of-sequence token and says so.
    """

    condition: str
    prompt: int
    prompt_tokens: int
    measure: SequenceMeasure
    proof_bytes: int
    errors: tuple[float, ...] = ()
    eos: bool = False
    output: tuple[int, ...] = ()


@dataclass(frozen=True)
class Block:
    """Sequences measured together and what they took, in seconds of one thread."""

    key: str
    generate_seconds: float
    verify_seconds: float
    tokens: int
    records: tuple[Record, ...] = field(default=())


def to_json(record: Record) -> dict[str, Any]:
    """A record as JSON; scores of 0 and digits that say nothing are left out."""
    measure = record.measure
    sampling = measure.sampling
    out = {name: value for name, value in asdict(record).items() if name != "measure"}
    out["errors"] = [float(f"{error:.4g}") for error in record.errors]
    out["stages"] = [
        [
            [c.exp_mismatches, c.mant_err_mean, c.mant_err_median, c.sign_mismatches, c.malformed]
            for c in chunks
        ]
        for chunks in measure.stages
    ]
    out["sampling"] = {
        "tokens": sampling.tokens,
        "matches": sampling.matches,
        "scores": [[index, score] for index, score in enumerate(sampling.scores) if score],
        "surprise": sampling.surprise,
    }
    return out


def from_json(value: dict[str, Any]) -> Record:
    """Inverse of `to_json`."""
    sampling = value["sampling"]
    scores = [0.0] * sampling["tokens"]
    for index, score in sampling["scores"]:
        scores[index] = score
    stages = tuple(
        tuple(
            ChunkMeasure(
                exp_mismatches=exponents,
                mant_err_mean=mean,
                mant_err_median=median,
                sign_mismatches=signs,
                malformed=malformed,
            )
            for exponents, mean, median, signs, malformed in chunks
        )
        for chunks in value["stages"]
    )
    measure = SequenceMeasure(
        sequence_id=value["prompt"].to_bytes(16, "big"),
        stages=stages,
        sampling=SamplingMeasure(
            tokens=sampling["tokens"],
            matches=sampling["matches"],
            scores=tuple(scores),
            surprise=sampling["surprise"],
        ),
    )
    return Record(
        condition=value["condition"],
        prompt=value["prompt"],
        prompt_tokens=value["prompt_tokens"],
        measure=measure,
        proof_bytes=value["proof_bytes"],
        errors=tuple(value["errors"]),
        eos=value["eos"],
        output=tuple(value["output"]),
    )


class Journal:
    """A JSONL file of blocks; a line that was cut off by a crash is dropped."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self.done = {block["key"] for block in self._lines()}

    def append(self, block: Block) -> None:
        """Write one finished block as a line."""
        line = {**asdict(block), "records": [to_json(record) for record in block.records]}
        with self.path.open("a") as file:
            if file.tell() and not self.path.read_bytes().endswith(b"\n"):
                file.write("\n")
            file.write(json.dumps(line, separators=(",", ":")) + "\n")
        self.done.add(block.key)

    def blocks(self) -> Iterator[Block]:
        """All finished blocks, in the order of the file."""
        for line in self._lines():
            yield Block(**{**line, "records": tuple(map(from_json, line["records"]))})

    def _lines(self) -> Iterator[dict[str, Any]]:
        if not self.path.exists():
            return
        with self.path.open() as file:
            for line in file:
                try:
                    yield json.loads(line)
                except json.JSONDecodeError:
                    continue


def read_all(paths: Sequence[Path]) -> list[Block]:
    """Blocks of several journals, each key once."""
    blocks: dict[str, Block] = {}
    for path in paths:
        for block in Journal(path).blocks():
            blocks.setdefault(block.key, block)
    return list(blocks.values())
