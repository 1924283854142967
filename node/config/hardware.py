"""What this machine offers: the device a worker computes on and the memory it may use."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path

import psutil

from node.errors import ResourceError

CPU_MEMORY_SHARE = 0.5
"""Of the free memory of a machine without a GPU: its owner uses it for other things too."""
GPU_MEMORY_SHARE = 0.9


@dataclass(frozen=True)
class Device:
    """`torch_name` is what the engine is given; `memory_bytes` what it may use."""

    torch_name: str
    name: str
    memory_bytes: int


def detect_device(wanted: str, memory_cap: int) -> Device:
    """The device called `wanted` (`auto`, `cpu`, `cuda`, `cuda:N`), its memory capped.

    `memory_cap` in bytes, 0 = none. Raises `ResourceError` where a GPU was asked for by name and
    there is none.
    """
    index = int(wanted.partition(":")[2] or 0)
    gpu = None if wanted == "cpu" else _nvidia(index)
    if gpu is None and wanted.startswith("cuda"):
        raise ResourceError(f"no NVIDIA GPU {index} here", "use --device auto or cpu")
    found = gpu or _cpu()
    if memory_cap:
        return Device(found.torch_name, found.name, memory_cap)
    return found


def _cpu() -> Device:
    memory = int(psutil.virtual_memory().available * CPU_MEMORY_SHARE)
    return Device("cpu", _cpu_name(), memory)


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()[:128]
    return platform.processor() or platform.machine() or "cpu"


def _nvidia(index: int) -> Device | None:
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    try:
        handle = pynvml.nvmlDeviceGetHandleByIndex(index)
        name = pynvml.nvmlDeviceGetName(handle)
        free = int(pynvml.nvmlDeviceGetMemoryInfo(handle).free)
    except pynvml.NVMLError:
        return None
    finally:
        pynvml.nvmlShutdown()
    return Device(f"cuda:{index}", str(name)[:128], int(free * GPU_MEMORY_SHARE))
