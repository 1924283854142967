"""The control process imports proofs without torch, and proofs import none of our packages."""

from __future__ import annotations

import pkgutil
import subprocess
import sys

import proofs

# What begins with an underscore is a shared library that is no Python module.
LIGHT = [
    name
    for _, name, _ in pkgutil.walk_packages(proofs.__path__, "proofs.")
    if not name.startswith("proofs.toploc") and not name.rpartition(".")[2].startswith("_")
]
CODE = """
import importlib, sys
for name in {names!r}:
    importlib.import_module(name)
heavy = {{"torch", "transformers", "web3", "trio", "node", "p2p", "pipeline", "chain"}}
print(sorted(heavy & set(sys.modules)))
"""


def test_only_toploc_imports_torch() -> None:
    assert len(LIGHT) > 25
    code = CODE.format(names=LIGHT)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    code = CODE.format(names=["proofs.toploc"])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['torch']"
