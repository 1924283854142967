"""Translation of errors: every row names a class that exists, and bugs stay bugs."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

from node.errors import (
    _TRANSLATION,
    EXIT_RESOURCE,
    EXIT_UNREACHABLE,
    InputError,
    NodeError,
    UnreachableError,
    is_interrupt,
    translate,
)
from tests.paths import ROOT


@pytest.mark.parametrize("row", _TRANSLATION, ids=lambda row: f"{row.module}.{row.name}")
def test_every_row_names_an_exception(row: object) -> None:
    module = importlib.import_module(row.module)  # type: ignore[attr-defined]
    assert issubclass(getattr(module, row.name), Exception)  # type: ignore[attr-defined]


def test_special_rows_stand_above_general_ones() -> None:
    classes = [getattr(importlib.import_module(row.module), row.name) for row in _TRANSLATION]
    for position, general in enumerate(classes):
        for special in classes[position + 1 :]:
            assert not issubclass(special, general), f"{special} is never reached"


def test_the_packages_errors_are_translated() -> None:
    from chain.errors import ChainUnreachable, PortInUse
    from p2p.errors import BootstrapFailed

    shown = translate(ChainUnreachable("http://127.0.0.1:1", "refused"))
    assert shown is not None
    assert shown.exit_code == EXIT_UNREACHABLE
    assert "http://127.0.0.1:1" in str(shown)
    shown = translate(PortInUse("127.0.0.1", 8545))
    assert shown is not None
    assert (shown.exit_code, shown.hint) == (EXIT_RESOURCE, "")
    shown = translate(BootstrapFailed("nobody"))
    assert shown is not None
    assert str(shown) == "nobody (check --bootstrap)"


def test_a_bug_is_not_an_error_to_show() -> None:
    assert translate(ValueError("x")) is None
    assert translate(KeyboardInterrupt()) is None


def test_a_group_is_shown_by_its_first_error_unless_it_hides_a_bug() -> None:
    first, second = UnreachableError("first"), InputError("second")
    assert translate(ExceptionGroup("g", [ExceptionGroup("h", [first]), second])) is first
    assert translate(ExceptionGroup("g", [first, ExceptionGroup("h", [ValueError("bug")])])) is None


def test_an_interrupt_is_found_in_groups() -> None:
    group = BaseExceptionGroup("g", [BaseExceptionGroup("h", [KeyboardInterrupt()])])
    assert is_interrupt(group)
    assert not is_interrupt(ExceptionGroup("g", [ValueError("x")]))


def test_message_hint_and_exit_code() -> None:
    assert str(NodeError("no", "do this")) == "no (do this)"
    assert str(NodeError("no")) == "no"
    assert (NodeError("no").exit_code, InputError("no").exit_code) == (1, 3)
    assert InputError("no", exit_code=9).exit_code == 9


def test_translating_imports_nothing() -> None:
    code = (
        "import sys; from node.errors import translate; translate(ValueError('x'));"
        "print(sorted(m for m in sys.modules if m.split('.')[0] in ('p2p', 'chain', 'pipeline')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
