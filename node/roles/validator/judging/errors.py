"""Why there is no verdict."""

from __future__ import annotations


class CannotJudge(Exception):
    """This node cannot reach a verdict, for a reason that is held against nobody."""
