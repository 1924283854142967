"""Names for arithmetic: two runs of the same class on the same rows give the same results.

A class says what decides the last bits of a sum: the kind of device, the dtype, the library and the
instruction set that it picks its kernels by. Within an *exact* class the bits of a row depend on
nothing but the row's own sequence: not on its neighbours in a batch, on how a prompt was cut, on
one decode or prefill, on threads. Rows of an exact class can be compared for equality; those of any
other class only within limits.
"""

from __future__ import annotations

import torch

EXACT = "cpu-fp32-fma-1"
"""How the names of exact classes begin: products and attention by our own kernels, version 1. What
follows says what else decides bits: for fused layers, which run on our kernels alone, a digest of
the rotary angles; for others, what torch computes their norms and activations with."""


def is_exact(kernel_class: str) -> bool:
    """Whether rows of this class may be compared for equality."""
    return kernel_class.startswith(f"{EXACT}-")


def library_class(device: torch.device, dtype: torch.dtype, library: str) -> str:
    """The class of what torch and `library` below it compute, e.g. `cpu-fp32-onednn-avx2-torch2.13`
    or `cuda-bf16-torch-sm90-torch2.13`."""
    kind = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}.get(
        dtype, str(dtype).removeprefix("torch.")
    )
    version = ".".join(torch.__version__.split("+")[0].split(".")[:2])
    return f"{device.type}-{kind}-{library}-{_instructions(device)}-torch{version}"


def _instructions(device: torch.device) -> str:
    if device.type == "cuda":
        major, minor = torch.cuda.get_device_capability(device)
        return f"sm{major}{minor}"
    if device.type == "cpu":
        return torch.backends.cpu.get_cpu_capability().lower().replace(" ", "")
    return "any"
