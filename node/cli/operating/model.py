"""`prime-node model`: prepare, list and check models."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from node.cli.console.frame import JsonOption, StoreOption, human_bytes, model_store, print_json

if TYPE_CHECKING:
    from pipeline.models.prepared import PreparedModel

app = typer.Typer(no_args_is_help=True, help="Prepared models: get, list, verify.")


@app.command("get")
def get(
    source: Annotated[
        str, typer.Argument(help="smollm2, a Hugging Face name, a folder or a .gguf file.")
    ],
    store: StoreOption = None,
    dtype: Annotated[
        str, typer.Option("--dtype", help="auto, float32, bfloat16 or float16.")
    ] = "auto",
    as_json: JsonOption = False,
) -> None:
    """Prepare a model once: dequantise where needed, pin its dtype, compute its identity.

    The result is a folder of sharded safetensors that slices load straight from. Getting a model
    that is there already takes no time.

    Example:

        prime-node model get smollm2

    You should see progress bars and, at the end, the model's identity and its folder.
    """
    from node.cli.console.progress import shown_progress
    from pipeline.models.store import prepare

    with shown_progress() as report:
        model = prepare(source, model_store(store), dtype=dtype, progress=report)
    if as_json:
        print_json(_describe(model))
        return
    typer.echo(f"model     {model.name}")
    typer.echo(f"identity  {model.manifest.model_id}")
    typer.echo(f"folder    {model.path}")


def prepare_with_progress(source: str, store: Path, dtype: str = "auto") -> PreparedModel:
    """Prepare a model, or open it where it is in the store already, with bars for what takes time.

    Raises `pipeline.models.errors.ModelError`.
    """
    from node.cli.console.progress import shown_progress
    from pipeline.models.store import prepare

    with shown_progress() as report:
        return prepare(source, store, dtype=dtype, progress=report)


@app.command("list")
def list_(store: StoreOption = None, as_json: JsonOption = False) -> None:
    """List the prepared models.

    Example:

        prime-node model list

    You should see a table with a line for each model: name, identity, dtype, layers and size.
    """
    from node.cli.console.frame import console, table
    from pipeline.models.store import list_models

    models = list(list_models(model_store(store)))
    if as_json:
        print_json([_describe(model) for model in models])
        return
    rows = [
        (
            model.name,
            model.manifest.model_id[:12],
            model.manifest.dtype,
            str(model.manifest.layers),
            human_bytes(sum(entry.size for entry in model.manifest.files)),
        )
        for model in models
    ]
    console().print(table("models", ("name", "identity", "dtype", "layers", "size"), rows))


@app.command("verify")
def verify(
    name: Annotated[str, typer.Argument(help="A prepared model's name, identity or folder.")],
    store: StoreOption = None,
) -> None:
    """Hash a prepared model's files and compare them with its manifest.

    Example:

        prime-node model verify smollm2

    You should see `ok` and the identity; anything else names the file that differs.
    """
    from node.cli.console.progress import shown_progress
    from pipeline.models.store import open_model

    model = open_model(model_store(store), name)
    with shown_progress() as report:
        model.verify(report)
    typer.echo(f"ok {model.manifest.model_id}")


def _describe(model: object) -> dict[str, object]:
    from pipeline.models.prepared import PreparedModel

    assert isinstance(model, PreparedModel)
    return {
        "name": model.name,
        "model_id": model.manifest.model_id,
        "dtype": model.manifest.dtype,
        "layers": model.manifest.layers,
        "bytes": sum(entry.size for entry in model.manifest.files),
        "path": str(model.path),
    }
