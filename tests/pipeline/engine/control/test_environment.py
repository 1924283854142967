"""What engines, and other programs that a node starts, are told by their environment."""

from __future__ import annotations

import ast

from pipeline.engine.control.environment import engine_environment
from tests.paths import ROOT

SECRETS = {
    "PRIME_NODE_PASSPHRASE", "PRIME_NODE_IMPORT_PASSPHRASE", "PRIME_NODE_TOKEN",
    "PRIME_NODE_FUNDER_KEY", "HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "SSH_AUTH_SOCK", "GITHUB_TOKEN",
    "NVIDIA_API_KEY", "TORCH_PASSWORD", "PRIME_ENGINE_TOKEN",
}  # fmt: skip
NEEDED = {"PATH", "HOME", "LC_ALL", "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "LD_LIBRARY_PATH"}
NEEDED |= {"PRIME_ENGINE_THREADS", "PYTORCH_CUDA_ALLOC_CONF"}


def test_an_engine_gets_what_it_needs_and_no_secret() -> None:
    own = dict.fromkeys(SECRETS | NEEDED | {"EDITOR", "PS1"}, "x")
    assert set(engine_environment(own)) == NEEDED


def test_every_program_is_started_with_an_environment_of_its_own() -> None:
    starts = []
    for package in ("node", "chain", "pipeline", "p2p", "proofs"):
        for file in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(
                    ("Popen", "open_process", "run_process", "subprocess.run", "os.system")
                ):
                    given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
                    starts.append(file.name)
                    assert "env" in given, f"{file}:{node.lineno}"
                    assert "**os.environ" not in given["env"], f"{file}:{node.lineno}"
    assert sorted(starts) == ["anvil.py", "child.py", "process.py"]
