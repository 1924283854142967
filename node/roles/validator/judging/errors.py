"""Why there is no verdict."""

from __future__ import annotations


class CannotJudge(Exception):
    """This node cannot reach a verdict, for a reason that is held against nobody."""


class DamagedWeights(CannotJudge):
    """This node's own copy of the model is not what it should be; the bundle is not to blame."""
