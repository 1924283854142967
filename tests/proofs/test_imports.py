"""The control process imports proofs without torch, and proofs import none of our packages."""

from __future__ import annotations

import subprocess
import sys

LIGHT = [
    "bundle", "calibration", "canonical", "eip712", "epoch", "errors", "measures", "merkle",
    "noise", "profiles", "receipts", "sampling", "signing", "thresholds", "verdict",
    "verdict_messages",
]  # fmt: skip
CODE = """
import importlib, sys
for name in {names!r}:
    importlib.import_module("proofs." + name)
heavy = {{"torch", "transformers", "web3", "trio", "node", "p2p", "pipeline", "chain"}}
print(sorted(heavy & set(sys.modules)))
"""


def test_only_toploc_imports_torch() -> None:
    code = CODE.format(names=LIGHT)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    code = CODE.format(names=["toploc"])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['torch']"
