"""The check of references, on small repositories in which one thing is wrong."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from references import References, expand

SCRIPT = Path(__file__).parents[2] / "scripts" / "lint" / "references.py"
Write = Callable[[str, str], None]


@pytest.fixture(autouse=True)
def repository(write: Write) -> None:
    """A package with everything that a reference can name."""
    write("proofs/__init__.py", "")
    write("proofs/sampling/__init__.py", '"""Package."""\nfrom proofs.sampling.noise import gumbel')
    write(
        "proofs/sampling/noise.py",
        '''
        """Noise."""
        import math as m
        from proofs.sampling.base import *

        LIMIT: int = 3
        low, high = 1, 2
        if LIMIT:
            def gumbel() -> None: ...

        class Source(Base):
            size: int
            KIND = "x"
            def __init__(self) -> None:
                self.drawn = 0
            def draw(self) -> None: ...
            class Inner:
                depth: int
        ''',
    )
    write(
        "proofs/sampling/base.py",
        '''
        """Base."""
        class Base:
            def reset(self) -> None: ...
        ''',
    )
    write("node/cli/run.py", '"""Run."""')
    write("tests/vectors/a.json", "{}")
    write("docs/reference/formats.md", "formats")
    write("docs/reference/config.md", "config")
    write("README.md", "readme")
    write("prime_node.py", '"""The way in."""\ndef main() -> None: ...')
    write(".gitignore", "node_modules/\ncontracts/out/\n")


GOOD = [
    "proofs.sampling",
    "proofs.sampling.noise",
    "proofs.sampling.gumbel",
    "proofs.sampling.noise.gumbel",
    "proofs.sampling.noise.gumbel()",
    "proofs.sampling.noise.LIMIT",
    "proofs.sampling.noise.high",
    "proofs.sampling.noise.m",
    "proofs.sampling.noise.Base",
    "proofs.sampling.noise.Source.size",
    "proofs.sampling.noise.Source.KIND",
    "proofs.sampling.noise.Source.draw",
    "proofs.sampling.noise.Source.drawn",
    "proofs.sampling.noise.Source.reset",
    "proofs.sampling.noise.Source.Inner.depth",
    "proofs/",
    "proofs/sampling/noise.py",
    "proofs/sampling/*.py",
    "proofs/sampling/{noise,base}.py",
    "proofs/<part>/noise.py",
    "docs/reference/{name}.md",
    "tests/vectors/a.json",
    "prime_node.main",
    "noise.py",
    "sampling/noise.py",
    "node/node_modules/left-pad",
    "contracts/out",
    "node.key",
    "runs/demo/report.json",
    "net/orchestrator",
    "~/provider/x.toml",
    "os.path.nothing",
    "messages",
]

BAD = {
    "proofs.nothing": "no such name",
    "prime_node.start": "no such name",
    "proofs.sampling.noize": "no such name; proofs.sampling.noise?",
    "proofs.noise.gumbel": "no such name; proofs.sampling.noise.gumbel?",
    "proofs.sampling.noise.gumbal": "no such name; proofs.sampling.noise.gumbel?",
    "proofs.sampling.noise.Source.rest": "no such name",
    "proofs.sampling.noise.gumbel.anything": "no such name",
    "proofs/noise.py": "no such path; proofs/sampling/noise.py?",
    "proofs/nothing/": "no such path",
    "proofs/sampling/*.toml": "no such path",
    "proofs/sampling/{noise,nothing}.py": "no such path",
    "docs/{name}.rst": "no such path",
    "run.py": "no such file in proofs/; node/cli/run.py?",
    "other/noise.py": "no such file in proofs/; proofs/sampling/noise.py?",
}


def found(root: Path) -> list[str]:
    return list(References(root).problems())


@pytest.mark.parametrize("reference", GOOD)
@pytest.mark.parametrize("ticks", ["`", "``"])
def test_what_exists_or_is_no_reference_passes(
    write: Write, tmp_path: Path, reference: str, ticks: str
) -> None:
    write("proofs/user.py", f'"""See {ticks}{reference}{ticks}, and `proofs.missing`."""\n')
    (line,) = found(tmp_path)
    assert line.startswith("proofs/user.py:1: proofs.missing: ")


@pytest.mark.parametrize("reference", BAD)
def test_what_does_not_exist_is_named_with_the_closest(
    write: Write, tmp_path: Path, reference: str
) -> None:
    write("proofs/user.py", f'"""Fine.\n\nSee `proofs.sampling` and\n`{reference}`.\n"""\n')
    (line,) = found(tmp_path)
    assert line.startswith(f"proofs/user.py:4: {reference}: {BAD[reference]}")


def test_comments_and_docstrings_of_all_kinds_are_read_and_other_strings_are_not(
    write: Write, tmp_path: Path
) -> None:
    write(
        "tests/test_it.py",
        '''
        # See `proofs.one`.
        X = 3  # and `proofs.two`
        """`proofs.three` is about X."""
        TEXT = """
        `proofs.not_read`
        """
        class A:
            """`proofs.four`"""
            def f(self) -> str:
                r"""`python proofs/five.py --check`"""
                return "`proofs.not_read_either`"
        ''',
    )
    lines = [line.split(": ")[:2] for line in found(tmp_path)]
    assert lines == [
        ["tests/test_it.py:1", "proofs.one"],
        ["tests/test_it.py:2", "proofs.two"],
        ["tests/test_it.py:3", "proofs.three"],
        ["tests/test_it.py:8", "proofs.four"],
        ["tests/test_it.py:10", "proofs/five.py"],
    ]


def test_documents_are_read_with_their_links_but_not_their_examples(
    write: Write, tmp_path: Path
) -> None:
    write(
        "docs/guide.md",
        """
        [formats](reference/formats.md#sizes), [top](#top), [web](https://example.org/a.md)
        [gone](reference/gone.md), [up](../README.md), [folder](reference/)
        `run.py`, `noise.py` and `lost.py`

        ```
        `proofs.example`
        ```
        `a [link](in/code.md)` and `proofs.absent`

        [named]: reference/away.md
        """,
    )
    lines = [line.split(": ")[:2] for line in found(tmp_path)]
    assert sorted(lines) == [
        ["docs/guide.md:10", "reference/away.md"],
        ["docs/guide.md:2", "reference/gone.md"],
        ["docs/guide.md:3", "lost.py"],
        ["docs/guide.md:8", "proofs.absent"],
    ]


def test_the_changelog_speaks_of_the_past(write: Write, tmp_path: Path) -> None:
    write("CHANGELOG.md", "Removed `proofs.old`.")
    assert found(tmp_path) == []
    write("contracts/README.md", "Calls `proofs.old`.")
    assert len(found(tmp_path)) == 1


def test_braces() -> None:
    assert expand("a/{b,c}/{d, e}.md") == ["a/b/d.md", "a/b/e.md", "a/c/d.md", "a/c/e.md"]
    assert expand("a/{name}.md") == ["a/*.md"]


def test_the_command_exits_with_one_only_for_findings(write: Write, tmp_path: Path) -> None:
    def run() -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(SCRIPT), str(tmp_path)]
        return subprocess.run(command, capture_output=True, text=True)

    assert (run().returncode, run().stdout) == (0, "")
    write("node/bad.py", '"""`node.nowhere`"""')
    failed = run()
    assert failed.returncode == 1
    assert failed.stdout.startswith("node/bad.py:1: node.nowhere: no such name")
    assert failed.stderr == "1 references to what does not exist\n"
