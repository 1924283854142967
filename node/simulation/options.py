"""What a simulation is asked for: its nodes, its prompts, and what is to go wrong."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from node.config.schema import check_keys
from node.config.settings import Location, Size, read_toml
from node.errors import InputError
from node.prompts import Prompt
from pipeline.dishonest.names import FAULTS

CRASH = "crash"
DEFAULT_VRAM = "512MiB"
"""Too little for the whole of SmolLM2 in fp32 with its KV cache, enough for one half of it."""
_FAULT = re.compile(r"^([a-z]+-\d+|orchestrator):([a-z0-9-]+)(?:@(\d+(?:\.\d+)?))?$")


@dataclass(frozen=True)
class Fault:
    """`node` does `kind`; a crash comes `after` seconds from the first token."""

    node: str
    kind: str
    after: float = 0.0


class TopologyNode(BaseModel):
    """One worker of a topology file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    vram: Size = Field(default=DEFAULT_VRAM, validate_default=True)
    location: Location = None
    region: Annotated[str, Field(max_length=32)] = ""


class Topology(BaseModel):
    """A topology file: `[workers.worker-1] vram = "512MiB" location = "52.5,13.4"`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    workers: Annotated[dict[str, TopologyNode], Field(max_length=64)] = {}


@dataclass(frozen=True)
class SimulationOptions:
    """All that `prime-node simulate` was told. `stages` 0: one for each worker."""

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

    @property
    def worker_names(self) -> tuple[str, ...]:
        """`worker-1` and so on."""
        return tuple(f"worker-{number}" for number in range(1, self.workers + 1))

    @property
    def validator_names(self) -> tuple[str, ...]:
        """`validator-1` and so on."""
        return tuple(f"validator-{number}" for number in range(1, self.validators + 1))

    def check(self) -> None:
        """Raises `InputError` for faults of nodes that do not exist."""
        for fault in self.faults:
            if fault.kind == CRASH:
                known = ("orchestrator", *self.worker_names, *self.validator_names)
            else:
                known = self.worker_names
            if fault.node not in known:
                raise InputError(
                    f"--fault {fault.node}:{fault.kind}: no such node", f"one of {', '.join(known)}"
                )


def parse_fault(text: str) -> Fault:
    """`worker-2:int4-weights`, `worker-1:crash@3`. Raises `InputError`."""
    match = _FAULT.match(text)
    kinds = (CRASH, *FAULTS)
    if match is None or match[2] not in kinds:
        raise InputError(
            f"--fault {text}: not a fault", f"NODE:KIND[@SECONDS] with KIND {', '.join(kinds)}"
        )
    return Fault(match[1], match[2], float(match[3] or 0))


def load_topology(path: Path | None) -> Topology:
    """Read a topology file. Raises `InputError` naming the key."""
    if path is None:
        return Topology()
    data: dict[str, Any] = read_toml(path)
    check_keys(Topology, data, str(path))
    try:
        return Topology.model_validate(data)
    except ValidationError as exc:
        first = exc.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise InputError(f"{path}: {key}: {first['msg']}") from exc
