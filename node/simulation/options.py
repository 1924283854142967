"""What a simulated network is asked to be: the options of `prime-node simulate`.

A fault is `NODE:KIND` or `NODE:KIND@SECONDS`. `crash` kills the node's processes with SIGKILL,
SECONDS after the first token (0 where not given). The other kinds make the worker dishonest from
its start and take no time: `int4-weights` and `int8-weights` compute with coarser weights than
agreed, `null-proofs` sends empty proofs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from node.errors import InputError
from node.prompts import Prompt

DISHONEST = ("int4-weights", "int8-weights", "null-proofs")
KINDS = ("crash", *DISHONEST)
_FAULT = re.compile(r"^([a-z]+-[0-9]{1,3}):([a-z0-9-]+)(?:@([0-9]{1,6}(?:\.[0-9]+)?))?$")


@dataclass(frozen=True)
class Fault:
    """`node` like "worker-2"; `at` seconds after the first token, for a crash."""

    node: str
    kind: str
    at: float = 0.0


@dataclass(frozen=True)
class SimulationOptions:
    """`stages` 0 and `rpc_url` None leave it to the planner and the embedded chain."""

    workers: int
    validators: int
    prompts: tuple[Prompt, ...]
    max_tokens: int
    model: str
    stages: int
    topology: Path | None
    faults: tuple[Fault, ...]
    output: Path
    model_store: Path
    rpc_url: str | None
    seed: int
    timeout: float
    keep: bool
    log_level: str


def parse_fault(text: str) -> Fault:
    """A `--fault` value. Raises `InputError`."""
    match = _FAULT.match(text)
    if match is None:
        raise InputError(f"--fault {text}: not a fault", "like worker-2:crash@5")
    node, kind, at = match.groups()
    if kind not in KINDS:
        raise InputError(f"--fault {text}: unknown kind {kind}", f"one of {', '.join(KINDS)}")
    if at is not None and kind != "crash":
        raise InputError(f"--fault {text}: only a crash has a time", f"{node}:{kind}")
    return Fault(node, kind, float(at or 0))
