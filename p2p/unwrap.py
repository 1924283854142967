"""Brings a lone exception out of the groups that nested task groups wrap it in.

`open_network` runs about ten nurseries around the caller's block, some of them inside the library.
Without this a `KeyError` of the caller would arrive as a group in a group in a group, and nobody
could write `except ListenFailed`. A group that holds several failures stays a group.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


@asynccontextmanager
async def lone_errors() -> AsyncIterator[None]:
    """Re-raise a group with exactly one leaf as that leaf, with its own traceback and cause."""
    try:
        yield
    except BaseExceptionGroup as group:
        leaves = _leaves(group)
        if len(leaves) != 1:
            raise
        # Not `from group`: the leaf keeps the cause that it was raised with.
        lone = leaves[0]
        lone.__suppress_context__ = True
        raise lone from lone.__cause__


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    found: list[BaseException] = []
    for error in group.exceptions:
        found += _leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found
