"""Which weights and conduct an engine gets: honest ones, unless a simulation asks for a fault.

This is the only module of the engine that knows of `pipeline.dishonest`; an import rule keeps it
so. Torch is imported on first use, as everywhere in the engine.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from pipeline.dishonest.names import CONDUCT_FAULTS, FAULTS
from pipeline.engine.control.messages import Load
from pipeline.engine.errors import EngineError
from pipeline.engine.loading import LoadedModel, load_model

if TYPE_CHECKING:
    from pipeline.runner.conduct import StageConduct


def load_engine_model(request: Load) -> LoadedModel:
    """Load what a request asks for, weights degraded where it asks for such a fault.

    Raises `EngineError`: bad_request for an unknown fault, else as `load_model` does.
    """
    if not request.fault:
        return load_model(request)
    if request.fault not in FAULTS:
        known = ", ".join(FAULTS)
        raise EngineError("bad_request", f"unknown fault {request.fault!r}; known: {known}")
    if request.fault in CONDUCT_FAULTS:
        return load_model(request)
    from pipeline.dishonest.weights import apply_fault

    return load_model(request, partial(apply_fault, fault=request.fault))


def conduct_of(fault: str) -> StageConduct:
    """The conduct of a stage whose slice was loaded with `fault`, "" for none."""
    from pipeline.runner.conduct import StageConduct

    if fault not in CONDUCT_FAULTS:
        return StageConduct()  # degraded weights are fault enough
    from pipeline.dishonest.stages import STAGES

    return STAGES[fault]()
