"""The check of docstrings, on small repositories with and without them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from docstrings import Docstrings

SCRIPT = Path(__file__).parents[2] / "scripts" / "lint" / "docstrings.py"
Write = Callable[[str, str], None]


def found(root: Path) -> list[str]:
    return list(Docstrings(root).missing())


def test_each_public_thing_without_one_is_named(write: Write, tmp_path: Path) -> None:
    write(
        "node/bare.py",
        """
        import typing

        def function(): ...
        async def waits(): ...
        class Thing:
            def method(self): ...
            @property
            def size(self): ...
            class Inner: ...
        if typing.TYPE_CHECKING:
            def conditional(): ...
        """,
    )
    assert found(tmp_path) == [
        "node/bare.py:1: node.bare",
        "node/bare.py:3: function",
        "node/bare.py:4: waits",
        "node/bare.py:5: Thing",
        "node/bare.py:6: Thing.method",
        "node/bare.py:8: Thing.size",
        "node/bare.py:9: Thing.Inner",
        "node/bare.py:11: conditional",
    ]


def test_an_empty_init_is_a_module_without_one(write: Write, tmp_path: Path) -> None:
    write("p2p/__init__.py", "")
    write("p2p/guards/__init__.py", '"""Guards."""')
    assert found(tmp_path) == ["p2p/__init__.py:1: p2p"]


def test_what_is_exempt(write: Write, tmp_path: Path) -> None:
    write(
        "proofs/fine.py",
        '''
        """Fine."""
        from typing import overload

        @overload
        def many(x: int) -> int: ...
        @overload
        def many(x: str) -> str: ...
        def many(x):
            """Many."""
            def nested(): ...
        def _private(): ...
        class _Hidden:
            def method(self): ...
        class Thing:
            """A thing."""
            def __init__(self): ...
            def __len__(self): ...
            def _own(self): ...
            @property
            def size(self):
                """The size."""
            @size.setter
            def size(self, value): ...
        ''',
    )
    write("proofs/_internal.py", "def anything(): ...")
    write("tests/test_it.py", "def test_it(): ...")
    assert found(tmp_path) == []


def test_an_override_inherits_only_from_a_documented_method_of_ours(
    write: Write, tmp_path: Path
) -> None:
    write(
        "chain/base.py",
        '''
        """Base."""
        class Root:
            """Root."""
            def documented(self):
                """Says what it does."""
            def bare(self): ...
        ''',
    )
    write(
        "chain/leaf.py",
        '''
        """Leaf."""
        from collections import UserDict
        from chain.base import Root
        from chain import base

        class Middle(Root):
            """Overrides nothing."""
        class Leaf(Middle):
            """Leaf."""
            def documented(self): ...
            def bare(self): ...
            def new(self): ...
        class Other(base.Root):
            """Other."""
            def documented(self): ...
        class Foreign(UserDict):
            """Foreign."""
            def copy(self): ...
        ''',
    )
    assert found(tmp_path) == [
        "chain/base.py:6: Root.bare",
        "chain/leaf.py:11: Leaf.bare",
        "chain/leaf.py:12: Leaf.new",
        "chain/leaf.py:18: Foreign.copy",
    ]


def test_a_command_needs_its_help_even_under_a_private_name(write: Write, tmp_path: Path) -> None:
    write(
        "node/cli.py",
        '''
        """Commands."""
        import typer
        app = typer.Typer()

        @app.command("a")
        def _without(): ...
        @app.command("b", help="Does b.")
        def _helped(): ...
        @app.callback()
        def _root():
            """Root."""
        ''',
    )
    assert found(tmp_path) == ["node/cli.py:6: _without"]


def test_the_command_counts_and_exits_with_one_only_for_findings(
    write: Write, tmp_path: Path
) -> None:
    def run() -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(SCRIPT), str(tmp_path)]
        return subprocess.run(command, capture_output=True, text=True)

    write("pipeline/a.py", '"""A."""')
    assert (run().returncode, run().stdout) == (0, "")
    write("pipeline/b.py", "class B: ...")
    failed = run()
    assert failed.returncode == 1
    assert failed.stdout == "pipeline/b.py:1: pipeline.b\npipeline/b.py:1: B\n"
    assert failed.stderr == "2 docstrings are missing\n"
