"""What an installation needs is asked for before it begins, in one command."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.paths import ROOT

SCRIPT = ROOT / "scripts" / "check_system.py"


@pytest.fixture
def check() -> ModuleType:
    spec = importlib.util.spec_from_file_location("check_system", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("installed", "missing"),
    [
        ({"main", "stdio", "Python", "gmp"}, []),
        ({"main", "stdio", "Python"}, ["gmp"]),
        ({"main", "stdio", "gmp"}, ["python"]),
        ({"main", "stdio"}, ["python", "gmp"]),
        (set(), ["compiler", "libc", "python", "gmp"]),
    ],
)
def test_each_lack_is_found(check: ModuleType, installed: set[str], missing: list[str]) -> None:
    def compiles(program: str) -> bool:
        headers = {line[10:-3] for line in program.splitlines() if line.startswith("#include")}
        return {"main", *headers} <= installed

    assert check.lacking(compiles) == missing


@pytest.mark.parametrize(
    ("manager", "command"),
    [("apt-get", "libgmp-dev"), ("dnf", "gmp-devel"), ("apk", "gmp-dev"), ("none", "GMP")],
)
def test_the_command_fits_the_system(check: ModuleType, manager: str, command: str) -> None:
    said = check.advice(["gmp"], lambda program: program if program == manager else None)
    assert command in said
    assert (manager in said) == (manager != "none")


def test_without_a_compiler_it_says_what_to_type(tmp_path: Path) -> None:
    environment = {"PATH": "", "CC": "no-such-compiler", "PIP_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, str(SCRIPT)], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 5
    assert "lacks what the installation needs: compiler, libc, python, gmp" in done.stderr
    assert "install: a C compiler" in done.stderr


def test_the_makefile_asks_first_and_the_readme_names_the_same_packages(check: ModuleType) -> None:
    makefile = (ROOT / "Makefile").read_text()
    rule = makefile.partition("$(VENV)/.python:")[2].partition("\n\n")[0]
    assert rule.index("scripts/check_system.py") < rule.index("-m venv")
    readme = (ROOT / "README.md").read_text()
    for name in ("compiler", "libc", "gmp"):
        assert check.NAMES[name][0] in readme
    assert "python3-dev" in readme
    assert "python3-venv" in readme
