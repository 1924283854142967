"""What an engine process is told by its environment: what it needs, and no more.

The node's own environment may hold a key's passphrase, tokens and whatever else its operator's
shell exports. The engine parses what strangers send and loads native libraries, so it gets only
variables that are named here: where programs, libraries and temporary files are, the language, and
the settings of the libraries that compute.
"""

from __future__ import annotations

from collections.abc import Mapping

NAMES = frozenset(
    [
        "PATH",
        "HOME",
        "USER",
        "LOGNAME",
        "SHELL",
        "LANG",
        "LANGUAGE",
        "TZ",
        "TMPDIR",
        "TEMP",
        "TMP",
        "VIRTUAL_ENV",
        "PYTHONPATH",
        "PYTHONHASHSEED",
        "PYTHONUNBUFFERED",
        "PYTHONDONTWRITEBYTECODE",
        "PYTHONWARNINGS",
        "PYTHONFAULTHANDLER",
        "LD_LIBRARY_PATH",
        "LD_PRELOAD",
        "DYLD_LIBRARY_PATH",
        "XDG_CACHE_HOME",
        "XDG_RUNTIME_DIR",
        "SYSTEMROOT",
        "TOKENIZERS_PARALLELISM",
    ]
)
PREFIXES = (
    "LC_", "PRIME_ENGINE_", "CUDA_", "CUBLAS_", "CUDNN_", "NVIDIA_", "NCCL_", "TORCH_",
    "TORCHINDUCTOR_", "PYTORCH_", "TRITON_", "OMP_", "MKL_", "OPENBLAS_", "KMP_", "GOMP_",
    "HIP_", "HSA_", "ROCR_",
)  # fmt: skip
_SECRET = ("PASS", "SECRET", "TOKEN", "KEY", "CREDENTIAL", "AUTH")


def engine_environment(own: Mapping[str, str]) -> dict[str, str]:
    """Those variables of `own` that an engine may have; none whose name sounds like a secret."""
    return {
        name: value
        for name, value in own.items()
        if name in NAMES
        or (name.startswith(PREFIXES) and not any(word in name.upper() for word in _SECRET))
    }
