"""How fast this device is at one decoder layer: what the planner splits layers by.

A group's pace is set by decode, which reads every weight once a step. So the figure is the time of
one middle layer for a decode step of `batch` sequences that have some context already. The median
of the rounds is taken, since a shared machine has slow moments and no fast ones.
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path

import torch

from pipeline.engine.control.messages import Bench, Benched
from pipeline.engine.errors import EngineError
from pipeline.engine.loading import parse_device
from pipeline.models.errors import ModelError
from pipeline.models.prepared import open_folder
from pipeline.models.slice import load_slice
from pipeline.runner.stage import StageRunner, StepItem

CONTEXT = 64
WARM_UP = 3
ROUNDS = 15


def bench_layer(request: Bench) -> Benched:
    """Load one layer (not the first: no embedding; not the last: no head) and time it.

    Raises `EngineError` (bad_request, model).
    """
    device = parse_device(request.device)
    try:
        prepared = open_folder(Path(request.model_dir))
        layers = prepared.layer_table().layers
        first = 1 if layers > 2 else 0
        slice_ = load_slice(prepared, first, first + 1, request.device)
        runner = StageRunner(slice_, request.batch * (CONTEXT + WARM_UP + ROUNDS))
    except (ModelError, OSError) as exc:
        raise EngineError("model", f"{request.model_dir}: {exc}") from exc
    sequences = [index.to_bytes(16, "big") for index in range(request.batch)]
    for sequence in sequences:
        runner.open(sequence, CONTEXT + WARM_UP + ROUNDS)
        runner.step([StepItem(sequence, 0, CONTEXT)], _inputs(runner, CONTEXT))
    seconds = []
    for turn in range(WARM_UP + ROUNDS):
        items = [StepItem(sequence, CONTEXT + turn, 1) for sequence in sequences]
        inputs = _inputs(runner, request.batch)
        started = time.perf_counter()
        runner.step(items, inputs)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - started)
    median = statistics.median(seconds[WARM_UP:])
    return Benched(layer_seconds=median)


def _inputs(runner: StageRunner, rows: int) -> torch.Tensor:
    slice_ = runner.slice
    if slice_.is_first:
        return torch.ones(rows, dtype=torch.int64, device=slice_.device)
    return torch.ones(rows, slice_.hidden_size, dtype=slice_.dtype, device=slice_.device)
