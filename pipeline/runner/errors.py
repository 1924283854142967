"""Errors of the runner."""

from __future__ import annotations

from pipeline.models.errors import ModelError


class RunnerError(ModelError):
    """A step was asked for that does not fit the sequences that are open."""


class KvExhausted(RunnerError):
    """The KV pool has not enough free positions; close a sequence or ask for less."""


class UnknownSequence(RunnerError):
    """The sequence is not open here."""
