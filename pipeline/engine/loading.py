"""Loading a slice for a stage: checks before the weights are read, typed errors after.

Everything that a request can get wrong is refused by the manifest alone: another model than asked
for, layers that it does not have, more memory than the cap allows.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.engine.control.messages import Load
from pipeline.engine.errors import EngineError
from pipeline.models.errors import DamagedModel, ModelError
from pipeline.models.prepared import PreparedModel, open_folder
from pipeline.models.tokenizer import ChatTokenizer

if TYPE_CHECKING:
    import torch

    from pipeline.models.slice import ModelSlice
    from pipeline.runner.stage import StageRunner

MIB = 2**20

AlterSlice = Callable[["ModelSlice"], None]


@dataclass(frozen=True)
class LoadedModel:
    """A slice with its KV cache. `context`: the longest sequence that the model takes; `tokenizer`
    only in the first slice, where text is read."""

    request: Load
    slice: ModelSlice
    runner: StageRunner
    context: int
    seconds: float
    tokenizer: ChatTokenizer | None = None

    @property
    def row_bytes(self) -> int:
        """Bytes of one row of hidden states on the wire."""
        return self.slice.hidden_size * self.slice.dtype.itemsize


def open_model(model_dir: str, model_id: bytes) -> PreparedModel:
    """Open a prepared model and compare its identity. Raises `EngineError` (model)."""
    try:
        prepared = open_folder(Path(model_dir))
    except (ModelError, OSError) as exc:
        raise EngineError("model", f"{model_dir}: {exc}") from exc
    if prepared.model_id != model_id:
        raise EngineError(
            "model",
            f"{model_dir} holds model {prepared.model_id.hex()[:12]}, "
            f"asked for {model_id.hex()[:12]}; prepare that one",
        )
    return prepared


def model_error(exc: ModelError) -> EngineError:
    """A model's error as the engine answers it: `damaged` where files are not what they were."""
    return EngineError("damaged" if isinstance(exc, DamagedModel) else "model", str(exc))


def parse_device(name: str) -> torch.device:
    """Raises `EngineError` (bad_request) for a device that this machine does not have."""
    import torch

    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as exc:
        first_line = str(exc).partition("\n")[0]
        raise EngineError("bad_request", f"device {name!r} cannot be used: {first_line}") from exc
    return device


def device_name(device: torch.device) -> str:
    """What people call the device: the GPU's or the CPU's model name."""
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return device.type


def check_load(request: Load) -> PreparedModel:
    """Refuse what cannot work before any weight is read. Raises `EngineError`."""
    prepared = open_model(request.model_dir, request.model_id)
    table = prepared.layer_table()
    first, last = request.first_layer, request.last_layer
    if not 0 <= first < last <= table.layers:
        raise EngineError("bad_request", f"the model has layers 0 to {table.layers}")
    weights, kv = table.weights(first, last), table.kv(first, last, request.kv_tokens)
    if request.memory_cap and weights + kv > request.memory_cap:
        raise EngineError(
            "out_of_memory",
            f"layers {first} to {last} take {weights / MIB:.0f} MiB and their KV cache "
            f"{kv / MIB:.0f} MiB, the cap is {request.memory_cap / MIB:.0f} MiB: "
            "take fewer layers or kv_tokens",
        )
    return prepared


def load_model(request: Load, alter: AlterSlice | None = None) -> LoadedModel:
    """Read the slice's weights and reserve its KV cache.

    `alter`, if given, changes the slice in place before a runner takes it. Raises `EngineError`
    (bad_request, model, damaged, out_of_memory).
    """
    started = time.perf_counter()
    prepared = check_load(request)
    device = parse_device(request.device)
    import torch

    from pipeline.models.slice import load_slice
    from pipeline.runner.stage import StageRunner

    try:
        slice_ = load_slice(prepared, request.first_layer, request.last_layer, request.device)
        if alter is not None:
            alter(slice_)
        runner = StageRunner(slice_, request.kv_tokens)
        tokenizer = ChatTokenizer(prepared) if slice_.is_first else None
    except ModelError as exc:
        raise model_error(exc) from exc
    except torch.OutOfMemoryError as exc:
        raise EngineError("out_of_memory", f"{device} has not enough free memory") from exc
    context = prepared.manifest.max_positions
    seconds = time.perf_counter() - started
    return LoadedModel(request, slice_, runner, context, seconds, tokenizer)
