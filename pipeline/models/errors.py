"""Errors of the model store and of model slices; every one says what to do."""

from __future__ import annotations


class ModelError(Exception):
    """Base of every error of `pipeline.models` and `pipeline.runner`."""


class ModelNotFound(ModelError):
    """No prepared model, wheel, folder or hub repository goes by that name."""


class InvalidModel(ModelError):
    """A prepared model's files contradict its manifest, or the manifest is not well-formed."""


class UnsupportedModel(ModelError):
    """The architecture cannot be cut into stages by what is here; says what is in the way."""


class SourceUnavailable(ModelError):
    """A model's source cannot be reached or read now (offline, missing wheel, broken file)."""


class InvalidText(ModelError):
    """Chat messages that the model's own template refuses."""
