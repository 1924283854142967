"""Files of rows that a stage revealed in a dispute: untrusted bytes, read as rows or as nothing."""

from __future__ import annotations

import os
import stat
import sys

import torch

from pipeline.runner.distance import rows_error

NO_ROWS = -1.0


def read_rows(path: str, like: torch.Tensor) -> torch.Tensor | None:
    """The raw rows in a file, on the CPU and in the shape and dtype of `like` [N, H]; None where
    the file holds no such rows: another size, one that cannot be read, values not finite."""
    size = like.numel() * like.element_size()
    try:
        found = os.stat(path)
        if not stat.S_ISREG(found.st_mode) or found.st_size != size:
            return None
        data = bytearray(size)
        with open(path, "rb") as file:
            if file.readinto(data) != size:
                return None
    except (OSError, ValueError):  # ValueError: no path can be like this
        return None
    rows = torch.frombuffer(data, dtype=like.dtype).view(like.shape)
    return rows if bool(torch.isfinite(rows).all()) else None


def error_of(rows: torch.Tensor | None, own: torch.Tensor) -> float:
    """The error of rows that were read against one's own, never larger than a float can be;
    `NO_ROWS` where there are none."""
    return NO_ROWS if rows is None else min(rows_error(rows, own), sys.float_info.max)
