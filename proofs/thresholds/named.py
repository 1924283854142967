"""Names of thresholds: a built-in one, or `exact:` and a kernel class in which equality decides."""

from __future__ import annotations

import re

from proofs.errors import ProofError
from proofs.thresholds.builtin import BUILTIN, EXACT
from proofs.thresholds.limits import Thresholds

PREFIX = "exact:"
_CLASS = re.compile(r"[0-9a-z][0-9a-z.-]{0,63}")


class UnknownThresholdsError(ProofError):
    """No thresholds of that name; the message lists those there are."""


def kernel_class_of(name: str) -> str:
    """The kernel class that `exact:<class>` demands; "" for any other name."""
    asked = name.removeprefix(PREFIX)
    return asked if asked != name and _CLASS.fullmatch(asked) else ""


def is_builtin(name: str) -> bool:
    """Whether thresholds go by this name without a profile."""
    return name in BUILTIN or bool(kernel_class_of(name))


def builtin(name: str) -> Thresholds:
    """The thresholds called `name`. Raises UnknownThresholdsError."""
    if kernel_class_of(name):
        return EXACT
    if name not in BUILTIN:
        known = ", ".join((*BUILTIN, f"{PREFIX}<kernel class>"))
        raise UnknownThresholdsError(f"no thresholds {name!r}; choose one of {known}")
    return BUILTIN[name]
