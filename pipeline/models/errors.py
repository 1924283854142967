"""Errors of the model store and of model slices; every one says what to do."""

from __future__ import annotations

import errno
from pathlib import Path


class ModelError(Exception):
    """Base of every error of `pipeline.models` and `pipeline.runner`."""


class ModelNotFound(ModelError):
    """No prepared model, wheel, folder or hub repository goes by that name."""


class InvalidModel(ModelError):
    """A model's files contradict each other, or one is not well-formed or cannot be read."""


class DamagedModel(InvalidModel):
    """A file has another content than its manifest says: a bad disk, or somebody changed it."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"{path} is damaged: its content is not what the manifest says; "
            f"delete {path.parent} and run prime-node model get again"
        )
        self.path = path


class UnsupportedModel(ModelError):
    """The architecture cannot be cut into stages by what is here; says what is in the way."""


class SourceUnavailable(ModelError):
    """A model's source cannot be reached or read now (offline, missing wheel, broken file)."""


class StoreUnusable(ModelError):
    """The model store cannot be written, or has no room."""


class InvalidText(ModelError):
    """Chat messages that the model's own template refuses."""


def unreadable(path: Path, exc: OSError) -> InvalidModel:
    """What to say of a model's file that the system does not open: somebody else's file is no
    missing one, and preparing it again would not help."""
    if exc.errno in (errno.EACCES, errno.EPERM):
        return InvalidModel(
            f"{path}: permission denied; run chmod -R a+rX {path.parent}, or run as its owner"
        )
    return InvalidModel(f"{path}: {exc.strerror or exc}; prepare the model again")
