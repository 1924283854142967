"""Which weights and conduct an engine gets: honest ones, unless a simulation asks for a fault.

This is the only module outside of `pipeline.dishonest` that knows of it; an import rule keeps it
so. Torch is imported on first use, as everywhere in the engine.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

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
    from pipeline.dishonest.stages import STAGES
    from pipeline.dishonest.weights import ENGINE_FAULTS, apply_fault

    if request.fault in ENGINE_FAULTS:
        return load_model(request, partial(apply_fault, fault=request.fault))
    if request.fault in STAGES:
        return load_model(request)
    known = ", ".join(sorted({*STAGES, *ENGINE_FAULTS}))
    raise EngineError("bad_request", f"unknown fault {request.fault!r}; known: {known}")


def conduct_of(fault: str) -> StageConduct:
    """The conduct of a stage whose slice was loaded with `fault`, "" for none."""
    from pipeline.runner.conduct import StageConduct

    if not fault:
        return StageConduct()
    from pipeline.dishonest.stages import STAGES

    return STAGES.get(fault, StageConduct)()  # degraded weights are fault enough
