"""`simulate --model` takes what `model get` takes, and the nodes then open that very model."""

from __future__ import annotations

from pathlib import Path

from node.simulation.options import SimulationOptions
from node.simulation.runner import with_model
from pipeline.models.store import list_models, open_model
from tests.pipeline.model_zoo import save_model


def options(model: str, store: Path) -> SimulationOptions:
    return SimulationOptions(
        workers=1,
        validators=1,
        prompts=(),
        max_tokens=1,
        model=model,
        stages=0,
        topology=None,
        faults=(),
        output=store,
        model_store=store,
        rpc_url=None,
        seed=0,
        timeout=1.0,
        keep=False,
        log_level="info",
    )


def test_a_folder_is_prepared_and_opened_by_its_nodes(tmp_path: Path) -> None:
    store = tmp_path / "store"
    for place in ("a", "b"):  # of one name: only the folder says which
        folder = save_model(tmp_path / place / "ckpt", vocab_size=300 + ord(place))
        asked = with_model(options(str(folder), store))
        found = open_model(store, asked.model)
        assert found.manifest.vocab_size == 300 + ord(place)
    assert [model.name for model in list_models(store)] == ["ckpt", "ckpt"]
