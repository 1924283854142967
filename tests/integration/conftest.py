"""Networks of real processes. One simulation takes about a minute on two cores."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pipeline.models.errors import ModelError
from pipeline.models.store import open_model
from tests.paths import MODEL_STORE

SIMULATION_SECONDS = 800


@dataclass(frozen=True)
class Simulated:
    """How a simulation ended."""

    code: int
    text: str
    report: dict[str, Any]
    rows: list[dict[str, Any]]
    output: Path

    def held(self) -> dict[str, bool]:
        return {check["name"]: check["held"] for check in self.report["checks"]}

    def worker(self, name: str) -> dict[str, Any]:
        return next(worker for worker in self.report["workers"] if worker["name"] == name)


class Simulation:
    """A simulation that runs; `finish` waits for it."""

    def __init__(self, output: Path, arguments: list[str]) -> None:
        self.output = output
        command = [sys.executable, "-m", "node", "simulate", "--output", str(output), *arguments]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def finish(self) -> Simulated:
        text, _ = self.process.communicate(timeout=SIMULATION_SECONDS)
        report = _json(self.output / "report.json")
        dataset = self.output / "dataset.jsonl"
        lines = dataset.read_text().splitlines() if dataset.exists() else []
        return Simulated(
            self.process.returncode, text, report, [json.loads(x) for x in lines], self.output
        )


def _json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text()) if path.exists() else {}


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """The model store with SmolLM2 in it."""
    try:
        open_model(MODEL_STORE, "smollm2")
    except ModelError as exc:
        pytest.skip(f"needs the model: prime-node model get smollm2 ({exc})")
    return MODEL_STORE


@pytest.fixture
def simulation(tmp_path: Path, smollm2: Path) -> Callable[..., Simulation]:
    """Start `prime-node simulate` with these arguments, in a folder of its own."""
    running: list[Simulation] = []

    def start(*arguments: str) -> Simulation:
        started = Simulation(tmp_path / f"run-{len(running)}", list(arguments))
        running.append(started)
        return started

    yield start  # type: ignore[misc]
    for one in running:
        if one.process.poll() is None:
            one.process.kill()
            one.process.wait()


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("PRIME_NODE_"):
            monkeypatch.delenv(name)
