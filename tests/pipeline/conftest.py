"""Prepared models that several test folders share."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pipeline.models.errors import ModelError
from pipeline.models.prepared import PreparedModel
from pipeline.models.store import open_model, prepare
from tests.paths import MODEL_STORE
from tests.pipeline.tiny_models import save_tiny


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], PreparedModel]:
    """Prepares a tiny random model of an architecture, once a session."""
    root = tmp_path_factory.mktemp("tiny")
    made: dict[str, PreparedModel] = {}

    def get(architecture: str) -> PreparedModel:
        if architecture not in made:
            folder = root / "source" / architecture
            folder.mkdir(parents=True)
            made[architecture] = prepare(str(save_tiny(architecture, folder)), root / "store")
        return made[architecture]

    return get


@pytest.fixture(scope="session")
def smollm2() -> PreparedModel:
    """SmolLM2 from the store that PRIME_NODE_MODELS names, or the user's own."""
    try:
        return open_model(MODEL_STORE, "smollm2")
    except ModelError as exc:
        pytest.skip(str(exc))
