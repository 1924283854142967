"""Where things lie, said once for all tests."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
"""The repository. Child processes start here, so that they import this checkout."""

VECTORS = ROOT / "tests" / "vectors"
CONTRACT_VECTORS = ROOT / "contracts" / "test" / "vectors.json"
SCRIPTS = ROOT / "scripts"

MODEL_STORE = Path(
    os.environ.get("PRIME_NODE_MODELS", Path.home() / ".cache" / "prime-node" / "models")
)
"""Prepared models: what PRIME_NODE_MODELS names, or the user's own."""
