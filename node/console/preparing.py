"""Preparing a model while a person watches."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from node.console.progress import shown_progress

if TYPE_CHECKING:
    from pipeline.models.prepared import PreparedModel


def prepare_with_progress(
    source: str, store: Path, dtype: str = "auto", without: Collection[str] = ()
) -> PreparedModel:
    """Prepare a model, or open it where it is in the store already, with bars for what takes time.

    Raises `pipeline.models.errors.ModelError`.
    """
    from pipeline.models.store import prepare

    with shown_progress() as report:
        return prepare(source, store, dtype=dtype, without=without, progress=report)
