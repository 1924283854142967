"""`prime-node model`: prepare, list and check models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from node.cli.options import JsonOption, StoreOption, model_store
from node.console.output import human_bytes, print_json, say, show_table

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
    without: Annotated[
        list[str] | None,
        typer.Option(help="A generation setting of the model to serve it without; repeatable."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Prepare a model once: dequantise where needed, pin its dtype, compute its identity.

    The result is a folder of sharded safetensors that slices load straight from. Getting a model
    that is there already takes no time.

    Example:

        prime-node model get smollm2

    You should see progress bars and, at the end, the model's identity and its folder.
    """
    from node.console.preparing import prepare_with_progress

    model = prepare_with_progress(source, model_store(store), dtype, without or ())
    if as_json:
        print_json(_describe(model))
        return
    say(f"model     {model.name}")
    say(f"identity  {model.manifest.model_id}")
    say(f"folder    {model.path}")


@app.command("list")
def list_(store: StoreOption = None, as_json: JsonOption = False) -> None:
    """List the prepared models.

    Example:

        prime-node model list

    You should see a table with a line for each model: name, identity, dtype, layers and size.
    """
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
    show_table("models", ("name", "identity", "dtype", "layers", "size"), rows)


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
    from node.console.progress import shown_progress
    from pipeline.models.store import open_model

    model = open_model(model_store(store), name)
    with shown_progress() as report:
        model.verify(report)
    say(f"ok {model.manifest.model_id}")


def _describe(model: PreparedModel) -> dict[str, object]:
    return {
        "name": model.name,
        "model_id": model.manifest.model_id,
        "dtype": model.manifest.dtype,
        "layers": model.manifest.layers,
        "bytes": sum(entry.size for entry in model.manifest.files),
        "path": str(model.path),
    }
