"""Running a command line in this process, and a node for it to talk to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from node.cli import run_cli


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str


Cli = Callable[..., Outcome]


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cli:
    """`cli("key", "show", …)` → exit code, stdout, stderr. Without variables of ours set."""
    for name in ("PRIME_NODE_DATA_DIR", "PRIME_NODE_MODEL_STORE", "PRIME_NODE_PASSPHRASE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "120")

    def run(*arguments: str) -> Outcome:
        capsys.readouterr()
        code = run_cli(arguments)
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return run
