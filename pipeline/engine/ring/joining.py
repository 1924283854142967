"""What a request to join a ring must fit, and how the stages of that ring greet one another."""

from __future__ import annotations

from pipeline.engine.control.messages import JoinRing
from pipeline.engine.errors import EngineError
from pipeline.engine.loading import LoadedModel
from pipeline.engine.ring.frames import Hello


def check_join(request: JoinRing, model: LoadedModel) -> None:
    """Raises `EngineError` (bad_request) where the loaded slice is not that stage of that cut."""
    ends = (request.stage == 0, request.stage == request.stages - 1)
    own = (model.slice.first, model.slice.last)
    if ends != (model.slice.is_first, model.slice.is_last):
        raise EngineError(
            "bad_request",
            f"layers {own[0]} to {own[1]} cannot be stage {request.stage} of {request.stages}",
        )
    cut = (0, *request.boundaries)
    if len(request.boundaries) != request.stages or cut[request.stage : request.stage + 2] != own:
        raise EngineError(
            "bad_request", f"layers {own[0]} to {own[1]} are no stage of a cut at {cut[1:]}"
        )
    neighbours = request.downstream and request.upstream_certificate is not None
    if request.stages > 1 and not neighbours:
        raise EngineError("bad_request", "a ring of several stages needs both neighbours")
    if len({way.fingerprint for way in request.downstream}) > 1:
        raise EngineError("bad_request", "all ways downstream must lead to one certificate")


def hellos(request: JoinRing, model: LoadedModel) -> tuple[Hello, Hello]:
    """What this stage says to the downstream one, and what the upstream one must say to it."""

    def hello(stage: int, layer: int) -> Hello:
        return Hello(
            request.group_id,
            request.generation,
            stage,
            request.stages,
            model.request.model_id,
            layer,
            str(model.slice.dtype),
        )

    upstream_end = model.slice.first or model.slice.layers  # stage 0's upstream is the last stage
    upstream = hello((request.stage - 1) % request.stages, upstream_end)
    return hello(request.stage, model.slice.last), upstream
