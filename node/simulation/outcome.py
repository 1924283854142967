"""All that a simulation saw."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from node.simulation.ledger import Balances
from node.simulation.memory import MemoryWatch
from node.simulation.network import SimulatedNetwork
from node.simulation.options import SimulationOptions


@dataclass(frozen=True)
class Check:
    """One promise, whether it was kept, and what was seen."""

    name: str
    held: bool
    detail: str


@dataclass
class SimulationOutcome:
    """All that a simulation saw; what `report.json` holds and the checks read."""

    options: SimulationOptions
    network: SimulatedNetwork
    seconds: dict[str, float] = field(default_factory=dict)
    job: dict[str, Any] = field(default_factory=dict)
    nodes: list[dict[str, Any]] = field(default_factory=list)
    groups: list[dict[str, Any]] = field(default_factory=list)
    first_group: dict[str, Any] = field(default_factory=dict)
    work: list[dict[str, Any]] = field(default_factory=list)
    rejections: list[dict[str, Any]] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)
    before: Balances = field(default_factory=dict)
    after: Balances = field(default_factory=dict)
    stakes_before: Balances = field(default_factory=dict)
    stakes_after: Balances = field(default_factory=dict)
    memory: MemoryWatch = field(default_factory=MemoryWatch)
    failed_children: list[str] = field(default_factory=list)
    interrupted: bool = True
    """Until the run has come to its end."""
    left_running: list[str] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    cases: list[Path] = field(default_factory=list)
