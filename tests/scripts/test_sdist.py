"""What a source distribution holds: all that its own README, tests and contracts refer to."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from setuptools._distutils.filelist import FileList
from setuptools._distutils.text_file import TextFile

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("chain", "contracts", "node", "p2p", "pipeline", "proofs")


@pytest.fixture(scope="module")
def shipped() -> set[str]:
    """Files that MANIFEST.in chooses among those that are there."""
    files = FileList()
    files.allfiles = [
        str(path.relative_to(ROOT))
        for path in ROOT.rglob("*")
        if path.is_file() and not {"node_modules", ".git", ".venv"} & set(path.parts)
    ]
    for line in TextFile(str(ROOT / "MANIFEST.in"), strip_comments=True).readlines():
        files.process_template_line(line)
    return set(files.files)


@pytest.mark.parametrize(
    "path",
    [
        "CHANGELOG.md",
        "constraints.txt",
        "contracts/package-lock.json",
        "docs/provider.md",
        "docs/reference/config.md",
        "pipeline/kernels/csrc/exact.c",
        "scripts/check_system.py",
        "tests/conftest.py",
    ],
)
def test_it_holds(shipped: set[str], path: str) -> None:
    assert path in shipped


def test_it_holds_the_contracts_and_whatever_readme_links_to(shipped: set[str]) -> None:
    assert any(path.startswith("contracts/src/") and path.endswith(".sol") for path in shipped)
    targets = re.findall(r"\]\(([^):#]+)[#)]", (ROOT / "README.md").read_text())
    assert targets
    for target in targets:
        if target != "LICENSE":  # setuptools takes it by itself
            assert any(path == target or path.startswith(target) for path in shipped), target
    assert not any("__pycache__" in path for path in shipped)


@pytest.mark.parametrize("package", PACKAGES)
def test_every_package_says_that_it_is_typed(package: str) -> None:
    assert (ROOT / package / "py.typed").is_file()
