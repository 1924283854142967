"""Errors of the model store and of model slices; every one says what to do."""

from __future__ import annotations

from pathlib import Path


class ModelError(Exception):
    """Base of every error of `pipeline.models` and `pipeline.runner`."""


class ModelNotFound(ModelError):
    """No prepared model, wheel, folder or hub repository goes by that name."""


class InvalidModel(ModelError):
    """A prepared model's files contradict its manifest, or the manifest is not well-formed."""


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


class InvalidText(ModelError):
    """Chat messages that the model's own template refuses."""
