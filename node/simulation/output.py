"""The folder that a simulation writes to.

A simulation removes what an earlier one left, keys and logs included, so it takes only a folder
that is new, empty, or marked by an earlier simulation as its own. Whatever else is there is
somebody's, and nothing of it is touched. The mark is also a lock: two simulations in one folder
would remove each other's nodes.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from node.config.files import hold
from node.errors import InputError, system_error

MARK = ".prime-simulation"
WRITTEN = ("nodes", "logs", "cases", "network.toml", "dataset.jsonl", "report.json")


@contextmanager
def own_output(folder: Path) -> Iterator[None]:
    """Have the folder, empty of earlier results, for the block.

    Raises `InputError` where the folder is somebody else's, and `ResourceError` where another
    simulation uses it or it cannot be written.
    """
    try:
        mark = _take(folder)
    except OSError as exc:
        raise system_error(folder, "cannot be the output folder", exc) from exc
    try:
        yield
    finally:
        os.close(mark)


def _take(folder: Path) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / MARK).is_file() and any(folder.iterdir()):
        raise InputError(
            f"--output {folder}: not empty, and not a simulation's",
            "choose a new folder, or remove this one if it is of no use; nothing was touched",
        )
    mark = hold(
        folder / MARK, f"--output {folder}: in use by another simulation", "choose another one"
    )
    try:
        for name in WRITTEN:
            path = folder / name
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
    except OSError:
        os.close(mark)
        raise
    return mark
